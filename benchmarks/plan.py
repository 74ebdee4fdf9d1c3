"""Does the model play its plan? Plans of recordings that it never heard, against what it makes of them.

For one window of each held-out track the plan is measured, the model plays it, and the result's plan is measured in
turn. The figures are correlations of the two, with the plan given and without it.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import finish, note, parser
from generator.analysis import PlanAnalysis
from generator.denoiser import Denoiser
from generator.engine import Engine, load_engine
from generator.moods import MOODS
from generator.plan import BASS, CHROMA, LOUDNESS, ONSET
from generator.sampling import dpm_solver_2m, solve
from training.data import TARGET_RMS
from training.manifest import Manifest, Track, load_manifest


def follow(engine: Engine, wave: Tensor, mood: int, seed: int, *, with_plan: bool) -> dict[str, float]:
    """Play the plan of ``wave`` ([samples], a whole window) and compare; texture is frame-to-frame change over real."""
    analysis, config = PlanAnalysis(engine.config), engine.config
    mel = engine.mel(wave[None])
    plan = analysis(wave[None], mel)[0]
    denoiser = Denoiser(engine.network, config, engine.schedule, mood, plan if with_plan else None, None, engine.bf16)
    random = torch.Generator().manual_seed(seed)
    steps = dpm_solver_2m(engine.schedule, lambda: torch.randn(mel.shape, generator=random), engine.times)
    made = solve(steps, denoiser)[0]
    sound = engine.vocoder(made, random, None, plan if with_plan else None)
    heard = analysis(sound[None], engine.mel(sound[None]))[0]
    return {
        "chroma": _columns(plan[CHROMA], heard[CHROMA]),
        "bass": _columns(plan[BASS], heard[BASS]),
        "onsets": _correlation(plan[ONSET].T.flatten(), heard[ONSET].T.flatten()),
        "loudness": _correlation(plan[LOUDNESS], heard[LOUDNESS]),
        "texture": float(made.diff(dim=-1).abs().mean() / mel.diff(dim=-1).abs().mean()),
    }


def _columns(one: Tensor, other: Tensor) -> float:
    return float(np.mean([_correlation(a, b) for a, b in zip(one.T, other.T, strict=True)]))


def _correlation(one: Tensor, other: Tensor) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def _wave(manifest: Manifest, track: Track, samples: int) -> Tensor:
    pcm = manifest.shard(track)[track.clips // 2, :samples].astype(np.float32) / 32_768
    return torch.from_numpy(pcm * (TARGET_RMS / max(track.rms, 1e-4)))


def main(arguments: list[str] | None = None) -> None:  # noqa: D103 - the module says it
    made: argparse.ArgumentParser = parser(str(__doc__).splitlines()[0])
    made.add_argument("--prepared", type=Path, default=Path("data/prepared"), help="folder that prepare made")
    options = made.parse_args(arguments)
    engine = load_engine(options.model)
    manifest = load_manifest(options.prepared)
    tracks = manifest.of("validation")
    samples = engine.config.unet.frames * engine.config.mel.hop
    figures: dict[str, dict[str, float]] = {}
    for with_plan in (True, False):
        found = []
        for number, track in enumerate(tracks):
            mood = MOODS.index(track.mood)
            found.append(
                follow(engine, _wave(manifest, track, samples), mood, options.seed + number, with_plan=with_plan)
            )
            note(f"{track.source}: {found[-1]}")
        name = "with the plan" if with_plan else "without"
        figures[name] = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    rows = [("held-out tracks", str(len(tracks)))]
    rows += [
        (name, ", ".join(f"{key} {value:.2f}" for key, value in values.items())) for name, values in figures.items()
    ]
    finish("Playing the plan", options, rows, figures)


if __name__ == "__main__":
    main()
