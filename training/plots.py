"""A run in two pictures: its loss, and what it makes beside what it learnt from."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from generator.checkpoint import MODEL_NAME, CheckpointError, load_checkpoint, load_state
from generator.engine import Engine, GenerationError
from generator.mel import Mel
from generator.moods import MOODS, Mood
from generator.protocol import Controls
from generator.section import Section
from training import log
from training.data import Clips, Dataset, load_dataset
from training.drawing import BACKGROUND, FIRST, INK, SECOND, new_figure, save
from training.errors import RunError
from training.manifest import load_manifest

LOSS_NAME: Final = "loss.png"
SAMPLES_NAME: Final = "samples.png"
SEED: Final = 7
SMOOTHING: Final = 50  #: the curve is an average over this part of the run behind each point

Spectrogram = NDArray[np.float32]


def draw_loss(folder: Path) -> Path:
    """Draw the run's loss by samples seen into ``loss.png``.

    Raises:
        RunError: the run has no step yet, or the picture can't be written.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator

    entries = log.read(folder)
    steps = [entry for entry in entries if "loss" in entry]
    if not steps:
        raise RunError(f"{folder} holds no step of training; run `bardcast-train train` first")
    samples = np.array([entry["samples"] for entry in steps], float)
    losses = np.array([entry["loss"] for entry in steps], float)
    held_out = [(e["samples"], e["validation"]) for e in entries if e.get("validation") is not None and "samples" in e]
    figure = new_figure(9, 5)
    axes = figure.add_axes((0.09, 0.13, 0.88, 0.77), facecolor=BACKGROUND)
    plain = FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value / 1e6:g} M")
    axes.plot(samples, losses, color=FIRST, alpha=0.25, linewidth=0.6)
    axes.plot(samples, smooth(losses), color=FIRST, linewidth=1.8, label="training, smoothed")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), color=SECOND, marker="o", markersize=4, label="held out")
    if samples[-1] >= 20 * samples[0]:  # most of the fall is in the first tenth
        axes.set_xscale("log")
    if losses.min() > 0 and losses.max() >= 4 * losses.min():
        axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):  # not as powers of ten
        axis.set_major_formatter(plain)
        if axis.get_scale() == "log":
            axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
            axis.set_minor_formatter(plain)
    axes.set_xlabel("samples seen", color=INK)
    axes.set_ylabel("loss", color=INK)
    axes.tick_params(colors=INK, which="both")
    axes.grid(visible=True, which="both", alpha=0.12)
    axes.legend(facecolor=BACKGROUND, edgecolor="none", labelcolor=INK)
    figure.text(0.09, 0.93, _title(folder, entries), color=INK, fontsize=12, fontweight="bold")
    return save(figure, folder / LOSS_NAME)


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the last fiftieth of what came up to each point, so early falls are not smeared out."""
    sums = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    starts = ends - np.maximum(1, ends // SMOOTHING)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def draw_samples(folder: Path, prepared: Path, follow: Callable[[Sequence[Mood]], Iterable[Mood]] = iter) -> Path:
    """Generate a clip for each mood and draw it beside a recorded one into ``samples.png``.

    Args:
        folder: the run's.
        prepared: the clips that it learnt from, and those held out.
        follow: wraps the moods while they are worked through, as ``tqdm`` does.

    Raises:
        RunError: there is no model yet, or the picture can't be written.
        ManifestError: there are no clips.
    """
    try:
        checkpoint = load_checkpoint(folder / MODEL_NAME)
        engine = Engine(checkpoint)
    except CheckpointError as error:
        raise RunError(f"{folder} holds no model that plays: {error}") from error
    mel = Mel(checkpoint.config.mel)
    load_state(mel, checkpoint.part("mel"), "Mel")
    dataset = load_dataset(load_manifest(prepared), checkpoint.config, mel)
    figure = new_figure(15, 7)
    low, high = (0.0, 1.0) if checkpoint.config.mel.scaling == "diffwave" else (-2.5, 2.5)
    for place, mood in enumerate(follow(MOODS)):
        made, made_title = _generated(engine, mood)
        real, real_title = _recorded(dataset, mood)
        for row, spectrogram, title in ((place // 4 * 2, made, made_title), (place // 4 * 2 + 1, real, real_title)):
            axes = figure.add_subplot(4, 4, row * 4 + place % 4 + 1, facecolor=BACKGROUND)
            axes.imshow(spectrogram, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high)
            axes.set_title(title, color=INK, fontsize=9)
            axes.set_axis_off()
    notes = checkpoint.config.notes
    seen = f"after {notes['samples']} samples" if "samples" in notes else ""
    figure.suptitle(f"{checkpoint.config.name} {seen}: Mel spectrograms, 0 Hz below", color=INK, fontweight="bold")
    figure.subplots_adjust(left=0.02, right=0.98, top=0.91, bottom=0.02, hspace=0.28, wspace=0.05)
    return save(figure, folder / SAMPLES_NAME)


def _generated(engine: Engine, mood: Mood) -> tuple[Spectrogram, str]:
    try:
        window = engine.window(engine.beginning(), Section(Controls(mood), SEED, 0), SEED)
    except GenerationError:  # the paper's own model does that, and the picture is there to show it
        return np.full((engine.config.mel.bands, engine.config.unet.frames), np.nan, np.float32), f"{mood}: infinite"
    return window.mel, f"{mood}, generated"


def _recorded(dataset: Dataset, mood: Mood) -> tuple[Spectrogram, str]:
    for clips, where in ((dataset.validation, "held out"), (dataset.train, "trained on")):
        if clips is not None and (found := _clip(clips, MOODS.index(mood))) is not None:
            return found, f"{mood}, recorded ({where})"
    return np.full((1, 1), np.nan, np.float32), f"{mood}: nothing recorded"


def _clip(clips: Clips, label: int) -> Spectrogram | None:
    found = np.flatnonzero(clips.labels == label)
    if not len(found):
        return None
    middle = found[len(found) // 2 :][:1]
    return np.asarray(clips.batch(middle, np.random.default_rng(SEED)).mel[0].numpy())


def _title(folder: Path, entries: Sequence[dict[str, Any]]) -> str:
    last = [entry for entry in entries if "loss" in entry][-1]
    return f"{folder.name}: {last['step']} steps, {last['samples']} samples, {last['seconds'] / 3600:.2f} hours"
