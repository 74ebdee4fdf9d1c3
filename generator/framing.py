"""Waveform ↔ short-time spectra, [frames, bins], as fast as a CPU goes.

The same sums as ``torch.stft`` and ``torch.istft``, in half the time: nothing is transposed, and frames are added where
they overlap hop by hop.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


class Framing:
    """A stretch of sound as ``frames`` overlapping frames, the first of them from its first sample on."""

    def __init__(self, frames: int, hop: int, window: Tensor) -> None:
        """Lay the frames out.

        Args:
            frames: how many.
            hop: samples from one to the next.
            window: [n_fft], of analysis and synthesis alike.
        """
        self.frames, self.hop, self.window = frames, hop, window
        self.samples = (frames - 1) * hop + len(window)
        self._hops = -(-len(window) // hop)  # in a frame
        self._whole = window.new_zeros(frames, self._hops * hop)  # frames, filled up to whole hops
        weight = self._add(F.pad(window.square(), (0, self._hops * hop - len(window))).expand_as(self._whole))
        self._weight = weight.clamp(min=1e-6)  # 0 where the first frame's window begins

    def spectra(self, wave: Tensor) -> Tensor:
        """[samples] → [frames, bins], complex."""
        framed = wave.as_strided((self.frames, len(self.window)), (self.hop, 1))
        spectra: Tensor = torch.fft.rfft(framed * self.window)
        return spectra

    def wave(self, spectra: Tensor) -> Tensor:
        """The waveform whose spectra are nearest (Griffin & Lim 1984, equation 6): [frames, bins] → [samples]."""
        framed = torch.fft.irfft(spectra, len(self.window))
        torch.mul(framed, self.window, out=self._whole[:, : len(self.window)])
        wave: Tensor = self._add(self._whole).div_(self._weight)
        return wave

    def _add(self, whole: Tensor) -> Tensor:
        """Add frames where they overlap: [frames, hops · hop] → [samples]."""
        pieces = whole.reshape(self.frames, self._hops, self.hop)
        total = whole.new_zeros(self.frames + self._hops - 1, self.hop)
        for place in range(self._hops):
            total[place : place + self.frames] += pieces[:, place]
        return total.flatten()[: self.samples]
