"""Shards of audio → a cache of Mels and plans → batches.

The cache holds one folder for each Mel configuration and set of tracks, and is filled track by track,
so an interrupted run goes on where it was. Whole tracks are on one side of the split.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from generator.analysis import PlanAnalysis
from generator.config import ModelConfig
from generator.mel import FLOOR, Mel
from generator.mood_embedding import NO_MOOD
from generator.moods import MOODS
from generator.plan import FEATURES
from generator.torchaudio_shim import torchaudio
from training.distributed import ALONE, World
from training.errors import ManifestError
from training.manifest import Manifest, Split, Track
from training.storage import save_array, writing_to

TARGET_RMS: Final = 0.1  #: every track is brought to -20 dBFS, so that loudness follows the music and not the master
FIT_CLIPS: Final = 400  #: clips from which the band statistics are taken
CHUNK: Final = 8  #: clips analysed at a time
BANDS_NAME: Final = "bands.npy"


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
        """Take the clips of some tracks.

        Args:
            config: says how long a window is.
            mels: for each track, [clips, bands, frames].
            plans: for each track, [clips, FEATURES, columns]; ``None`` for a model without a plan.
            moods: for each track, its row of the mood embedding.
        """
        self.config = config
        self.mels, self.plans, self.moods = mels, plans, moods
        self._where = [(track, clip) for track, mel in enumerate(mels) for clip in range(len(mel))]
        self.labels = np.array([moods[track] for track, _ in self._where])

    def __len__(self) -> int:
        return len(self._where)

    def weights(self) -> NDArray[np.float64]:
        """A draw's probabilities: a mood weighs by the square root of its clips, so rare moods are heard more often."""
        weight = 1 / np.sqrt(np.bincount(self.labels, minlength=NO_MOOD + 1)[self.labels])
        return np.asarray(weight / weight.sum())

    def batch(self, indices: NDArray[np.int64], random: np.random.Generator) -> Batch:
        """Windows at random offsets (whole plan columns) inside the clips ``indices``.

        A clip that is shorter than a window is held at its last frame: the paper's 861 frames become 864.
        """
        frames, column = self.config.unet.frames, self.config.unet.patch[1]
        mels, plans = [], []
        for index in indices:
            track, clip = self._where[index]
            mel = self.mels[track][clip]
            first = int(random.integers(max(0, mel.shape[1] - frames) // column + 1))
            mels.append(_window(mel, first * column, frames))
            if self.plans is not None:
                plans.append(_window(self.plans[track][clip], first, frames // column))
        return Batch(
            torch.from_numpy(np.stack(mels)),
            torch.from_numpy(np.stack(plans)) if plans else None,
            torch.from_numpy(self.labels[indices]),
        )

    def batches(self, size: int, random: np.random.Generator) -> Iterator[Batch]:
        """Endless batches of ``size``, each clip drawn by :meth:`weights`; a small corpus may repeat one in a batch."""
        weights = self.weights()
        while True:
            yield self.batch(random.choice(len(self), size=size, p=weights), random)


def _window(values: NDArray[np.float16], start: int, length: int) -> NDArray[np.float32]:
    piece = values[:, start : start + length].astype(np.float32)
    return np.pad(piece, ((0, 0), (0, length - piece.shape[1])), mode="edge")


@dataclass(frozen=True)
class Dataset:
    """Both sides of the split.

    Attributes:
        train: what is learnt from.
        validation: clips of other tracks; ``None`` where none is held out.
        identity: another as soon as a track, the split or the Mel is another.
    """

    train: Clips
    validation: Clips | None
    identity: str


def load_dataset(manifest: Manifest, config: ModelConfig, mel: Mel, world: World = ALONE) -> Dataset:
    """The cached clips; the cache is filled, and ``mel`` fitted to the training side, where they are not yet.

    A ``mel`` that came fitted keeps its statistics: weights that were learnt with them mean nothing with others.
    Several processes fill the cache together, each for tracks of its own.

    Raises:
        ManifestError: there is nothing to train on, a shard is damaged, or the folder is not one for all processes.
        StorageError: the cache can't be written.
    """
    if not manifest.of("train"):
        raise ManifestError(f"{manifest.folder}: no clip to train on; run `bardcast-train prepare` on more music")
    cache = _Cache(manifest, config, mel)
    if config.mel.scaling == "standard" and not mel.fitted:
        mel.fit(*_sums(world.first(cache.bands)))
    world.together(lambda: cache.fill(world.share(cache.tracks), world.leads))
    return world.together(cache.dataset)


def identity_of(manifest: Manifest, config: ModelConfig) -> str:
    """The identity that :func:`load_dataset` would give, without any work."""
    # A cache is right only for the tracks, the split, the Mel and the plan that it was made of.
    parts = {
        "mel": asdict(config.mel),
        "column": config.unet.patch[1],
        "plan": config.unet.plan_features,
        "rms": TARGET_RMS,
        "tracks": sorted(f"{track.split}/{track.key}" for track in manifest.tracks if track.clips),
    }
    return f"mel-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"


class _Cache:
    """The folder of Mels and plans: ``KEY.mel.npy`` and ``KEY.plan.npy`` for each track.

    Beside them lies ``BANDS_NAME`` where the Mel was fitted to these tracks.
    """

    def __init__(self, manifest: Manifest, config: ModelConfig, mel: Mel) -> None:
        self.manifest, self.config, self.mel = manifest, config, mel
        self.tracks = (*manifest.of("train"), *manifest.of("validation"))
        self.analysis = PlanAnalysis(config) if config.unet.plan_features else None
        column = config.unet.patch[1]
        samples = math.ceil(manifest.clip_samples * config.mel.sample_rate / manifest.sample_rate)
        self.columns = samples // config.mel.hop // column  # frames beyond a whole column have no plan
        self.frames = self.columns * column
        self.folder = manifest.cache / identity_of(manifest, config)
        if mel.fitted and not self._fitted_here():
            statistics = torch.stack([mel.mean, mel.deviation]).numpy()
            suffix = hashlib.sha256(statistics.tobytes()).hexdigest()[:16]
            self.folder = self.folder.with_name(f"{self.folder.name}-{suffix}")

    def _fitted_here(self) -> bool:
        """Whether the Mel's statistics are those of the tracks themselves, up to rounding on another machine."""
        stored = _read(self.folder / BANDS_NAME, (3, self.config.mel.bands))
        if stored is None:
            return False
        own = Mel(self.config.mel)
        own.fit(*_sums(stored))
        pairs = ((own.mean, self.mel.mean), (own.deviation, self.mel.deviation))
        return all(torch.allclose(one, other, rtol=0, atol=1e-3) for one, other in pairs)

    def bands(self) -> NDArray[np.generic]:
        """Band statistics from clips spread evenly over the training tracks: [sum, sum of squares, count; bands]."""
        bands = self.config.mel.bands
        stored = _read(self.folder / BANDS_NAME, (3, bands))
        if stored is not None:
            return np.array(stored)
        training = [(track, clip) for track in self.manifest.of("train") for clip in range(track.clips)]
        chosen = training[:: max(1, len(training) // FIT_CLIPS)]
        total, squares, count = torch.zeros(bands), torch.zeros(bands), 0
        for track, clip in tqdm(chosen, desc="band statistics", unit="clip", disable=None):
            level = self.mel.linear(self._waves(track, slice(clip, clip + 1))).clamp(min=FLOOR).log()
            total += level.sum((0, 2))
            squares += level.square().sum((0, 2))
            count += level.shape[0] * level.shape[2]
        measured: NDArray[np.generic] = torch.stack([total, squares, torch.full_like(total, count)]).numpy()
        self._keep(self.folder / BANDS_NAME, measured)
        return measured

    def fill(self, tracks: Sequence[Track], show: bool) -> None:
        """Analyse those of ``tracks`` whose files are not there and whole; ``show`` how far it is."""
        missing = [track for track in tracks if not self._holds(track)]
        for track in tqdm(missing, desc="Mels", unit="track", disable=None if missing and show else True):
            mels, plans = [], []
            for begin in range(0, track.clips, CHUNK):
                waves = self._waves(track, slice(begin, begin + CHUNK))
                mels.append(self.mel(waves)[..., : self.frames])
                if self.analysis:
                    plans.append(self.analysis(waves, mels[-1]))
            self._keep(self._path(track, "mel"), torch.cat(mels).half().numpy())
            if self.analysis:
                self._keep(self._path(track, "plan"), torch.cat(plans).half().numpy())

    def _holds(self, track: Track) -> bool:
        return self._mels(track) is not None and (self.analysis is None or self._plans(track) is not None)

    def _keep(self, path: Path, array: NDArray[np.generic]) -> None:
        with writing_to(self.folder, "PREPARED"):
            self.folder.mkdir(parents=True, exist_ok=True)
            save_array(path, array)

    def dataset(self) -> Dataset:
        """Both sides of the split.

        Raises:
            ManifestError: something is not there, though each process has made its part.
        """
        if not all(self._holds(track) for track in self.tracks):
            raise ManifestError(f"{self.folder} is not whole; PREPARED must be one folder that all processes share")
        validation = self._clips("validation") if self.manifest.of("validation") else None
        return Dataset(self._clips("train"), validation, self.folder.name)

    def _clips(self, split: Split) -> Clips:
        tracks = self.manifest.of(split)
        mels = [mel for track in tracks if (mel := self._mels(track)) is not None]
        plans = [plan for track in tracks if self.analysis and (plan := self._plans(track)) is not None]
        moods = [MOODS.index(track.mood) if track.labelled else NO_MOOD for track in tracks]
        return Clips(self.config, mels, plans if self.analysis else None, moods)

    def _mels(self, track: Track) -> NDArray[np.float16] | None:
        return _read(self._path(track, "mel"), (track.clips, self.config.mel.bands, self.frames))

    def _plans(self, track: Track) -> NDArray[np.float16] | None:
        return _read(self._path(track, "plan"), (track.clips, FEATURES, self.columns))

    def _path(self, track: Track, what: str) -> Path:
        return self.folder / f"{track.key}.{what}.npy"

    def _waves(self, track: Track, clips: slice) -> Tensor:
        """[clips, samples] at the Mel's sample rate, at ``TARGET_RMS`` over the track."""
        pcm = torch.from_numpy(self.manifest.shard(track)[clips].astype(np.float32)) / 32_768
        waves = pcm * (TARGET_RMS / max(track.rms, 1e-4))
        rate = self.config.mel.sample_rate
        if rate != self.manifest.sample_rate:
            waves = torchaudio.functional.resample(waves, self.manifest.sample_rate, rate)
        return waves


def _sums(stored: NDArray[np.generic]) -> tuple[Tensor, Tensor, int]:
    """What ``Mel.fit`` takes, from what is stored."""
    total, squares, counts = torch.from_numpy(np.array(stored))
    return total, squares, int(counts[0])


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16] | None:
    """A cached array, memory-mapped; ``None`` where it is missing, cut short or of another shape."""
    try:
        array: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape else None


def plan_statistics(clips: Clips, known: Tensor | None = None) -> Tensor | None:
    """What each mood's plans are like: [moods + 1, 2, FEATURES], mean and deviation; the last row is over all clips.

    A mood without clips has its row of ``known``, or else the last row. ``None`` for a model without a plan.
    """
    if clips.plans is None:
        return None
    sums = np.zeros((NO_MOOD + 1, 2, FEATURES))
    counts = np.zeros((NO_MOOD + 1, 1))
    for plan, mood in zip(clips.plans, clips.moods, strict=True):
        values = plan.astype(np.float64)
        for row in {mood, NO_MOOD}:
            sums[row] += [values.sum((0, 2)), np.square(values).sum((0, 2))]
            counts[row] += plan.shape[0] * plan.shape[2]
    absent = counts[:, 0] == 0
    sums[absent], counts[absent] = sums[NO_MOOD], counts[NO_MOOD]
    mean, square = sums[:, 0] / counts, sums[:, 1] / counts
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    statistics = torch.from_numpy(np.stack([mean, deviation], axis=1).astype(np.float32))
    if known is not None:
        statistics[torch.from_numpy(absent)] = known.float()[torch.from_numpy(absent)]
    return statistics
