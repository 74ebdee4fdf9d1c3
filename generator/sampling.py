"""Samplers. Each knows a schedule and a noise source, and asks its way: it yields (x_t, t) and is sent x₀.

So whoever answers may answer many samplers at once, each at a noise level of its own (``generator.batching``), or one
alone (:func:`solve`).
"""

from collections.abc import Callable, Generator
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from generator.diffusion import NoiseSchedule, noise_from

Denoise = Callable[[Tensor, Tensor], Tensor]
NoiseSource = Callable[[], Tensor]
#: Yields x_t, [batch, bands, frames], and t, [batch]; is sent x₀, shaped as x_t; returns the sample.
Steps = Generator[tuple[Tensor, Tensor], Tensor, Tensor]
Sampler = Callable[[NoiseSchedule, NoiseSource, Tensor], Steps]

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


def ask(asking: Generator[Question, Answer, Result], answer: Callable[[Question], Answer]) -> Result:
    """What ``asking`` returns once ``answer`` has given it all that it asks for."""
    question = next(asking)
    while True:
        try:
            question = asking.send(answer(question))
        except StopIteration as end:
            result: Result = end.value
            return result


def solve(steps: Steps, denoise: Denoise) -> Tensor:
    """A sampler's sample, by a denoiser (x_t, t) → x₀ of its own."""
    return ask(steps, lambda query: denoise(*query))


def uniform_times(steps: int) -> Tensor:
    """Times from 1 down to 0 in equal steps, [steps + 1]."""
    return torch.linspace(1, 0, steps + 1)


def warped_times(steps: int, warp: float) -> Tensor:
    """Times from 1 down to 0 whose steps, for a ``warp`` above 1, are the shorter the cleaner it is, [steps + 1].

    What a listener takes for texture is decided there; ρ of Karras et al. 2022 (equation 5) does the same for σ.
    """
    return uniform_times(steps) ** warp


def ancestral(schedule: NoiseSchedule, noise: NoiseSource, times: Tensor) -> Steps:
    """The paper's sampler (its equations 1 to 3; Ho et al. 2020, algorithm 2).

    (1) q(x_t | x_s) = N(α x_s, 1 − α²), α = a(t) / a(s);
    (2) the mean of q(x_s | x_t, x₀) is [a(s) (1 − α²) x₀ + α s(s)² x_t] / s(t)²;
    (3) its variance is s(s)² (1 − α²) / s(t)². In terms of ε, (2) is (x_t − (1 − α²) / s(t) ε) / α.

    Args:
        schedule: gives a(t) and s(t).
        noise: fresh standard normal noise, [batch, bands, frames], a call.
        times: [steps + 1], falling from 1 to 0.

    Returns:
        Steps to a sample of x₀, [batch, bands, frames].
    """
    x = noise()
    for now, later in pairwise(times):
        clean = yield x, now.expand(x.shape[0])
        signal, sigma = schedule.signal(now), schedule.noise(now)
        next_signal, next_sigma = schedule.signal(later), schedule.noise(later)
        alpha = signal / next_signal.clamp(min=1e-12)
        lost = (sigma**2 - (alpha * next_sigma) ** 2).clamp(min=0)  # 1 − α², and exactly s(t)² where s(s) = 0
        mean = (next_signal * lost * clean + alpha * next_sigma**2 * x) / sigma**2
        spread = next_sigma * lost.sqrt() / sigma
        x = mean + spread * noise() if later > 0 else mean
    return x


def ddim(schedule: NoiseSchedule, noise: NoiseSource, times: Tensor) -> Steps:
    """The deterministic first-order sampler (Song et al. 2021, equation 12 with η = 0); arguments as above."""
    x = noise()
    for now, later in pairwise(times):
        t = now.expand(x.shape[0])
        clean = yield x, t
        x = schedule.signal(later) * clean + schedule.noise(later) * noise_from(clean, x, t, schedule)
    return x


def dpm_solver_2m(schedule: NoiseSchedule, noise: NoiseSource, times: Tensor) -> Steps:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one denoising a step; arguments as above.

    With λ = ln(a / s) and h = λ_later − λ_now, a step is x ← (s' / s) x + a' (1 − e⁻ʰ) D, where D extrapolates the
    last two predictions of x₀. The first step starts from pure noise (λ = −∞, no history), the second has it one
    infinite step back, and the last ends at s' = 0 (λ = ∞); all three are first order, as the formula's limit is.
    """
    x = noise()
    previous, previous_lambda = None, torch.tensor(-torch.inf)
    for now, later in pairwise(times):
        clean = yield x, now.expand(x.shape[0])
        signal, sigma = schedule.signal(now), schedule.noise(now)
        next_signal, next_sigma = schedule.signal(later), schedule.noise(later)
        here = (signal / sigma).log()
        direction = clean
        if previous is not None and next_sigma > 0 and -torch.inf < previous_lambda < here:
            ratio = (here - previous_lambda) / ((next_signal / next_sigma).log() - here)
            direction = clean + (clean - previous) / (2 * ratio)
        shrink = signal * next_sigma / sigma  # a' e⁻ʰ, written so that a = 0 is no special case
        x = (next_sigma / sigma) * x + (next_signal - shrink) * direction
        previous, previous_lambda = clean, here
    return x
