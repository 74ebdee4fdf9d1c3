"""What sampling does, step by step: the batched sampler of the rows, and what it meets on the way."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from generator.config import ModelConfig
from generator.diffusion import NoiseSchedule, clean_from, diffuse, make_schedule, noise_from

LARGEST: Final = (
    1e30  #: what is shown of anything larger, infinite or not a number: JSON and logarithmic axes know no infinity
)

TOGETHER: Final = 2  #: windows in one call: more fall out of a CPU's caches


@dataclass(frozen=True)
class Spread:
    """A tensor in three numbers, none beyond ``LARGEST``."""

    least: float
    most: float
    rms: float

    @classmethod
    def of(cls, values: Tensor) -> "Spread":
        """Over all of it; what is not a number counts as largest."""
        tame = values.double().nan_to_num(LARGEST, LARGEST, -LARGEST).clamp(-LARGEST, LARGEST)
        return cls(tame.min().item(), tame.max().item(), min(LARGEST, tame.square().mean().sqrt().item()))


def _tame(value: Tensor) -> float:
    return value.nan_to_num(LARGEST, LARGEST, -LARGEST).item()


@dataclass(frozen=True)
class Step:
    """What one step of sampling met.

    Attributes:
        t: its time, 1 at the beginning.
        factor: 1 / √ᾱ, by which an error of ε̂ comes into x̂₀; ``LARGEST`` where ᾱ is 0.
        noisy: x_t.
        expected: RMS that x_t has in training.
        noise: ε̂; what the prediction amounts to, where the network predicts x₀.
        taken: ⟨ε̂, x_t⟩ / ⟨x_t, x_t⟩: how much of what it is given the network takes for noise. Near the noisy end it is
            1 in training; the less it is, the more x_t grows in a step.
        clean: x̂₀ as it was predicted, before any bound.
        outside: share of the cells of x̂₀ beyond the range of recorded Mels.
        lost: share of the clips with such a cell.
        error: RMS of ε̂ − ε for x_t made of held-out Mels, as in training.
        clean_error: the same of x̂₀ − x₀.
    """

    t: float
    factor: float
    noisy: Spread
    expected: float
    noise: Spread
    taken: float
    clean: Spread
    outside: float
    lost: float
    error: float
    clean_error: float


class Watched:
    """A network as a batch of denoisers, one mood a row, that notes what it is asked and what it answers."""

    def __init__(self, network: nn.Module, config: ModelConfig, moods: Tensor, real: Tensor, noise: Tensor) -> None:
        """Set up.

        Args:
            network: the paper's.
            config: says what it predicts, of which schedule, within which limits.
            moods: [batch], rows of the embedding, of the clips to be made.
            real: a held-out Mel of each mood, [moods, bands, frames].
            noise: standard normal, shaped as ``real``: what is put on these to measure the network's error.
        """
        self.network, self.config, self.moods = network, config, moods
        self.real, self.noise, self.real_moods = real, noise, torch.arange(len(real))
        self.low, self.high = real.min().item(), real.max().item()
        self.schedule: NoiseSchedule = make_schedule(config.diffusion)
        self.steps: list[Step] = []

    def __call__(self, noisy: Tensor, t: Tensor) -> Tensor:
        """x̂₀ from (x_t [batch, bands, frames], t [batch]), within the limits that the configuration has."""
        clean, noise = self._answer(noisy, t, self.moods)
        beyond = (clean < self.low) | (clean > self.high) | ~clean.isfinite()
        signal, sigma = self.schedule.signal(t[:1]).item(), self.schedule.noise(t[:1]).item()
        times = t[: len(self.real)]
        put = diffuse(self.real, times, self.noise, self.schedule)
        guessed, guessed_noise = self._answer(put, times, self.real_moods)
        self.steps.append(
            Step(
                t=t[0].item(),
                factor=1 / signal if signal > 0 else LARGEST,
                noisy=Spread.of(noisy),
                expected=math.sqrt(signal**2 * self.real.square().mean().item() + sigma**2),
                noise=Spread.of(noise),
                taken=_tame((noise.double() * noisy).mean() / noisy.double().square().mean()),
                clean=Spread.of(clean),
                outside=beyond.float().mean().item(),
                lost=beyond.flatten(1).any(1).float().mean().item(),
                error=Spread.of(guessed_noise - self.noise).rms,
                clean_error=Spread.of(guessed - self.real).rms,
            )
        )
        return clean if self.config.limits is None else clean.clamp(*self.config.limits)

    def _answer(self, noisy: Tensor, t: Tensor, moods: Tensor) -> tuple[Tensor, Tensor]:
        """x̂₀ and ε̂: the one that the network predicts, and the other that follows from it."""
        parts = zip(*(torch.split(part, TOGETHER) for part in (noisy, t, moods)), strict=True)
        predicted = torch.cat([self.network(*part) for part in parts])
        clean = clean_from(predicted, noisy, t, self.config.diffusion, self.schedule)
        if self.config.diffusion.target == "noise":
            return clean, predicted
        return clean, noise_from(clean, noisy, t, self.schedule)
