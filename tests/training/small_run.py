"""A training run that takes seconds: short clips of chords, and networks of a few thousand weights."""

from pathlib import Path

import numpy as np

from generator.config import BARD, PAPER_DENOISE, PAPER_NOISE, MelConfig, ModelConfig, UNetConfig
from generator.moods import Mood
from training.manifest import SAMPLE_RATE, Manifest, Split, Track, shard_path
from training.presets import TrainConfig

CLIP_SAMPLES = 64 * 960  # 128 frames of the small Mel

MEL = MelConfig(SAMPLE_RATE, 2048, 480, 32, 20.0, 16_000.0, "standard")
SMALL_BARD = ModelConfig(
    "small-bard",
    MEL,
    UNetConfig("patched", (8, 16, 16), 1, (4, 8), 16, frames=64, plan_features=30),
    BARD.diffusion,
    prefix=16,
)
PAPER_MEL = MelConfig(22_050, 1024, 256, 16, 20.0, 11_025.0, "diffwave")
PAPER_NET = UNetConfig("paper", (8, 8, 8), 1, (1, 1), 16, frames=112)
SMALL_NOISE = ModelConfig("small-noise", PAPER_MEL, PAPER_NET, PAPER_NOISE.diffusion, prefix=0)
SMALL_DENOISE = ModelConfig("small-denoise", PAPER_MEL, PAPER_NET, PAPER_DENOISE.diffusion, prefix=0)

BARD_RUN = TrainConfig(SMALL_BARD, 4, 3e-3, 1e-2, "inverse-sqrt", every=1200, epochs=2)
PAPER_RUN = TrainConfig(SMALL_NOISE, 4, 1e-3, 1e-5, epochs=2)

ALL_SIDES: tuple[Split, ...] = ("train", "train", "validation")


def prepare_small(
    folder: Path, moods: tuple[str, ...] = ("fight", "tavern"), sides: tuple[Split, ...] = ALL_SIDES
) -> Path:
    """A prepared folder with a track of three clips for each mood and side, and one of no sure mood."""
    (folder / "shards").mkdir(parents=True)
    random = np.random.default_rng(0)
    tracks = []
    for mood in (*moods, "sad"):
        for number, side in enumerate(sides if mood in moods else ("train",)):
            key = f"{mood}-{number}"
            tracks.append(_track(folder, key, Mood(mood), side, mood in moods, random))
    Manifest(folder, tuple(tracks), SAMPLE_RATE, CLIP_SAMPLES).save()
    return folder


def _track(folder: Path, key: str, mood: Mood, side: Split, labelled: bool, random: np.random.Generator) -> Track:
    time = np.arange(3 * CLIP_SAMPLES) / SAMPLE_RATE
    pitches = 110 * 2 ** (random.integers(0, 36, size=3) / 12)
    wave = sum(np.sin(2 * np.pi * pitch * time) for pitch in pitches) * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * time))
    wave = 0.05 * wave + 0.005 * random.standard_normal(len(time))
    pcm = np.round(wave * 32_767).astype("<i2").reshape(3, CLIP_SAMPLES)
    np.save(shard_path(folder, key), pcm)
    rms = float(np.sqrt((wave**2).mean()))
    return Track(key, f"{mood}/{key}.ogg", "0" * 64, mood, labelled, 1.0, "CC0", side, 3, 0, rms)
