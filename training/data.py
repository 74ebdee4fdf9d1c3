"""Shards of audio → a cache of Mels and plans → batches.

The cache lies beside the shards, one folder for each Mel configuration, and is filled track by track, so an interrupted
run goes on where it was. Whole tracks are on one side of the split.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from generator.config import ModelConfig
from generator.mel import FLOOR, Mel
from generator.moods import MOODS
from generator.network import NO_MOOD
from generator.analysis import PlanAnalysis
from generator.plan import FEATURES
from generator.torchaudio_shim import torchaudio
from training.errors import TrainingError
from training.manifest import Manifest, Track

TARGET_RMS: Final = 0.1  #: every track is brought to -20 dBFS, so that loudness follows the music and not the master
FIT_CLIPS: Final = 400  #: clips from which the band statistics are taken
CHUNK: Final = 8  #: clips analysed at a time


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Attributes:
        mel: [batch, bands, frames], normalised.
        plan: [batch, FEATURES, columns]; ``None`` for a model without a plan.
        mood: [batch], rows of the mood embedding.
    """

    mel: Tensor
    plan: Tensor | None
    mood: Tensor


class Clips:
    """The cached Mels and plans of one side of the split, drawn from at random."""

    def __init__(
        self,
        config: ModelConfig,
        mels: Sequence[NDArray[np.float16]],
        plans: Sequence[NDArray[np.float16]] | None,
        moods: Sequence[int],
    ) -> None:
        self.config = config
        self.mels, self.plans, self.moods = mels, plans, moods
        self.count = sum(len(mel) for mel in mels)
        self._where = [(track, clip) for track, mel in enumerate(mels) for clip in range(len(mel))]

    def weights(self) -> NDArray[np.float64]:
        """A draw's probabilities: a mood weighs by the square root of its clips, so rare moods are heard more often."""
        labels = np.array([self.moods[track] for track, _ in self._where])
        weight = 1 / np.sqrt(np.bincount(labels, minlength=NO_MOOD + 1)[labels])
        return np.asarray(weight / weight.sum())

    def batch(self, indices: NDArray[np.int64], random: np.random.Generator) -> Batch:
        """Windows at random offsets (whole plan columns) inside the clips ``indices``."""
        frames, column = self.config.unet.frames, self.config.unet.patch[1]
        mels, plans, moods = [], [], []
        for index in indices:
            track, clip = self._where[index]
            mel = self.mels[track][clip]
            start = column * int(random.integers((mel.shape[1] - frames) // column + 1)) if mel.shape[1] > frames else 0
            piece = mel[:, start : start + frames].astype(np.float32)
            mels.append(np.pad(piece, ((0, 0), (0, frames - piece.shape[1]))))
            if self.plans is not None:
                first = start // column
                plans.append(self.plans[track][clip][:, first : first + frames // column].astype(np.float32))
            moods.append(self.moods[track])
        return Batch(
            torch.from_numpy(np.stack(mels)),
            torch.from_numpy(np.stack(plans)) if plans else None,
            torch.tensor(moods),
        )

    def epochs(self, batch: int, random: np.random.Generator) -> Iterator[Batch]:
        """Endless batches, each drawn by :meth:`weights`."""
        weights = self.weights()
        while True:
            yield self.batch(random.choice(self.count, size=batch, p=weights), random)


def load_clips(manifest: Manifest, config: ModelConfig, mel: Mel, split: str) -> Clips:
    """The cached clips of one side of the split; the cache is filled, and ``mel`` fitted, where they are not yet.

    Raises:
        TrainingError: there is not a single clip.
    """
    tracks = [track for track in manifest.tracks if track.clips]
    if not any(track.split == split for track in tracks):
        raise TrainingError(f"{manifest.folder}: no {split} clips; prepare at least two tracks of a mood")
    cache = _cache_folder(manifest, config)
    _fit(manifest, tracks, mel, cache)
    _fill(manifest, tracks, config, mel, cache)
    wanted = [track for track in tracks if track.split == split]
    with_plan = config.unet.plan_features > 0
    return Clips(
        config,
        [np.load(cache / f"{track.key}.mel.npy", mmap_mode="r") for track in wanted],
        [np.load(cache / f"{track.key}.plan.npy", mmap_mode="r") for track in wanted] if with_plan else None,
        [MOODS.index(track.mood) if track.labelled else NO_MOOD for track in wanted],
    )


def _cache_folder(manifest: Manifest, config: ModelConfig) -> Path:
    # A cache is right only for the tracks, the Mel and the plan that it was made of.
    identity = {
        "mel": asdict(config.mel),
        "column": config.unet.patch[1],
        "plan": config.unet.plan_features,
        "rms": TARGET_RMS,
        "tracks": sorted(track.key for track in manifest.tracks),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = manifest.folder / f"mel-{digest}"
    folder.mkdir(exist_ok=True)
    return folder


def _fit(manifest: Manifest, tracks: Sequence[Track], mel: Mel, cache: Path) -> None:
    """Band statistics from clips spread evenly over the training tracks."""
    if mel.config.scaling != "standard":
        return
    stored = cache / "bands.npy"
    if not stored.exists():
        training = [(track, clip) for track in tracks if track.split == "train" for clip in range(track.clips)]
        chosen = training[:: max(1, len(training) // FIT_CLIPS)]
        total, squares, count = torch.zeros(mel.config.bands), torch.zeros(mel.config.bands), 0
        for track, clip in tqdm(chosen, desc="band statistics", unit="clip"):
            level = mel.linear(_waves(manifest, track, mel, slice(clip, clip + 1))).clamp(min=FLOOR).log()
            total += level.sum((0, 2))
            squares += level.square().sum((0, 2))
            count += level.shape[0] * level.shape[2]
        _save(stored, torch.stack([total, squares, torch.full_like(total, count)]).numpy())
    total, squares, counts = torch.from_numpy(np.load(stored))
    mel.fit(total, squares, int(counts[0]))


def _fill(manifest: Manifest, tracks: Sequence[Track], config: ModelConfig, mel: Mel, cache: Path) -> None:
    analysis = PlanAnalysis(config) if config.unet.plan_features else None
    last = "plan" if analysis else "mel"  # a track's last file to be written says that the track is done
    missing = [track for track in tracks if not (cache / f"{track.key}.{last}.npy").exists()]
    for track in tqdm(missing, desc="Mels", unit="track", disable=not missing):
        mels, plans = [], []
        for begin in range(0, track.clips, CHUNK):
            waves = _waves(manifest, track, mel, slice(begin, begin + CHUNK))
            mels.append(mel(waves))
            if analysis:
                plans.append(analysis(waves, mels[-1]))
        _save(cache / f"{track.key}.mel.npy", torch.cat(mels).half().numpy())
        if analysis:
            _save(cache / f"{track.key}.plan.npy", torch.cat(plans).half().numpy())


def _waves(manifest: Manifest, track: Track, mel: Mel, clips: slice) -> Tensor:
    pcm = torch.from_numpy(manifest.shard(track)[clips].astype(np.float32)) / 32_768
    waves = pcm * (TARGET_RMS / max(track.rms, 1e-4))
    if mel.config.sample_rate != manifest.sample_rate:
        waves = torchaudio.functional.resample(waves, manifest.sample_rate, mel.config.sample_rate)
    return waves


def _save(path: Path, array: NDArray[np.generic]) -> None:
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


def plan_statistics(clips: Clips) -> Tensor:
    """What each mood's plans are like: [moods + 1, 2, FEATURES], mean and deviation; the last row is over all."""
    if clips.plans is None:
        raise TrainingError("this model has no plan")
    rows = []
    for mood in range(NO_MOOD + 1):
        chosen = [
            plan for plan, label in zip(clips.plans, clips.moods, strict=True) if mood in (label, NO_MOOD)
        ] or clips.plans
        columns = np.concatenate([plan.astype(np.float32).swapaxes(1, 2).reshape(-1, FEATURES) for plan in chosen])
        rows.append(np.stack([columns.mean(0), columns.std(0)]))
    return torch.from_numpy(np.stack(rows))
