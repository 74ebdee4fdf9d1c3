"""The report as a picture: look before you read."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from generator.moods import MOODS, Mood
from training.drawing import COLOURS, FIRST, FOURTH, INK, SECOND, THIRD, dress, new_figure, save
from training.evaluation.report import Figure, Report
from training.evaluation.table import verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Spectrogram = NDArray[np.float64]

PICTURE_NAME: Final = "report.png"
WIDEST_RATIO: Final = 4.0


def draw_report(report: Report, glimpses: Mapping[Mood, tuple[Spectrogram, Spectrogram | None]], path: Path) -> Path:
    """Draw it.

    Args:
        report: the card.
        glimpses: for each mood a spectrogram in dB, [bands, columns], of what is judged, and of a recording.
        path: of the PNG.

    Raises:
        RunError: the place can't be written to.
    """
    figure = new_figure(16, 11)
    figure.suptitle(verdict(report), color=INK, fontweight="bold", fontsize=13, x=0.02, ha="left")
    _draw_distances(figure.add_axes((0.05, 0.70, 0.25, 0.22)), report)
    _draw_ratios(figure.add_axes((0.42, 0.38, 0.20, 0.54)), report)
    _draw_confusion(figure.add_axes((0.70, 0.66, 0.26, 0.26)), report)
    _draw_curves(figure.add_axes((0.05, 0.38, 0.25, 0.24)), report)
    _draw_nearest(figure.add_axes((0.70, 0.38, 0.26, 0.19)), report)
    for place, mood in enumerate(mood for mood in MOODS if mood in glimpses):
        for row, (spectrogram, of) in enumerate(zip(glimpses[mood], ("judged", "recorded"), strict=True)):
            if spectrogram is None:
                continue
            axes = figure.add_axes((0.02 + 0.121 * place, 0.175 - 0.16 * row, 0.115, 0.125))
            axes.imshow(spectrogram, origin="lower", aspect="auto", cmap="magma", vmin=-70, vmax=0)
            axes.set_title(f"{mood}, {of}", color=INK, fontsize=8)
            axes.set_axis_off()
    return save(figure, path)


def _draw_distances(axes: "Axes", report: Report) -> None:
    dress(axes, "Kernel distance to held-out recordings, by mood")
    named = {"kernel distance": "all"} | {f"kernel distance, {mood}": str(mood) for mood in MOODS}
    found = [figure for figure in report.figures if figure.name in named]
    for place, figure in enumerate(found):
        if figure.value is not None:
            axes.barh(place, max(figure.value, 0), color=FIRST, height=0.6)
        if figure.interval is not None:
            axes.plot(figure.interval, (place, place), color=INK, linewidth=1)
        if figure.real is not None:
            axes.plot([figure.real] * 2, [place - 0.4, place + 0.4], color=SECOND, linewidth=2.5)
        for name, colour in (("noise", FOURTH), ("silence", THIRD)):
            value = figure.planted.get(name)
            if value is not None:
                axes.plot([value] * 2, [place - 0.4, place + 0.4], color=colour, linewidth=2.5)
    axes.set_yticks(range(len(found)), [named[figure.name] for figure in found])
    axes.invert_yaxis()
    axes.set_xlabel("judged (bar), recordings (green), noise (red), silence (blue)", color=INK, fontsize=8)


def _draw_ratios(axes: "Axes", report: Report) -> None:
    """Every figure whose wish is likeness, as a multiple of real music's."""
    dress(axes, "As a multiple of real music's")
    found = [(figure, ratio) for figure in report.figures if (ratio := _ratio(figure)) is not None]
    axes.axvspan(0.8, 1.25, color=SECOND, alpha=0.18)
    axes.axvline(1, color=SECOND, linewidth=1)
    for place, (figure, ratio) in enumerate(found):
        axes.plot(np.clip(ratio, 1 / WIDEST_RATIO, WIDEST_RATIO), place, "o", color=FIRST if figure.met else FOURTH)
    axes.set_yticks(range(len(found)), [figure.name for figure, _ in found])
    axes.set_xscale("log", base=2)
    axes.set_xlim(1 / WIDEST_RATIO / 1.1, WIDEST_RATIO * 1.1)
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(visible=True, axis="both", alpha=0.12)


def _ratio(figure: Figure) -> float | None:
    if figure.wish != "real" or figure.value is None or not figure.real or figure.value * figure.real <= 0:
        return None
    return figure.value / figure.real


def _draw_confusion(axes: "Axes", report: Report) -> None:
    dress(axes, "Mood meant (row) and heard by the probe (column)")
    if not report.confusion:
        axes.text(0.5, 0.5, "no mood known", color=INK, ha="center", transform=axes.transAxes)
        return
    counts = np.array(report.confusion, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="magma", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(counts > 0):
        colour = "#101014" if shares[row, column] > 0.6 else INK
        axes.text(column, row, f"{counts[row, column]:.0f}", color=colour, ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(MOODS)), [mood[:5] for mood in MOODS])
    axes.set_yticks(range(len(MOODS)), list(MOODS))


def _draw_curves(axes: "Axes", report: Report) -> None:
    dress(axes, "Spectral balance: level by band")
    heights = report.curves.get("bands, Hz", [])
    for name, colour in zip(("judged", "real", "noise"), COLOURS, strict=False):
        values = report.curves.get(f"balance, {name}")
        if values:
            axes.plot(heights, values, color=colour, label=name, linewidth=1.6)
    if heights:
        axes.set_xscale("log")
        axes.legend(facecolor="none", edgecolor="none", labelcolor=INK, fontsize=8)
    axes.set_xlabel("Hz", color=INK, fontsize=8)
    axes.set_ylabel("dB of the whole", color=INK, fontsize=8)
    axes.grid(visible=True, which="both", alpha=0.12)


def _draw_nearest(axes: "Axes", report: Report) -> None:
    dress(axes, "Likeness to the nearest training segment")
    for name, colour in (("held-out recordings", SECOND), ("judged", FIRST)):
        scores = report.curves.get(f"nearest, {name}")
        if scores:
            bins = np.linspace(0, 1, 41).tolist()
            weights = np.full(len(scores), 1 / len(scores))
            axes.hist(scores, bins=bins, weights=weights, color=colour, alpha=0.6, label=name)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(facecolor="none", edgecolor="none", labelcolor=INK, fontsize=8)
    axes.set_ylabel("share of clips", color=INK, fontsize=8)
