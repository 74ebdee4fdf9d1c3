"""Mono → stereo that folds back to the very same mono.

A side signal is the sound through a short, sparse, noise-like filter (velvet noise: Alary, Politis & Välimäki 2017),
without its bass. Left is mid + side and right mid − side, so their mean is the mid, whatever the filter.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.protocol import SAMPLE_RATE

Samples = NDArray[np.float32]

FILTER_SAMPLES: Final = SAMPLE_RATE * 24 // 1000  #: how far back the side signal reaches: 24 ms
PULSES: Final = 30
WIDTH: Final = 0.35  #: amplitude of side over mid, above the bass
BASS_HZ: Final = 400.0  #: below, everything stays in the middle
SEED: Final = 20


def widen(past: Samples, sound: Samples) -> Samples:
    """Two channels from one.

    Args:
        past: [any samples], what sounded just before; its last ``FILTER_SAMPLES`` matter; what lacks is silent.
        sound: [samples], mono, 48 kHz.

    Returns:
        [samples, 2]
    """
    taps = _side_filter()
    lacking = np.zeros(max(0, FILTER_SAMPLES - len(past)), np.float32)
    run = np.concatenate([lacking, past[max(0, len(past) - FILTER_SAMPLES) :], sound])
    size = 1 << (len(run) + len(taps)).bit_length()
    side = np.fft.irfft(np.fft.rfft(run, size) * np.fft.rfft(taps, size), size)[FILTER_SAMPLES : len(run)]
    return np.stack([sound + side, sound - side], axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def _side_filter() -> Samples:
    """Signed pulses, one in each equal stretch, decaying by 30 dB, bass removed; [FILTER_SAMPLES + 1]."""
    random = np.random.default_rng(SEED)
    stretch = FILTER_SAMPLES / PULSES
    taps = np.zeros(FILTER_SAMPLES + 1)
    for pulse in range(PULSES):
        place = int((pulse + random.random()) * stretch)
        taps[place] = random.choice((-1, 1)) * 10 ** (-1.5 * place / FILTER_SAMPLES)
    frequencies = np.fft.rfftfreq(len(taps), 1 / SAMPLE_RATE)
    high = 1 / (1 + (BASS_HZ / np.maximum(frequencies, 1e-3)) ** 4)
    taps = np.fft.irfft(np.fft.rfft(taps) * high, len(taps))
    scaled: Samples = (WIDTH * taps / np.sqrt((taps**2).sum())).astype(np.float32)
    return scaled
