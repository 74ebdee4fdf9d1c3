"""How loud: integrated loudness (ITU-R BS.1770-4, with its two gates) and loudness range (EBU Tech 3342).

A mono sound counts as one loudspeaker, as in the recommendation; a table that hears it from two hears 3 LU more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.evaluation.excerpts import Excerpt, Sound
from training.manifest import SAMPLE_RATE

SILENT_LUFS: Final = -70.0  #: BS.1770's absolute gate: what stays below it has no loudness
_OFFSET: Final = -0.691  #: BS.1770-4, equation 2
_RELATIVE_GATE_LU: Final = -10.0  #: BS.1770-4, equation 6
_RANGE_GATE_LU: Final = -20.0  #: EBU Tech 3342, section 3
_RANGE_PERCENTILES: Final = (10, 95)
_STEP: Final = SAMPLE_RATE // 10  #: blocks begin 0.1 s apart: momentary ones overlap by 75 %
_MOMENTARY_STEPS: Final = 4  #: 0.4 s
_SHORT_TERM_STEPS: Final = 30  #: 3 s

#: The two biquads of BS.1770-4, tables 1 and 2, for 48 kHz: (b0, b1, b2), (1, a1, a2).
_SHELF: Final = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGH_PASS: Final = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
_RINGING: Final = SAMPLE_RATE // 2  #: samples after which the filters have died away, by far

Powers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loudness:
    """One excerpt's loudness.

    Attributes:
        integrated: LUFS; ``SILENT_LUFS`` where nothing is above the gate, or the sound is shorter than 0.4 s.
        range: LU, how far its quiet and its loud parts lie apart; 0 where it is silent or shorter than 3 s.
            Grows with length: compare excerpts that are equally long.
    """

    integrated: float
    range: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The loudness of many.

    Attributes:
        silent: how many have no loudness; they are left out of the other figures.
        median: LUFS; ``SILENT_LUFS`` if all are silent.
        spread: LU between the 10th and the 90th percentile of them; 0 if all are silent.
        range: LU, the median of their ranges; 0 if all are silent.
    """

    silent: int
    median: float
    spread: float
    range: float


def measure(excerpt: Excerpt) -> Loudness:
    """Loudness and loudness range of one excerpt."""
    powers = _weighted_powers(excerpt.heard)
    momentary = _gated(_moving_mean(powers, _MOMENTARY_STEPS), _RELATIVE_GATE_LU)
    short_term = _gated(_moving_mean(powers, _SHORT_TERM_STEPS), _RANGE_GATE_LU)
    low, high = np.percentile(_lufs(short_term), _RANGE_PERCENTILES) if len(short_term) else (0.0, 0.0)
    return Loudness(float(_lufs(momentary.mean())) if len(momentary) else SILENT_LUFS, float(high - low))


def summary(found: Sequence[Loudness]) -> Summary:
    """What there is to say of many excerpts of one length."""
    heard = [one for one in found if one.integrated > SILENT_LUFS]
    if not heard:
        return Summary(len(found), SILENT_LUFS, 0.0, 0.0)
    low, median, high = np.percentile([one.integrated for one in heard], (10, 50, 90))
    return Summary(
        len(found) - len(heard), float(median), float(high - low), float(np.median([one.range for one in heard]))
    )


def _weighted_powers(sound: Sound) -> Powers:
    """Mean square of the K-weighted sound in each whole step of 0.1 s, by one FFT of it all, padded for the ringing."""
    count = len(sound) + _RINGING
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(count))
    response = _response(_SHELF, turn) * _response(_HIGH_PASS, turn)
    weighted = np.fft.irfft(np.fft.rfft(sound.astype(np.float64), count) * response, count)
    steps = len(sound) // _STEP
    powers: Powers = np.square(weighted[: steps * _STEP].reshape(steps, _STEP)).mean(axis=1)
    return powers


def _response(
    biquad: tuple[tuple[float, float, float], tuple[float, float, float]], turn: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """A biquad's gain at each z⁻¹ in ``turn``."""
    above, below = (c[0] + c[1] * turn + c[2] * turn**2 for c in biquad)
    gain: NDArray[np.complex128] = above / below
    return gain


def _moving_mean(powers: Powers, steps: int) -> Powers:
    """The power of each block of ``steps``, one beginning at each step; none if there are fewer steps."""
    if len(powers) < steps:
        return np.empty(0)
    means: Powers = np.lib.stride_tricks.sliding_window_view(powers, steps).mean(axis=1)
    return means


def _gated(powers: Powers, relative: float) -> Powers:
    """The blocks above the absolute gate, and of these the ones above the gate relative to their mean."""
    kept = powers[_lufs(powers) > SILENT_LUFS]
    return kept[_lufs(kept) > _lufs(kept.mean()) + relative] if len(kept) else kept


def _lufs(power: Powers | np.float64) -> Powers:
    """LUFS of a mean square of K-weighted samples; far below the gate where there are none."""
    return np.asarray(_OFFSET + 10 * np.log10(np.maximum(power, 1e-12)))
