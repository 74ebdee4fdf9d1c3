"""Does a long stream show where its windows meet? Each splice against places of the same stream that have none.

A splice is a sample from which a new window sounds, faded in over ``fade`` samples. What is measured there says little
by itself, since music jumps and clicks too; so it is held against the same measured at controls. In a recording, with
splices invented at random, the two don't differ: that is the ceiling.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.errors import EvaluationError
from training.evaluation.excerpts import Excerpt, Sound
from training.evaluation.loudness import measure
from training.manifest import SAMPLE_RATE

Places = NDArray[np.int64]  #: samples
Values = NDArray[np.float64]

PATCH: Final = 3 * SAMPLE_RATE  #: room on either side of a place, for an ear
CLEAR: Final = 4 * SAMPLE_RATE // 5  #: between a control and the nearest splice; more than any measure here reaches
RESAMPLES: Final = 4_999
WORST: Final = 3

_MOMENTARY: Final = 2 * SAMPLE_RATE // 5  #: 0.4 s, as in BS.1770
_FLUX_FFT: Final = 1_024  #: 21 ms
_FLUX_HOP: Final = 240  #: 5 ms
_FLUX_LAG: Final = 2  #: hops between the spectra that are compared
_FLUX_FLOOR: Final = 1e-3  #: of an amplitude, relative to the RMS around: 60 dB below count as silence
_CLICK_REACH: Final = SAMPLE_RATE // 1_000
_CLICK_AROUND: Final = SAMPLE_RATE // 50


@dataclass(frozen=True, slots=True)
class Contrast:
    """A measure at splices against the same at controls.

    Attributes:
        splices: how many.
        at_splices: mean.
        at_controls: mean.
        ratio: of the two; 1 where a splice is a place like any other.
        interval: of the ratio, 95 % by bootstrap.
        p_value: of splices being no greater, by permutation; one-sided.
        share_above: of splices that exceed 95 % of the controls; 0.05 where there is no difference.
        worst: seconds of the splices with the greatest values, to listen to.
    """

    splices: int
    at_splices: float
    at_controls: float
    ratio: float
    interval: tuple[float, float]
    p_value: float
    share_above: float
    worst: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Seams:
    """What can be measured of splices without an ear.

    Attributes:
        flux: sudden rise of the spectrum within 10 ms, mean over its bins, dB.
        step: difference between the loudness before and after, LU.
        click: the sharpest corner of the wave, as a multiple of what is usual around it.
    """

    flux: Contrast
    step: Contrast
    click: Contrast


def inside(splices: Sequence[int], length: int, fade: int = 0) -> Places:
    """The splices that have room for a patch on either side, in a stream of ``length`` samples."""
    places = np.asarray(splices, np.int64)
    kept: Places = places[(places >= PATCH) & (places <= length - PATCH - fade)]
    return kept


def pseudo_splices(length: int, count: int, random: np.random.Generator, fade: int = 0) -> Places:
    """Splices invented for a recording that has none.

    Raises:
        EvaluationError: the recording is too short.
    """
    return controls((), length, count, random, fade)


def controls(
    splices: Sequence[int],
    length: int,
    count: int,
    random: np.random.Generator,
    fade: int = 0,
    beat: float | None = None,
) -> Places:
    """Places away from all splices, drawn at random.

    Args:
        splices: samples; all that the stream has.
        length: of the stream, samples.
        count: how many places are wanted.
        random: draws them.
        fade: samples over which a window is faded in.
        beat: samples from beat to beat, where the stream keeps one tempo. Each control then lies whole beats away from
            a splice, lest splices that fall on beats more often than not be blamed for the beats.

    Raises:
        EvaluationError: the splices, or the stream's length, leave no room.
    """
    bounds = np.sort(np.asarray(splices, np.int64))
    lows = np.concatenate([[PATCH], np.maximum(PATCH, bounds + fade + CLEAR)])
    last = length - PATCH - fade
    highs = np.concatenate([np.minimum(last, bounds - fade - CLEAR), [last]])
    if beat is None:
        sizes = np.maximum(0, highs - lows + 1)
        room = np.cumsum(sizes)
        if room[-1] > 0:
            drawn = random.integers(0, room[-1], count)
            gap = np.searchsorted(room, drawn, side="right")
            return np.sort(lows[gap] + drawn - (room - sizes)[gap])
    else:
        away = np.concatenate([np.arange(-16, 0), np.arange(1, 17)]) * beat
        places = np.round(bounds[:, None] + away).astype(np.int64).reshape(-1)
        gap = np.searchsorted(bounds, places, side="right")
        free = places[(places >= lows[gap]) & (places <= highs[gap])]
        if len(free):
            return np.sort(random.choice(free, count, replace=len(free) < count))
    raise EvaluationError(
        "there is no place away from the splices to compare them with: make the stream longer, or its windows"
    )


def around(sound: Sound, place: int, samples: int, fade: int = 0) -> tuple[Sound, Sound]:
    """What sounds before a place, and what sounds once it is faded over; both are views."""
    return sound[place - samples : place], sound[place + fade : place + fade + samples]


def seams(sound: Sound, splices: Places, elsewhere: Places, random: np.random.Generator, fade: int = 0) -> Seams:
    """Hold a stream's splices against controls.

    Args:
        sound: [samples], mono, 48 kHz, finite.
        splices: where windows take over, those :func:`inside`.
        elsewhere: from :func:`controls`.
        random: resamples.
        fade: samples over which a window is faded in.
    """

    def held(measured: Callable[[Sound, int, int], float]) -> Contrast:
        here, there = (np.array([measured(sound, int(place), fade) for place in at]) for at in (splices, elsewhere))
        return contrast(here, there, splices, random)

    return Seams(held(flux), held(step), held(click))


def flux(sound: Sound, place: int, fade: int = 0) -> float:
    """The steepest rise of the spectrum while one window gives way to the next, dB; 0 in silence."""
    margin = _FLUX_FFT + _FLUX_HOP * _FLUX_LAG
    piece = sound[place - margin : place + fade + margin]
    rms = float(np.sqrt(np.square(sound[place - _MOMENTARY : place + fade + _MOMENTARY]).mean()))
    if rms == 0:
        return 0.0
    views = np.lib.stride_tricks.sliding_window_view(piece, _FLUX_FFT)[::_FLUX_HOP]
    window = np.hanning(_FLUX_FFT).astype(np.float32)
    amplitude = np.abs(np.fft.rfft(views * window, axis=1)) * (2 / window.sum() / rms)
    level = 20 * np.log10(amplitude + _FLUX_FLOOR)
    return float(np.maximum(0, level[_FLUX_LAG:] - level[:-_FLUX_LAG]).mean(axis=1).max())


def step(sound: Sound, place: int, fade: int = 0) -> float:
    """By how many LU the 0.4 s after a place are louder or quieter than the 0.4 s before."""
    before, after = (measure(Excerpt(one, None, "")).integrated for one in around(sound, place, _MOMENTARY, fade))
    return abs(after - before)


def click(sound: Sound, place: int, fade: int = 0) -> float:
    """The sharpest corner where a window begins, or where the last one ends, by what is usual around; 0 in silence."""
    sharpest = 0.0
    for corner in {place, place + fade}:
        bend = np.abs(np.diff(sound[corner - _CLICK_AROUND : corner + _CLICK_AROUND], 2))
        near = slice(_CLICK_AROUND - 1 - _CLICK_REACH, _CLICK_AROUND - 1 + _CLICK_REACH + 1)
        usual = float(np.sqrt(np.square(np.delete(bend, near)).mean()))
        sharpest = max(sharpest, float(bend[near].max()) / max(usual, 1e-5))
    return sharpest


def jumps(before: NDArray[np.floating], after: NDArray[np.floating]) -> Values:
    """How far an ear's impression changes across each place: cosine distance, 0 to 2.

    Args:
        before: [places, features], embeddings of what sounds before.
        after: [places, features], of what sounds after.
    """
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    distance: Values = 1 - (before * after).sum(axis=1) / np.maximum(norms, 1e-12)
    return distance


def contrast(here: Values, there: Values, splices: Places, random: np.random.Generator) -> Contrast:
    """Values at splices against values at controls, both 0 or more.

    Raises:
        EvaluationError: there are fewer than two of either.
    """
    if min(len(here), len(there)) < 2:
        raise EvaluationError("seams take a stream of several windows: make it longer")
    ratio = _ratio(here.mean(), there.mean())
    resampled = _ratio(
        *(one[random.integers(0, len(one), (RESAMPLES, len(one)))].mean(axis=1) for one in (here, there))
    )
    both = np.tile(np.concatenate([here, there]), (RESAMPLES, 1))
    sums = random.permuted(both, axis=1)[:, : len(here)].sum(axis=1)
    as_great = int((sums >= here.sum() * (1 - 1e-9)).sum())
    low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
    return Contrast(
        splices=len(here),
        at_splices=float(here.mean()),
        at_controls=float(there.mean()),
        ratio=float(ratio),
        interval=(low, high),
        p_value=(1 + as_great) / (1 + RESAMPLES),
        share_above=float((here > np.quantile(there, 0.95)).mean()),
        worst=tuple((splices[np.argsort(-here)[:WORST]] / SAMPLE_RATE).tolist()),
    )


def _ratio(above: Values | np.floating, below: Values | np.floating) -> Values:
    # Where nothing happens anywhere, a splice is a place like any other.
    return np.asarray((above + 1e-9) / (below + 1e-9))
