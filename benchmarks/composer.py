"""Do the plans that the composer writes move as those of recordings do? Figures of both, mood by mood.

Of recordings: the plans measured for training, in the cache beside the prepared clips (a training run fills it). Of the
composer: as many stretches of 10 s as asked for, each of a stream of its own. No sound is made.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import finish, parser
from generator.checkpoint import Checkpoint, load_checkpoint, load_state
from generator.composer import write_plan
from generator.mel import Mel
from generator.moods import MOODS, Mood
from generator.plan import BASS, BRIGHTNESS, CHROMA, LOUDNESS, ONSET
from generator.protocol import FRAME_SECONDS, Controls
from generator.section import Section
from training.data import load_dataset
from training.manifest import load_manifest

Plans = NDArray[np.float64]

STRONG: Final = 0.5  #: of an onset
LAGS: Final = (15, 75)  #: frames in which a pulse is looked for: 200 to 40 beats a minute
USUAL_LAG: Final = 27.5  #: frames: those near it count for more (Parncutt 1994)
APART: Final = 137  #: frames by which the stretches lie further and further into their streams


def measure(plans: Plans) -> dict[str, float]:
    """Figures of plans, [stretches, FEATURES, columns]; those of movement are averages over stretches."""
    onsets = plans[:, ONSET].transpose(0, 2, 1).reshape(len(plans), -1)
    inner = onsets[:, 1:-1]
    peaks = (inner > onsets[:, :-2]) & (inner >= onsets[:, 2:]) & (inner > STRONG)
    loud, bright, rise = plans[:, LOUDNESS], plans[:, BRIGHTNESS], plans[:, ONSET].max(axis=1)
    return {
        "strong onsets a second": float(peaks.sum(axis=1).mean() / (onsets.shape[1] * FRAME_SECONDS)),
        "pulse": _pulse(onsets),
        "loudness, deviation": float(loud.std(axis=1).mean()),
        "loudness, step": float(np.diff(loud, axis=1).std()),
        "brightness, deviation": float(bright.std(axis=1).mean()),
        "brightness, step": float(np.diff(bright, axis=1).std()),
        "rise with onset": float(np.corrcoef(rise[:, 1:].ravel(), np.diff(loud, axis=1).ravel())[0, 1]),
        "third pitch over first": float(np.sort(plans[:, CHROMA], axis=1)[:, -3].mean()),
        "third bass over first": float(np.sort(plans[:, BASS], axis=1)[:, -3].mean()),
    }


def _pulse(onsets: Plans) -> float:
    """The median over stretches of the autocorrelation of onsets at the likeliest beat."""
    curve = onsets - onsets.mean(axis=1, keepdims=True)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(curve, 2 * curve.shape[1], axis=1)) ** 2, axis=1)
    lags = np.arange(*LAGS)
    found = correlation[:, lags] / np.maximum(correlation[:, :1], 1e-9)
    weights = np.exp(-0.5 * (np.log2(lags / USUAL_LAG) / 0.9) ** 2)
    return float(np.median(found[np.arange(len(found)), (found * weights).argmax(axis=1)]))


def written(mood: Mood, stretches: int, columns: int, seed: int, checkpoint: Checkpoint) -> Plans:
    """Plans of the composer, [stretches, FEATURES, columns]."""
    statistics = checkpoint.tensors["plan.statistics"].float().numpy()
    plans = [
        write_plan(Section(Controls(mood), seed + number, 0), number * APART, columns, statistics)
        for number in range(stretches)
    ]
    return np.stack(plans).astype(np.float64)


def recorded(prepared: Path, checkpoint: Checkpoint) -> dict[Mood, Plans]:
    """Measured plans of the labelled training recordings, by mood."""
    mel = Mel(checkpoint.config.mel)
    load_state(mel, checkpoint.part("mel"), "Mel")
    clips = load_dataset(load_manifest(prepared), checkpoint.config, mel).train
    found: dict[Mood, Plans] = {}
    for row, mood in enumerate(MOODS):
        plans = [plan for plan, label in zip(clips.plans or (), clips.moods, strict=True) if label == row]
        if plans:
            found[mood] = np.concatenate(plans).astype(np.float64)
    return found


def main(arguments: list[str] | None = None) -> None:  # noqa: D103 - the module says it
    made = parser(str(__doc__).splitlines()[0])
    made.add_argument("--prepared", type=Path, default=Path("data/prepared"), help="folder that prepare made")
    made.add_argument("--stretches", type=int, default=60, help="of 10 s, in each mood")
    options = made.parse_args(arguments)
    checkpoint = load_checkpoint(options.model)
    figures: dict[str, Any] = {}
    for mood, plans in recorded(options.prepared, checkpoint).items():
        own = written(mood, options.stretches, plans.shape[-1], options.seed, checkpoint)
        figures[mood] = {"recorded": measure(plans), "written": measure(own)}
    rows: list[tuple[str, str]] = []
    for heading, both in figures.items():
        rows.append((heading, "recorded, written"))
        rows += [(f"  {name}", f"{value:.2f}  {both['written'][name]:.2f}") for name, value in both["recorded"].items()]
    finish("Plans", options, rows, figures)


if __name__ == "__main__":
    main()
