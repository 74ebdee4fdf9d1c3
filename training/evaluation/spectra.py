"""The spectrograms that the card's measures look at."""

from functools import cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from generator.config import BARD
from generator.mel import Mel
from training.evaluation.excerpts import Sound

FRAMES_PER_SECOND: Final = BARD.mel.sample_rate // BARD.mel.hop  #: of :func:`amplitude_mel`
BANDS: Final = BARD.mel.bands

Spectrogram = NDArray[np.float32]


def amplitude_spectra(sound: Sound, fft: int, hop: int) -> Spectrogram:
    """Amplitudes, [frames, fft / 2 + 1], where a sine at full scale is 1; at least one frame, of silence if need be."""
    padded = np.pad(sound, (0, max(0, fft - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft)[::hop]
    window = np.hanning(fft).astype(np.float32)
    amplitudes: Spectrogram = np.abs(np.fft.rfft(frames * window, axis=1)).astype(np.float32) * np.float32(
        2 / window.sum()
    )
    return amplitudes


def amplitude_mel(sound: Sound) -> Spectrogram:
    """The default model's Mel before its logarithm, [bands, frames] of 10 ms; at least one frame."""
    front = _front_end()
    least = front.config.n_fft
    padded = np.pad(sound, (0, max(0, least - len(sound)))).astype(np.float32)
    with torch.no_grad():
        mel: Spectrogram = front.linear(torch.from_numpy(padded)).numpy()
    return mel


def moving_mean(values: NDArray[np.floating], length: int) -> NDArray[np.float64]:
    """Mean over ``length`` places around each along the first axis; the ends are held."""
    before = length // 2
    held = np.pad(values.astype(np.float64), [(before, length - 1 - before)] + [(0, 0)] * (values.ndim - 1), "edge")
    sums = np.cumsum(np.concatenate((np.zeros_like(held[:1]), held)), axis=0)
    means: NDArray[np.float64] = (sums[length:] - sums[:-length]) / length
    return means


@cache
def _front_end() -> Mel:
    return Mel(BARD.mel)
