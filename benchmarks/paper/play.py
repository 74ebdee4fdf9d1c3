"""One row sampled, diagnosed and heard. Needs no more than the row's run, so it can be done again without training."""

import json
import time
import wave
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.paper.rows import ROWS, Row
from benchmarks.paper.verdict import Recorded, Verdict, judge
from benchmarks.paper.watch import Watched
from generator.checkpoint import MODEL_NAME, Checkpoint, load_checkpoint, load_state, save_checkpoint
from generator.mel import Mel
from generator.moods import MOODS
from generator.network import make_network
from generator.sampling import ancestral, solve, uniform_times
from generator.vocoder import PaperInversion
from training import log
from training.data import Dataset, load_dataset
from training.errors import RunError
from training.manifest import load_manifest
from training.presets import TrainConfig
from training.state import RUN_NAME
from training.state import load_state as load_run
from training.storage import write_atomically

Say = Callable[[str], None]

RESULT_NAME: Final = "result.json"
MELS_NAME: Final = "mels.npz"
CLIPS_A_MOOD: Final = 4
SEED: Final = 3
PEAK: Final = 0.99  #: full scale of a file; what is louder is brought down to it


def play_row(row: Row, prepared: Path, runs: Path, say: Say) -> None:
    """Make the row's clips, and its figures in ``result.json``, unless they are of this very model already.

    Raises:
        TrainingError: the row is not trained yet, or the clips are not there.
    """
    folder = runs / row.name
    path = model_of(row, runs)
    digest = sha256(path.read_bytes()).hexdigest()[:12]
    if _done(folder / RESULT_NAME) == digest:
        return
    say(f"{row.name}: sampling")
    checkpoint = load_checkpoint(path)
    mel = Mel(checkpoint.config.mel)
    dataset = load_dataset(load_manifest(prepared), checkpoint.config, mel)
    load_state(mel, checkpoint.part("mel"), "Mel")
    recorded = _recorded(dataset, mel)
    begun = time.monotonic()
    mels, watched = sample(row, checkpoint, dataset)
    sampled = time.monotonic()
    verdicts = [judge(mel_, recorded) for mel_ in mels]
    heard = _write_clips(folder / "clips", mels, mel)
    np.savez_compressed(folder / MELS_NAME, mels=mels.astype(np.float32), real=watched.real.numpy())
    body = {
        "row": row.name,
        "title": row.title,
        "model": digest,
        "training": _training(row, runs),
        "sampling": {
            "steps": len(watched.steps),
            "start": row.start,
            "clips": len(mels),
            "seed": SEED,
            "sampling_seconds": round(sampled - begun, 1),
            "inversion_seconds": round(time.monotonic() - sampled, 1),
            "date": datetime.now(UTC).date().isoformat(),
            "heard": heard,
        },
        "recorded": asdict(recorded),
        "verdict": _counts(verdicts),
        "departs": departure([asdict(step) for step in watched.steps]),
        "steps": [asdict(step) for step in watched.steps],
        "clips": [{"mood": MOODS[int(m)], **asdict(v)} for m, v in zip(watched.moods, verdicts, strict=True)],
    }
    write_atomically(folder / RESULT_NAME, json.dumps(body, indent=1, allow_nan=False) + "\n")
    say(f"{row.name}: {body['verdict']}")


def model_of(row: Row, runs: Path) -> Path:
    """The file that plays as the row says, made of the run that it borrows where it has none of its own.

    Raises:
        RunError: that run has not begun.
    """
    own = runs / row.name / MODEL_NAME
    if row.trained == row.name:
        if not own.is_file():
            raise RunError(f"{row.name} is not trained yet; run `python -m benchmarks.paper {row.name}` first")
        return own
    owner = model_of(ROWS[row.trained], runs)
    found, state = load_checkpoint(owner), load_run(owner.parent)
    if state is None:
        raise RunError(f"{owner.parent} has lost its state.pt, which {row.name} plays; train it again")
    weights: dict[str, Tensor] = state[1]["ema" if row.config.ema else "network"]
    tensors = {key: value for key, value in found.tensors.items() if not key.startswith("network.")}
    tensors |= {f"network.{key}": value for key, value in weights.items()}
    name = found.config.name.replace(ROWS[row.trained].config.model.name, row.config.model.name)
    config = replace(found.config, name=name, diffusion=row.config.model.diffusion)
    save_checkpoint(own, Checkpoint(config, tensors))
    return own


def sample(row: Row, checkpoint: Checkpoint, dataset: Dataset) -> tuple[np.ndarray[Any, Any], Watched]:
    """Clips of every mood from the same noise in every row, [clips, bands, frames], and what was noted meanwhile."""
    config = checkpoint.config
    network = make_network(config.unet, config.mel.bands).eval().requires_grad_(False)
    load_state(network, checkpoint.part("network"), "network")
    moods = torch.arange(len(MOODS)).repeat_interleave(CLIPS_A_MOOD)
    real = held_out(dataset)
    shape = (len(moods), *real.shape[1:])
    random = torch.Generator().manual_seed(SEED)
    watched = Watched(network, config, moods, real, torch.randn(real.shape, generator=random))
    count = row.steps or round(row.start * config.diffusion.steps)
    with torch.no_grad(), tqdm(total=count, desc=row.name, unit="step", disable=None) as bar:

        def denoise(noisy: Tensor, t: Tensor) -> Tensor:
            bar.update()
            return watched(noisy, t)

        def noise() -> Tensor:
            return torch.randn(shape, generator=random)

        # float32 throughout: rounding to bfloat16 would itself be blown up by 1 / √ᾱ.
        made = solve(ancestral(watched.schedule, noise, row.start * uniform_times(count)), denoise)
    return made.numpy(), watched


def held_out(dataset: Dataset) -> Tensor:
    """A recorded Mel of each mood, [moods, bands, frames]; of any mood where the held-out side lacks one."""
    clips, random = dataset.validation or dataset.train, np.random.default_rng(SEED)
    found = [np.flatnonzero(clips.labels == label) for label in range(len(MOODS))]
    chosen = [random.choice(some if len(some) else len(clips)) for some in found]
    return clips.batch(np.array(chosen), random).mel


def departure(steps: list[dict[str, Any]]) -> dict[str, float] | None:
    """The first step whose x_t has twice the RMS that it has in training, or half; ``None`` where none has."""
    for number, step in enumerate(steps):
        ratio = step["noisy"]["rms"] / step["expected"]
        if not 0.5 <= ratio <= 2:
            return {"step": number, "t": step["t"], "ratio": ratio, "factor": step["factor"]}
    return None


def _done(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, KeyError):
        return None


def _recorded(dataset: Dataset, mel: Mel) -> Recorded:
    clips = dataset.validation or dataset.train
    random = np.random.default_rng(0)
    mels = [clips.batch(np.array([index]), random).mel[0].numpy() for index in range(len(clips))]
    return Recorded.of(mels, mel.config.frames_per_second)


def _write_clips(folder: Path, mels: np.ndarray[Any, Any], mel: Mel) -> int:
    """A wav in its mood's folder for each finite Mel; how many they are."""
    invert = PaperInversion(mel)
    heard = 0
    for number, values in enumerate(tqdm(mels, desc="sound", unit="clip", disable=None)):
        mood = MOODS[number // CLIPS_A_MOOD]
        path = folder / mood / f"{mood}-{number % CLIPS_A_MOOD}.wav"
        path.unlink(missing_ok=True)  # of an earlier model
        if not np.isfinite(values).all():
            continue
        sound = invert(torch.from_numpy(values), torch.Generator().manual_seed(number)).numpy()
        sound *= PEAK / max(PEAK, float(np.abs(sound).max()))
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(mel.config.sample_rate)
            file.writeframes(np.round(sound * 32_767).astype("<i2").tobytes())
        heard += 1
    return heard


def _counts(verdicts: list[Verdict]) -> dict[str, float]:
    counted = Counter(
        name for verdict in verdicts for name in ("infinite", "exploded", "blank", "noise") if getattr(verdict, name)
    )
    wrong = sum(verdict.infinite or verdict.exploded or verdict.blank or verdict.noise for verdict in verdicts)
    return {
        "infinite": counted["infinite"],
        "exploded": counted["exploded"],
        "blank": counted["blank"],
        "noise": counted["noise"],
        "sound": len(verdicts) - wrong,
        "movement": float(np.median([verdict.movement for verdict in verdicts])),
        "texture": float(np.median([verdict.texture for verdict in verdicts])),
    }


def _training(row: Row, runs: Path) -> dict[str, Any]:
    """The scale and cost of the run that the row plays."""
    folder = runs / row.trained
    config = TrainConfig.from_json(json.loads((folder / RUN_NAME).read_text(encoding="utf-8"))["config"])
    notes = load_checkpoint(folder / MODEL_NAME).config.notes
    entries = log.read(folder)
    clips = max(entry["clips"] for entry in entries if entry.get("event") == "start")
    samples = int(notes["samples"])
    last = [entry for entry in entries if "loss" in entry][-1]
    return {
        "run": row.trained,
        "target": config.model.diffusion.target,
        "diffusion": asdict(config.model.diffusion),
        "scaling": config.model.mel.scaling,
        "he_initialisation": config.model.unet.he_initialisation,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "decay": config.decay,
        "widths": config.model.unet.widths,
        "crop": config.crop or config.model.unet.frames,
        "batch": config.batch,
        "epochs": round(samples / clips, 2),
        "clips": clips,
        "steps": int(notes["steps"]),
        "samples": samples,
        "seconds": last["seconds"],
        "bf16": any(entry.get("bf16") for entry in entries),
        "device": notes["device"],
        "validation": float(notes["validation loss"]) if "validation loss" in notes else None,
        "date": datetime.fromtimestamp((folder / MODEL_NAME).stat().st_mtime, UTC).date().isoformat(),
    }
