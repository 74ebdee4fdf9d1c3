"""Sound as a picture: a spectrogram over a logarithmic frequency axis, with what happened marked on it. Torch-free.

matplotlib is imported when a picture is drawn, since a bot that draws none need not have it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Mark = tuple[float, str, str]  #: seconds, label, colour (sRGB hex)

LOWEST_HZ: Final = 32.7  #: C1
HIGHEST_HZ: Final = 16_000.0
BANDS_PER_OCTAVE: Final = 28
RANGE_DB: Final = 75.0  #: what is quieter than the loudest by more than this is black
MAX_COLUMNS: Final = 1_600
_FFT: Final = 8_192  #: at 48 kHz bins of 6 Hz: semitones part from about 100 Hz up
_HOP: Final = 1_024
_BLOCK_COLUMNS: Final = 256

_BACKGROUND: Final = "#101014"
_INK: Final = "#e8e6e3"
_FAINT: Final = "#8a8791"
_TICKS: Final = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


def log_spectrogram(
    audio: NDArray[np.float32],
    sample_rate: int,
    *,
    fft: int = _FFT,
    hop: int = _HOP,
    bands_per_octave: int = BANDS_PER_OCTAVE,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Level by time and logarithmic frequency.

    Args:
        audio: (samples,) or (samples, channels), full scale ±1.
        sample_rate: in Hz.
        fft: samples in a window.
        hop: samples from one column to the next; more where there would be more than ``MAX_COLUMNS``.
        bands_per_octave: how finely pitches are told apart.

    Returns:
        Levels in dB, (bands, columns), where 0 is a sine at full scale; the bands' centres in Hz.
    """
    mono = audio.mean(axis=1) if audio.ndim == 2 else audio
    hop = max(hop, -(-len(mono) // MAX_COLUMNS))
    columns = max(1, -(-len(mono) // hop))
    padded = np.zeros(columns * hop + fft, np.float32)
    padded[fft // 2 : fft // 2 + len(mono)] = mono
    top = min(HIGHEST_HZ, sample_rate / 2)
    centres = LOWEST_HZ * 2 ** np.arange(0, np.log2(top / LOWEST_HZ), 1 / bands_per_octave)
    weights = _bands(centres, sample_rate / fft, fft // 2 + 1, bands_per_octave)
    window = np.hanning(fft).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(padded, fft)[: columns * hop : hop]
    levels = np.empty((len(centres), columns), np.float32)
    # Block by block: ten minutes would else need gigabytes for a picture of a thousand columns.
    for start in range(0, columns, _BLOCK_COLUMNS):
        block = slice(start, start + _BLOCK_COLUMNS)
        amplitude = np.abs(np.fft.rfft(views[block] * window, axis=1)) * (2 / window.sum())
        levels[:, block] = weights @ (amplitude.T**2)
    return 10 * np.log10(np.maximum(levels, 1e-12)), centres


def draw_spectrogram(
    path: Path, audio: NDArray[np.float32], sample_rate: int, title: str, marks: Sequence[Mark] = ()
) -> None:
    """Writes a PNG of the sound's spectrogram, whatever the path's suffix.

    Args:
        path: where to.
        audio: (samples,) or (samples, channels), full scale ±1.
        sample_rate: in Hz.
        title: above the picture.
        marks: lines across it, e.g. changes of mood.
    """
    # Not pyplot: its figures live in a global registry and its back end may look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    levels, centres = log_spectrogram(audio, sample_rate)
    seconds = len(audio) / sample_rate
    peak = max(float(levels.max()), -RANGE_DB)
    figure = Figure(figsize=(12, 5), dpi=125, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.065, 0.12, 0.845, 0.70))
    # In octaves above the lowest band, so that the axis is logarithmic though the image is not resampled.
    octaves = float(np.log2(centres[-1] / centres[0]))
    image = axes.imshow(
        levels,
        origin="lower",
        aspect="auto",
        extent=(0.0, max(seconds, 1e-3), 0.0, octaves),
        cmap="magma",
        vmin=peak - RANGE_DB,
        vmax=peak,
        interpolation="bilinear",
    )
    ticks = [hertz for hertz in _TICKS if centres[0] <= hertz <= centres[-1]]
    axes.set_yticks([float(np.log2(hertz / centres[0])) for hertz in ticks], [_hertz(hertz) for hertz in ticks])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, steps=[1, 1.5, 2, 3, 5, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value)))
    axes.set_xlabel("time (min:s)", color=_FAINT)
    axes.set_ylabel("frequency (Hz)", color=_FAINT)
    _draw_marks(axes, marks, seconds)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_tick_params(colors=_INK, which="both")
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(0.065, 0.93, title, color=_INK, fontsize=14, fontweight="bold")
    bar = figure.colorbar(image, cax=figure.add_axes((0.922, 0.12, 0.013, 0.70)))
    bar.set_label("level (dB)", color=_FAINT)
    bar.ax.tick_params(colors=_INK)
    bar.outline.set_visible(False)
    figure.savefig(path, format="png", facecolor=_BACKGROUND)


def _draw_marks(axes: "Axes", marks: Sequence[Mark], seconds: float) -> None:
    """A line in each mark's colour, and a flag that reaches to the next mark: what holds until then."""
    for place, (when, label, colour) in enumerate(marks):
        end = marks[place + 1][0] if place + 1 < len(marks) else seconds
        if when > 0:
            axes.axvline(when, color=_INK, linewidth=1.2, linestyle=(0, (4, 3)), alpha=0.9)
        axes.axvspan(
            when, max(when, end), ymin=1.012, ymax=1.072, facecolor=colour, edgecolor=_BACKGROUND, clip_on=False
        )
        axes.annotate(
            label,
            (when, 1.042),
            xycoords=("data", "axes fraction"),
            xytext=(5, 0),
            textcoords="offset points",
            color="white",
            fontsize=10,
            fontweight="bold",
            verticalalignment="center",
            annotation_clip=False,
        )


def _bands(centres: NDArray[np.float64], bin_hz: float, bins: int, bands_per_octave: int) -> NDArray[np.float32]:
    """(bands, bins): triangles of one band's spacing; where that is finer than a bin, the two bins around a centre."""
    place = centres / bin_hz
    width = np.maximum(place * (2 ** (1 / bands_per_octave) - 1), 1.0)
    distance = np.abs(np.arange(bins) - place[:, None]) / width[:, None]
    weights: NDArray[np.float32] = np.maximum(0.0, 1 - distance).astype(np.float32)
    return weights


def _hertz(value: int) -> str:
    return f"{value // 1000}k" if value >= 1000 else str(value)


def _clock(seconds: float) -> str:
    rounded = round(seconds, 1)
    minutes, rest = divmod(rounded, 60)
    return f"{int(minutes)}:{int(rest):02d}" + (f".{round(rest % 1 * 10)}" if rest % 1 else "")
