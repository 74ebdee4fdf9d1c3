"""Loudness as the ear weighs it (ITU-R BS.1770-4), of short pieces, with nothing but an FFT."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.protocol import SAMPLE_RATE

MOMENTARY_SECONDS: Final = 0.4
FLOOR_LUFS: Final = -70.0  #: BS.1770's absolute gate: below it nothing counts as sound

#: The two biquads of BS.1770-4, tables 1 and 2, for 48 kHz: (b0, b1, b2), (1, a1, a2).
_SHELF: Final = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGH_PASS: Final = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))


def lufs(audio: NDArray[np.float32]) -> float:
    """Loudness of the whole piece.

    Args:
        audio: (samples, channels), full scale ±1, 48 kHz.
    """
    if len(audio) == 0:
        return FLOOR_LUFS
    spectrum = np.abs(np.fft.rfft(audio, axis=0)) ** 2
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE) / SAMPLE_RATE)
    weighted = spectrum * (_response(_SHELF, turn) * _response(_HIGH_PASS, turn))[:, None]
    # Parseval; a bin stands for itself and its mirror image, except at 0 Hz and at the Nyquist frequency.
    power = 2 * weighted.sum() - weighted[0].sum() - (weighted[-1].sum() if len(audio) % 2 == 0 else 0.0)
    return max(FLOOR_LUFS, -0.691 + 10 * math.log10(max(float(power) / len(audio) ** 2, 1e-12)))


def jump(audio: NDArray[np.float32], place: int) -> float:
    """By how many LU the 400 ms after sample ``place`` differ from the 400 ms before it."""
    span = round(MOMENTARY_SECONDS * SAMPLE_RATE)
    before, after = audio[max(0, place - span) : place], audio[place : place + span]
    return abs(lufs(after) - lufs(before))


def _response(
    biquad: tuple[tuple[float, float, float], tuple[float, float, float]], turn: NDArray[np.complex128]
) -> NDArray[np.float64]:
    """Power gain at each z⁻¹ in ``turn``."""
    above, below = (c[0] + c[1] * turn + c[2] * turn**2 for c in biquad)
    gain: NDArray[np.float64] = np.abs(above / below) ** 2
    return gain
