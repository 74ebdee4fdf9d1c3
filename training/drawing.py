"""How this house draws: one dark style, files whole or not at all."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from training.errors import RunError
from training.state import unwritable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKGROUND: Final = "#101014"
INK: Final = "#e8e6e3"
FIRST: Final = "#c9a227"
SECOND: Final = "#4c956c"
THIRD: Final = "#7fa7c9"
FOURTH: Final = "#b5446e"
COLOURS: Final = (FIRST, SECOND, THIRD, FOURTH, "#9a86c9", "#d98e4a", "#8fa31e", "#c7c4bd")


def new_figure(wide: float, high: float) -> "Figure":
    """An empty figure of so many inches at 110 dots."""
    # Not pyplot: its figures live in a global registry and its back end may look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=110, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    return figure


def dress(axes: "Axes", title: str = "") -> None:
    """The house's colours for axes."""
    axes.set_facecolor(BACKGROUND)
    axes.tick_params(colors=INK, which="both", labelsize=8)
    for spine in axes.spines.values():
        spine.set_color("#4a4a52")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
    if title:
        axes.set_title(title, color=INK, fontsize=10)


def save(figure: "Figure", path: Path) -> Path:
    """Write it as PNG.

    Raises:
        RunError: the place can't be written to.
    """
    partial = path.with_suffix(".part")
    try:
        figure.savefig(partial, format="png", facecolor=BACKGROUND)
        partial.replace(path)
    except OSError as error:
        raise RunError(unwritable(path)) from error
    finally:
        with suppress(OSError):  # what goes wrong there went wrong before
            partial.unlink(missing_ok=True)
    return path
