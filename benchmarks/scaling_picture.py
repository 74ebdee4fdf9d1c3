"""What a cluster carries, as a picture: how changes slow down with the tables, and what a larger cluster is worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from training.drawing import BACKGROUND, FIRST, FOURTH, INK, SECOND, THIRD, dress, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAINT: Final = "#8a8791"
_POLICIES: Final = {"waiting": "waits for its table's window in hand", "overtaking": "drops its table's window in hand"}


def draw(figures: Mapping[str, Any], path: Path) -> Path:
    """Draw what ``benchmarks.scaling`` found into a PNG.

    Args:
        figures: as it keeps them.
        path: where to.

    Raises:
        RunError: the place can't be written to.
    """
    figure = new_figure(12, 5.2)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.065, right=0.975, top=0.80, bottom=0.13, wspace=0.17)
    figure.text(0.065, 0.93, "What a cluster carries", color=INK, fontsize=15, fontweight="bold")
    figure.text(0.975, 0.93, f"simulated; a worker {figures['curve']['name']}", color=_FAINT, fontsize=10, ha="right")
    _by_load(left, figures)
    _by_size(right, figures)
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.12)
        axes.tick_params(labelsize=9)
        axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(facecolor=BACKGROUND, edgecolor="none", labelcolor=INK, fontsize=9)
    return save(figure, path)


def _by_load(axes: "Axes", figures: Mapping[str, Any]) -> None:
    limit = figures["in_time_seconds"]
    workers = figures["swept"]["waiting"][0]["workers"]
    _title(axes, f"A change of mood, {workers} workers", "from the wish to its window; the ear follows 0.3 s later")
    for policy, colour in (("waiting", FOURTH), ("overtaking", FIRST)):
        points = figures["swept"][policy]
        across = [point["tables"] / point["workers"] for point in points]
        label = f"99 of 100, if a change {_POLICIES[policy]}"
        axes.plot(across, [point["p99"] for point in points], "o-", color=colour, markersize=5, label=label)
        axes.plot(
            across,
            [point["p50"] for point in points],
            linestyle=(0, (1, 2)),
            color=colour,
            label="half of them" if policy == "overtaking" else None,
        )
    axes.axhline(limit, color=THIRD, linewidth=1.2, linestyle=(0, (4, 3)), label=f"in time: {limit:g} s")
    axes.axhspan(0, limit, color=THIRD, alpha=0.07, linewidth=0)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 4 * limit)
    axes.set_xlabel("tables a worker", color=INK)
    axes.set_ylabel("seconds", color=INK)


def _by_size(axes: "Axes", figures: Mapping[str, Any]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    _title(axes, "Tables a worker, in time", "99 of 100 changes in time, 0.1 % of the time without new music at most")
    for overtaking, colour in ((False, FOURTH), (True, FIRST)):
        points = [point for point in figures["carried"] if point["overtaking"] is overtaking]
        policy = _POLICIES["overtaking" if overtaking else "waiting"]
        axes.plot(
            [point["workers"] for point in points],
            [point["tables"] / point["workers"] for point in points],
            "o-",
            color=colour,
            markersize=5,
            label=f"a change {policy}",
        )
    most = figures["curve"]["most_tables"]
    axes.axhline(most, color=SECOND, linewidth=1.2, linestyle=(0, (4, 3)), label="never at rest, and no mood changes")
    workers = sorted({point["workers"] for point in figures["carried"]})
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(workers))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("workers in the cluster", color=INK)
    axes.set_ylabel("tables", color=INK)


def _title(axes: "Axes", title: str, below: str) -> None:
    dress(axes)
    axes.text(0, 1.095, title, transform=axes.transAxes, color=INK, fontsize=11.5, fontweight="bold")
    axes.text(0, 1.03, below, transform=axes.transAxes, color=_FAINT, fontsize=9)
