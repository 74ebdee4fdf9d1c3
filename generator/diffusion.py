"""The forward process, its noise schedules, and what a network's output means.

Time runs from 0 (clean) to 1 (noisiest). With signal a(t) = √ᾱ and noise s(t) = √(1 − ᾱ), the closed form is
x_t = a(t) x₀ + s(t) ε (Ho et al. 2020, equation 4).
"""

import math
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from generator.config import DiffusionConfig, Reading


class NoiseSchedule(Protocol):
    """How much signal and noise a time stands for."""

    def signal(self, t: Tensor) -> Tensor:
        """√ᾱ at times in [0, 1]; any shape, kept."""
        ...

    def noise(self, t: Tensor) -> Tensor:
        """√(1 − ᾱ) at times in [0, 1]; any shape, kept."""
        ...


class CosineSchedule:
    """ᾱ = cos²(π t / 2): Nichol & Dhariwal 2021 without offset, so the end is pure noise (zero terminal SNR)."""

    def signal(self, t: Tensor) -> Tensor:
        """√ᾱ at times in [0, 1]."""
        return torch.cos(t * (math.pi / 2)).clamp(min=0)

    def noise(self, t: Tensor) -> Tensor:
        """√(1 − ᾱ) at times in [0, 1]."""
        return torch.sin(t * (math.pi / 2))


class PaperSchedule:
    """The paper's: α = 1 − 0.9 tᵖ at the steps t = k / T, p = 1.

    Read as the factor of one step, ᾱ is the running product: long before t = 1 nothing of the signal is left (at
    T = 50, ᾱ < 10⁻⁴ from t = 0.6 on), so most steps learn nothing. Read as ᾱ itself, it ends at 0.1: what the sampler
    starts from, pure noise, is nothing that the network was trained on.
    """

    def __init__(self, steps: int, reading: Reading = "step", power: float = 1.0, zero_terminal: bool = False) -> None:
        """Tabulate ᾱ; arguments as in ``DiffusionConfig``."""
        alphas = 1 - 0.9 * (torch.arange(steps + 1, dtype=torch.float64) / steps) ** power
        cumulative = alphas.cumprod(0) if reading == "step" else alphas  # ᾱ_0 = 1
        self.steps = steps
        self.cumulative = _ended(cumulative) if zero_terminal else cumulative

    def _at(self, t: Tensor) -> Tensor:
        index = (t.double() * self.steps).round().long().clamp(0, self.steps)
        return self.cumulative.to(t.device)[index]

    def signal(self, t: Tensor) -> Tensor:
        """√ᾱ at times in [0, 1], of the nearest step."""
        return self._at(t).sqrt().to(t.dtype)

    def noise(self, t: Tensor) -> Tensor:
        """√(1 − ᾱ) at times in [0, 1], of the nearest step."""
        return (1 - self._at(t)).sqrt().to(t.dtype)


def _ended(cumulative: Tensor) -> Tensor:
    """ᾱ_0 … ᾱ_T, shifted and scaled so that √ᾱ_T is 0 and √ᾱ_1 is kept (Lin et al. 2024, algorithm 1)."""
    signal = cumulative.sqrt()
    first, last = signal[1].clone(), signal[-1].clone()
    ended = (signal - last) * first / (first - last)
    ended[0] = 1  # the clean end is no step of the process, and not theirs
    return ended.square()


def make_schedule(config: DiffusionConfig) -> NoiseSchedule:
    """The schedule that a configuration names."""
    if config.schedule == "cosine":
        return CosineSchedule()
    return PaperSchedule(config.steps, config.reading, config.power, config.zero_terminal)


def diffuse(clean: Tensor, t: Tensor, noise: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The closed form of the forward process.

    Args:
        clean: x₀, [batch, bands, frames].
        t: [batch], in [0, 1].
        noise: ε, standard normal, shaped as ``clean``.
        schedule: gives a(t) and s(t).

    Returns:
        x_t, shaped as ``clean``.
    """
    wide = t[:, None, None]
    return schedule.signal(wide) * clean + schedule.noise(wide) * noise


def clean_from(
    prediction: Tensor, noisy: Tensor, t: Tensor, config: DiffusionConfig, schedule: NoiseSchedule
) -> Tensor:
    """Read a network's output as x₀.

    For ε this is (x_t − s ε) / a: it grows without bound as a → 0, which is how the paper's spectrograms became
    infinite. The floor of 10⁻¹² lies below any a of the paper's schedule; it only keeps a division by zero out.

    For x₀ it is a mean of two witnesses, each weighed by how sure it is: the network, which errs by the band's residual
    r, and x_t / a, which errs by s / a. So x₀ = (s² f + r² a x_t) / (s² + r² a²): the skip of Karras et al. 2022
    (equation 7) with the network's own error in the place of the data's deviation. Without it, fine texture has to pass
    through the network's patches, where it is lost.
    """
    wide = t[:, None, None]
    signal, noise = schedule.signal(wide), schedule.noise(wide)
    if config.target == "noise":
        return (noisy - noise * prediction) / signal.clamp(min=1e-12)
    if not config.residual:
        return prediction
    mine, its = noise**2, _by_band(config.residual, noisy.shape[1]).to(noisy.device) ** 2 * signal
    return (mine * prediction + its * noisy) / (mine + its * signal)


@lru_cache(maxsize=8)
def _by_band(knots: tuple[float, ...], bands: int) -> Tensor:
    """Straight lines through evenly spread knots: [bands, 1]."""
    line = np.interp(np.linspace(0, len(knots) - 1, bands), range(len(knots)), knots)
    return torch.from_numpy(line.astype(np.float32))[:, None]


def noise_from(clean: Tensor, noisy: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The ε that takes x₀ to x_t: (x_t − a x₀) / s."""
    wide = t[:, None, None]
    return (noisy - schedule.signal(wide) * clean) / schedule.noise(wide).clamp(min=1e-6)
