"""One row from training to its folder of clips. Every part is done once, and goes on where it was interrupted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.paper.figures import (
    EXPERIMENTS,
    draw_diagnosis,
    draw_linear_and_mel,
    draw_losses,
    draw_scale,
    draw_schedules,
    draw_spectrograms,
)
from benchmarks.paper.rows import ROWS, Row, Scale
from benchmarks.paper.table import load_results, write_rows
from generator.config import DIFFWAVE_MEL
from generator.torchaudio_shim import torchaudio
from training.loop import Bounds, train
from training.manifest import load_manifest
from training.state import load_state

Say = Callable[[str], None]

VALIDATE_SECONDS: Final = 40.0  #: between two points of the held-out curve
SPECTROGRAMS: Final = "The paper's experiments: two clips likest to music, two least (paper: figures 8a, 8b and 9b)"
REPAIRS: Final = "The same network repaired: two clips likest to music, two least"


@dataclass(frozen=True)
class Order:
    """What every row shares.

    Attributes:
        prepared: the clips.
        runs: where each row has its folder.
        scale: of the training.
        minutes: of training at most, a row; ``None`` for the scale's epochs.
    """

    prepared: Path
    runs: Path
    scale: Scale
    minutes: float | None = None


def train_row(row: Row, order: Order, say: Say) -> None:
    """Train the run that a row plays, as far as it is not trained yet.

    Raises:
        TrainingError: the data or the folder is unusable, or the loss is no longer finite.
        Interrupted: SIGINT or SIGTERM came; rerun to go on.
    """
    owner = ROWS[row.trained]
    config, folder = order.scale.of(owner), order.runs / owner.name
    bounds = Bounds(seconds=None if order.minutes is None else 60 * order.minutes, epochs=config.epochs)
    clips = sum(track.clips for track in load_manifest(order.prepared).of("train"))
    found = load_state(folder)
    if found is not None and bounds.reached(found[0], max(1, clips // config.batch)):
        return
    say(f"{row.name}: training {config.model.name} ({owner.title})")
    progress = train(config, order.prepared, folder, bounds, say=say, validate_seconds=VALIDATE_SECONDS)
    say(f"{row.name}: {progress.step} steps, {progress.samples} samples, {progress.seconds / 60:.1f} minutes")


def draw(order: Order, folder: Path) -> Iterator[Path]:
    """Every picture, and ``rows.json``, that can be made of what is there.

    Yields:
        Each file once it is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = load_results(order.runs)
    yield write_rows(results, folder / "rows.json")
    yield draw_scale(folder / "mel-scale.png")
    yield draw_schedules(folder / "schedules.png")
    sound, title = _one_sound(order.prepared)
    yield draw_linear_and_mel(sound, title, folder / "linear-and-mel.png")
    repairs = [name for name in ROWS if name not in EXPERIMENTS]
    for path in (
        draw_losses(order.runs, folder / "losses.png"),
        draw_spectrograms(order.runs, results, EXPERIMENTS, folder / "spectrograms.png", SPECTROGRAMS),
        draw_spectrograms(order.runs, results, repairs, folder / "repairs.png", REPAIRS),
        draw_diagnosis(results, folder / "diagnosis.png"),
    ):
        if path is not None:
            yield path


def _one_sound(prepared: Path) -> tuple[NDArray[np.float32], str]:
    """The first labelled held-out clip that there is, at the paper's sample rate, and its mood."""
    manifest = load_manifest(prepared)
    track = next(track for track in (*manifest.of("validation"), *manifest.of("train")) if track.labelled)
    sound = torch.from_numpy(manifest.shard(track)[0].astype(np.float32)) / 32_768
    resampled = torchaudio.functional.resample(sound, manifest.sample_rate, DIFFWAVE_MEL.sample_rate)
    return resampled.numpy(), f"{track.mood}, held out"
