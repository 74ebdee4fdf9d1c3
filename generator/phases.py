"""First phases for spectra of which only the amplitudes are known: single-pass spectrogram inversion.

Beauregard, Harish & Wyse 2015: each spectral peak is taken for a sinusoid and its phase advances by its frequency, from
frame to frame; the bins round a peak follow it. Griffin-Lim that begins so is after four iterations where it is after
twenty-four from random phases. Of noise it makes pulses, one in the middle of each frame, so it is for partials.
"""

from typing import Final

import torch
from torch import Tensor

QUIETEST: Final = 1e-7  #: of an amplitude, before the logarithm


def first_phases(amplitude: Tensor, before: Tensor, hop: int, n_fft: int) -> Tensor:
    """Phases that go on from those of the frame before.

    Args:
        amplitude: [frames, bins], from 0 Hz on, as many as are wanted.
        before: [bins], phases one hop before the first frame.
        hop: samples from one frame to the next.
        n_fft: samples of a frame.

    Returns:
        [frames, bins], radians, counted as an FFT does from a frame's first sample.
    """
    peak, frequency = _peaks(amplitude)
    advance = frequency * (hop / n_fft)
    advance[1:] = 0.5 * (advance[1:] + advance[:-1].gather(1, peak[1:]))  # the mean of its two ends
    advance = advance.frac()
    # In turns, and from a frame's middle, where the bins round a peak agree.
    half_turns = 0.5 * torch.arange(amplitude.shape[1], device=amplitude.device)
    phases = torch.empty_like(advance)
    turns = before / (2 * torch.pi) + half_turns
    # Frame by frame, since a bin goes on from wherever its peak was.
    for where, step, out in zip(peak.unbind(), advance.unbind(), phases.unbind(), strict=True):
        turns = torch.add(turns.index_select(0, where), step, out=out)
    return (phases - half_turns).frac_() * (2 * torch.pi)


def _peaks(amplitude: Tensor) -> tuple[Tensor, Tensor]:
    """For each bin of each frame, the bin of the nearest peak, and that peak's frequency in bins: [frames, bins] both.

    The frequency is the top of a parabola through the logarithms of the peak and its neighbours (Smith & Serra 1987).
    """
    level = amplitude.clamp(min=QUIETEST).log_()
    left, middle, right = level[:, :-2], level[:, 1:-1], level[:, 2:]
    is_peak = torch.zeros_like(amplitude, dtype=torch.bool)
    is_peak[:, 1:-1] = (middle > left) & (middle >= right)
    bins = torch.arange(amplitude.shape[1], device=amplitude.device)
    frequency = bins.to(amplitude.dtype).repeat(len(amplitude), 1)
    curve = (left - 2 * middle + right).clamp_(max=-QUIETEST)
    frequency[:, 1:-1] += ((left - right) / (2 * curve)).clamp_(-0.5, 0.5)

    beyond = 2 * len(bins)  # so far off that a peak on the other side is nearer, where there is one
    below = torch.where(is_peak, bins, -beyond).cummax(1).values
    above = torch.where(is_peak, bins, beyond).flip(1).cummin(1).values.flip(1)
    nearest = torch.where(bins - below <= above - bins, below, above)
    peak = torch.where(nearest.abs() < beyond, nearest, bins)  # where there is none at all, each for itself
    return peak, frequency.gather(1, peak)
