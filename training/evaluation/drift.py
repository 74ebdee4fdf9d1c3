"""Does a long stream wander off? Its minutes against one another: level, brightness, tuning, an ear's impression."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.errors import EvaluationError
from training.evaluation.excerpts import Excerpt, Sound
from training.evaluation.loudness import measure
from training.manifest import SAMPLE_RATE

Values = NDArray[np.float64]

MINUTE: Final = 60 * SAMPLE_RATE
PERMUTATIONS: Final = 4_999
FEWEST: Final = 5  #: minutes that can be put into enough orders to tell a trend from chance
_FFT: Final = 16_384  #: bins of 2.9 Hz: partials a semitone apart are told apart from about 150 Hz up
_BLOCK: Final = 64  #: spectra at a time
_PITCHED_HZ: Final = (150, 2_000)
_PROMINENT: Final = 0.03  #: of a spectrum's peak; weaker partials say little about tuning


@dataclass(frozen=True, slots=True)
class Minute:
    """What one minute is like.

    Attributes:
        level: LUFS.
        centroid: of its spectrum, Hz; 0 in silence.
        tuning: of its partials against A = 440 Hz in equal temperament, cents, −50 to 50.
    """

    level: float
    centroid: float
    tuning: float


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a stream has moved from its first minute to its last.

    Attributes:
        distance: between the first and the last.
        usual: between two neighbours, the median.
        p_value: of minutes farther apart in time being no farther apart in this, by permutation of the minutes (Mantel
            1967); ``None`` with fewer than five. It takes minutes for exchangeable but for the drift, so music in long
            sections comes out lower by its nature: hold it against a recording's.
    """

    distance: float
    usual: float
    p_value: float | None


@dataclass(frozen=True, slots=True)
class Drifts:
    """What can be measured of a stream's minutes without an ear.

    Attributes:
        first: its first minute.
        last: its last.
        level: LU.
        centroid: octaves.
        tuning: cents; a drift of more than half a semitone is followed from minute to minute.
    """

    first: Minute
    last: Minute
    level: Drift
    centroid: Drift
    tuning: Drift


def minutes(sound: Sound, length: int = MINUTE) -> list[Minute]:
    """A stream's whole minutes, or pieces of another ``length`` in samples, one after the other."""
    return [_minute(sound[first : first + length]) for first in range(0, len(sound) - length + 1, length)]


def drifts(pieces: Sequence[Minute], random: np.random.Generator) -> Drifts:
    """How far a stream's minutes have moved.

    Raises:
        EvaluationError: there are fewer than two.
    """
    if len(pieces) < 2:
        raise EvaluationError("drift takes a stream of two minutes at least: make it longer")
    return Drifts(
        pieces[0],
        pieces[-1],
        drift(_apart(np.array([one.level for one in pieces])), random),
        drift(_apart(np.log2([max(one.centroid, 20.0) for one in pieces])), random),
        drift(_apart(np.unwrap([one.tuning for one in pieces], period=100)), random),
    )


def impressions_apart(impressions: NDArray[np.floating]) -> Values:
    """Cosine distances between an ear's impressions of the minutes.

    Args:
        impressions: [minutes, features], each the mean of a minute's embeddings.

    Returns:
        [minutes, minutes], for :func:`drift`.
    """
    unit = impressions / np.maximum(np.linalg.norm(impressions, axis=1, keepdims=True), 1e-12)
    distances: Values = 1 - unit.astype(np.float64) @ unit.T
    return distances


def drift(distances: Values, random: np.random.Generator) -> Drift:
    """How far minutes have moved, by all their distances from one another, [minutes, minutes]."""
    count = len(distances)
    lag = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    usual = float(np.median(np.diagonal(distances, 1)))
    if count < FEWEST:
        return Drift(float(distances[0, -1]), usual, None)
    # Permuting the minutes leaves both means and deviations as they are: the product alone decides.
    orders = random.permuted(np.tile(np.arange(count), (PERMUTATIONS, 1)), axis=1)
    permuted = np.einsum("ij,pij->p", lag, distances[orders[:, :, None], orders[:, None, :]])
    as_great = int((permuted >= float((lag * distances).sum()) * (1 - 1e-9)).sum())
    return Drift(float(distances[0, -1]), usual, (1 + as_great) / (1 + PERMUTATIONS))


def _apart(values: Values) -> Values:
    distances: Values = np.abs(np.subtract.outer(values, values))
    return distances


def _minute(sound: Sound) -> Minute:
    window = np.hanning(_FFT).astype(np.float32)
    frames = sound[: len(sound) // _FFT * _FFT].reshape(-1, _FFT)
    frequency = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    total, turn = np.zeros(len(frequency)), 0j
    for first in range(0, len(frames), _BLOCK):
        amplitude = np.abs(np.fft.rfft(frames[first : first + _BLOCK] * window, axis=1))
        total += amplitude.sum(axis=0)
        turn += _tuning(amplitude)
    centroid = float((total * frequency).sum() / total.sum()) if total.any() else 0.0
    return Minute(measure(Excerpt(sound, None, "")).integrated, centroid, float(np.angle(turn)) / (2 * np.pi) * 100)


def _tuning(amplitude: NDArray[np.floating]) -> complex:
    """Where partials lie between the semitones: the sum of a pointer for each, a full turn to a semitone."""
    low, high = (round(hertz * _FFT / SAMPLE_RATE) for hertz in _PITCHED_HZ)
    left, middle, right = (amplitude[:, low + shift : high + shift] for shift in (-1, 0, 1))
    floor = _PROMINENT * np.maximum(amplitude.max(axis=1, keepdims=True), 1e-6)
    spectrum, place = np.nonzero((middle > left) & (middle >= right) & (middle > floor))
    # A peak lies at the top of the parabola through three log amplitudes (Smith & Serra 1987).
    a, b, c = (np.log(np.maximum(part[spectrum, place], 1e-12)) for part in (left, middle, right))
    bins = low + place + 0.5 * (a - c) / (a - 2 * b + c)
    semitones = 12 * np.log2(bins * SAMPLE_RATE / _FFT / 440)
    return complex((middle[spectrum, place] * np.exp(2j * np.pi * semitones)).sum())
