"""Loudness as the ear weighs it (ITU-R BS.1770-4), of short pieces, with nothing but an FFT. Torch-free."""

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.protocol import SAMPLE_RATE

MOMENTARY_SECONDS: Final = 0.4  #: a stroke (EBU Tech 3341)
SHORT_TERM_SECONDS: Final = 3.0  #: some bars: how loud music is, whatever its strokes and rests
FLOOR_LUFS: Final = -70.0  #: BS.1770's absolute gate: below it nothing counts as sound

_RINGING: Final = SAMPLE_RATE // 5  #: samples after which the filters have died away, by 120 dB and more

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
    spectrum = np.abs(np.fft.rfft(audio, axis=0) * _response(len(audio))[:, None]) ** 2
    # Parseval; a bin stands for itself and its mirror image, except at 0 Hz and at the Nyquist frequency.
    power = 2 * spectrum.sum() - spectrum[0].sum() - (spectrum[-1].sum() if len(audio) % 2 == 0 else 0.0)
    return loudness(float(power) / len(audio) ** 2)


def powers(sound: NDArray[np.float32], step: int) -> NDArray[np.float64]:
    """Mean square of the K-weighted sound in each whole step.

    Args:
        sound: [samples], mono, full scale ±1, 48 kHz; what lies before it is silent.
        step: samples.

    Returns:
        [samples // step]
    """
    steps = len(sound) // step
    size = 1 << (len(sound) + _RINGING).bit_length()
    weighted = np.fft.irfft(np.fft.rfft(sound, size) * _response(size), size)[: steps * step]
    means: NDArray[np.float64] = np.square(weighted).reshape(steps, step).mean(axis=1)
    return means


def loudness(power: float) -> float:
    """LUFS of a mean square of K-weighted samples, all channels' added up."""
    return max(FLOOR_LUFS, -0.691 + 10 * math.log10(max(power, 1e-12)))


def jump(audio: NDArray[np.float32], place: int, seconds: float = MOMENTARY_SECONDS) -> float:
    """By how many LU the ``seconds`` after sample ``place`` differ from as many before it."""
    span = round(seconds * SAMPLE_RATE)
    before, after = audio[max(0, place - span) : place], audio[place : place + span]
    return abs(lufs(after) - lufs(before))


@lru_cache(maxsize=4)
def _response(size: int) -> NDArray[np.complex128]:
    """Of both filters, at the frequencies of a real FFT of so many samples."""
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    shelf, high_pass = (
        (above[0] + above[1] * turn + above[2] * turn**2) / (below[0] + below[1] * turn + below[2] * turn**2)
        for above, below in (_SHELF, _HIGH_PASS)
    )
    both: NDArray[np.complex128] = shelf * high_pass
    return both
