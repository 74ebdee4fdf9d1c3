"""What music costs, as a picture: by its length on the left, by the number of streams on the right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.line import Line
from training.drawing import BACKGROUND, FIRST, INK, SECOND, THIRD, dress, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAINT: Final = "#8a8791"
_ROOM: Final = 1.12  #: of an axis beyond its last point


def draw(figures: Mapping[str, Any], path: Path) -> Path:
    """Draw what ``benchmarks.cost`` measured into a PNG.

    Args:
        figures: as ``benchmarks.cost.look`` makes them, and the device.
        path: where to.

    Raises:
        RunError: the place can't be written to.
    """
    figure = new_figure(12, 5.2)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.065, right=0.975, top=0.80, bottom=0.13, wspace=0.17)
    figure.text(0.065, 0.93, "What music costs", color=INK, fontsize=15, fontweight="bold")
    figure.text(0.975, 0.93, f"computed by {figures['device']}", color=_FAINT, fontsize=11, ha="right")
    _by_length(left, figures)
    _by_streams(right, figures)
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.12)
        place = "lower right" if axes is left else "upper left"
        axes.legend(facecolor=BACKGROUND, edgecolor="none", labelcolor=INK, loc=place, fontsize=9)
        axes.tick_params(labelsize=9)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return save(figure, path)


def _by_length(axes: "Axes", figures: Mapping[str, Any]) -> None:
    line = Line(**figures["by_length"])
    music = [point["audio_seconds"] for point in figures["lengths"]]
    compute = [point["compute_seconds"] for point in figures["lengths"]]
    most = _ROOM * max(music)
    _title(axes, "One stream, by its length", f"{line.slope:.3f} s a second of music", line)
    axes.plot([0, most], [0, most], color=THIRD, linewidth=1.2, linestyle=(0, (4, 3)), label="as long as it plays")
    _line(axes, line, most)
    _points(axes, music, compute, "measured")
    axes.fill_between([0, most], [0, most], color=THIRD, alpha=0.07, linewidth=0)
    axes.set_xlim(0, most)
    # Real time is a steep line where computing is fast: it may leave the picture, the points may not.
    axes.set_ylim(0, min(most, 1.5 * max(*compute, line.at(most))))
    axes.set_xlabel("seconds of music", color=INK)
    axes.set_ylabel("seconds of computing", color=INK)


def _by_streams(axes: "Axes", figures: Mapping[str, Any]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    line, waiting = Line(**figures["by_streams"]), Line(**figures["waiting_by_streams"])
    numbers = [point["asked"] for point in figures["streams"]]
    compute = [point["compute_seconds"] for point in figures["streams"]]
    waited = [point["waited_seconds"] for point in figures["streams"]]
    audio = figures["stream_audio_seconds"]
    most = _ROOM * max(numbers)
    top = 1.25 * max(*compute, *waited)
    _title(axes, f"Streams of {audio:.0f} s at once", f"{line.slope:.2f} s a stream", line)
    if audio < top:
        axes.axhline(audio, color=THIRD, linewidth=1.2, linestyle=(0, (4, 3)), label="as long as it plays")
    axes.axhspan(0, min(audio, top), color=THIRD, alpha=0.07, linewidth=0)
    _line(axes, line, most)
    _points(axes, numbers, compute, "measured")
    axes.plot(
        numbers,
        waited,
        "o",
        markersize=10,
        markerfacecolor="none",
        color=SECOND,
        alpha=0.8,
        label="waited for the last",
    )
    for number in dict.fromkeys(numbers):
        some = [point for point in figures["streams"] if point["asked"] == number]
        slowest = min(point["slowest_factor"] for point in some)
        above = max(max(point["waited_seconds"], point["compute_seconds"]) for point in some)
        _note(axes, number, above, f"{slowest:.1f}×" if slowest < 10 else f"{slowest:.0f}×")
    crossing = waiting.reaches(audio) if waiting.slope > 0 else np.inf
    if audio < top and 0 < crossing < most:
        axes.plot([crossing, crossing], [0, audio], color=THIRD, linewidth=1, alpha=0.7)
    if figures["streams_held"] is not None:  # beyond the picture the line says it, not a measurement
        axes.annotate(
            f"holds {figures['streams_held']} streams",
            (min(crossing, most), 0),
            xytext=(6, 7) if crossing < 0.7 * most else (-6, 7),
            textcoords="offset points",
            color=THIRD,
            fontsize=10,
            fontweight="bold",
            ha="left" if crossing < 0.7 * most else "right",
        )
    axes.set_xlim(0, most)
    axes.set_ylim(0, top)
    axes.xaxis.set_major_locator(FixedLocator(list(dict.fromkeys(numbers))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("streams at once (×: real-time factor of the slowest)", color=INK)
    axes.set_ylabel("seconds of computing", color=INK)


def _title(axes: "Axes", title: str, slope: str, line: Line) -> None:
    dress(axes)
    axes.text(0, 1.095, title, transform=axes.transAxes, color=INK, fontsize=11.5, fontweight="bold")
    away = f"no point further from the line than {line.largest_deviation:.2f} s"
    axes.text(
        0, 1.03, f"{slope}  ·  R² {line.r_squared:.4f}  ·  {away}", transform=axes.transAxes, color=_FAINT, fontsize=9
    )


def _line(axes: "Axes", line: Line, most: float) -> None:
    axes.plot([0, most], [line.at(0), line.at(most)], color=FIRST, linewidth=1.6, alpha=0.7, label="least squares")


def _points(axes: "Axes", x: Sequence[float], y: Sequence[float], label: str) -> None:
    axes.plot(x, y, "o", color=FIRST, markersize=5, markeredgecolor=BACKGROUND, markeredgewidth=0.6, label=label)


def _note(axes: "Axes", x: float, y: float, text: str) -> None:
    axes.annotate(
        text, (x, y), xytext=(0, 10), textcoords="offset points", color=INK, fontsize=9.5, ha="center", va="bottom"
    )
