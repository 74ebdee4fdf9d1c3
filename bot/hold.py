"""Going on when nothing new comes: an endless, seamless continuation of what was last heard.

The end of what was heard is sought again earlier in it (normalised cross-correlation, as in WSOLA: Verhelst and
Roelands 1993), and what followed *there* follows here too, so that beat and chord go on. The first samples need a
partner to be faded from, and nothing comes after the end: the end played backwards is that partner, since it alone
begins at the very value where the sound stood.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.protocol import CHANNELS, SAMPLE_RATE

Samples = NDArray[np.float32]  #: (samples, CHANNELS), in units of int16

HISTORY_SECONDS: Final = 8
FADE_SAMPLES: Final = SAMPLE_RATE // 2  #: where the loop closes
ENTRY_SAMPLES: Final = SAMPLE_RATE // 50  #: backwards is heard for no longer than this
MIN_LOOP_SAMPLES: Final = 2 * SAMPLE_RATE
_MATCH_SAMPLES: Final = 6 * SAMPLE_RATE // 5  #: two beats of slow music
_STRIDE: Final = 8  #: the coarse search runs at 6 kHz


def equal_power(samples: int, correlation: float = 0.0) -> tuple[Samples, Samples]:
    """Gains out and in, (samples, 1) each, from exactly 1 and 0 to 0 and 1, under which the power stays even.

    Args:
        samples: length of the fade.
        correlation: of the two sounds. Alike sounds add in amplitude, not in power, and would swell by up to 3 dB
            in the middle. Opposite ones can't be helped by a gain, so a negative correlation counts as none.
    """
    angle = np.linspace(0, np.pi / 2, samples, dtype=np.float32)[:, None]
    out, into = np.cos(angle), np.sin(angle)
    swell = np.sqrt(1 + 2 * max(0.0, min(1.0, correlation)) * out * into)
    return (out / swell).astype(np.float32), (into / swell).astype(np.float32)


def cross_fade(old: Samples, new: Samples) -> Samples:
    """``old`` turning into ``new`` at equal power over the whole of their common length."""
    norm = float(np.sqrt(np.vdot(old, old) * np.vdot(new, new)))
    correlation = float(np.vdot(old, new)) / norm if norm > 0 else 0.0
    out, into = equal_power(len(old), correlation)
    return old * out + new * into


class Extension:
    """What was heard, going on for ever. :meth:`take` is called for piece after piece."""

    def __init__(self, heard: NDArray[np.int16]) -> None:
        """Begins right after ``heard``'s last sample.

        Args:
            heard: (samples, CHANNELS), the longer the better; only its last ``HISTORY_SECONDS`` count.
        """
        past = heard[-HISTORY_SECONDS * SAMPLE_RATE :].astype(np.float32)
        if len(past) < 4:
            past = np.zeros((4, CHANNELS), np.float32)
        fade = min(FADE_SAMPLES, len(past) // 4)
        lag = _best_lag(past, fade)
        end = len(past)
        self._loop = past[end - lag :].copy()
        # The loop's end turns into what led up to its beginning.
        self._loop[lag - fade :] = cross_fade(self._loop[lag - fade :], past[end - lag - fade : end - lag])
        entry = min(ENTRY_SAMPLES, lag - fade)
        self._entry = cross_fade(past[: -entry - 1 : -1], self._loop[:entry])
        self._position = 0

    @property
    def period(self) -> int:
        """After how many samples it repeats."""
        return len(self._loop)

    def take(self, samples: int) -> Samples:
        """The next ``samples`` of it."""
        places = np.arange(self._position, self._position + samples)
        piece = self._loop[places % len(self._loop)]
        fresh = max(0, min(samples, len(self._entry) - self._position))
        piece[:fresh] = self._entry[self._position : self._position + fresh]
        self._position += samples
        return piece


def _best_lag(past: Samples, fade: int) -> int:
    """How far back what followed ``past``'s end before begins: the longest of the nearly best matches."""
    match = min(_MATCH_SAMPLES, len(past) // 8)
    longest = len(past) - max(fade, match)
    shortest = min(MIN_LOOP_SAMPLES, longest // 2)
    if match < _STRIDE:
        return longest
    mono = past[:, 0] + past[:, 1]
    usable = len(mono) // _STRIDE * _STRIDE
    coarse = mono[-usable:].reshape(-1, _STRIDE).mean(axis=1)
    scores = _correlate(coarse, match // _STRIDE)
    first, last = -(-shortest // _STRIDE), longest // _STRIDE
    candidates = scores[first:last]
    best = float(candidates.max())
    if best <= 0:
        return longest
    lag = (first + int(np.flatnonzero(candidates >= 0.95 * best)[-1])) * _STRIDE
    # At 6 kHz the phase of a treble partial is still anyone's guess: settle it at the full rate.
    nearby = range(max(shortest, lag - _STRIDE), min(longest, lag + _STRIDE) + 1)
    end = mono[-match:]
    return max(nearby, key=lambda shift: float(end @ mono[len(mono) - match - shift : len(mono) - shift]))


def _correlate(signal: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """At [lag]: normalised correlation of the last ``length`` samples with those that lie ``lag`` earlier."""
    size = 1 << (len(signal) + length - 1).bit_length()
    template = signal[-length:]
    raw = np.fft.irfft(np.fft.rfft(signal, size) * np.conj(np.fft.rfft(template, size)), size)
    products = raw[: len(signal) - length + 1][::-1]
    energy = np.concatenate(([0.0], np.cumsum(signal.astype(np.float64) ** 2)))
    energies = (energy[length:] - energy[:-length])[::-1]
    scores: NDArray[np.float64] = products / np.sqrt(np.maximum(energies, 1.0) * max(float(energies[0]), 1.0))
    return scores
