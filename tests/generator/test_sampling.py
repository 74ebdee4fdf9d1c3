"""Samplers against distributions whose best denoiser is known in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from generator.diffusion import CosineSchedule, NoiseSchedule, PaperSchedule
from generator.sampling import Denoise, Sampler, ancestral, ddim, dpm_solver_2m, solve, uniform_times

MEAN, DEVIATION = 1.5, 0.5


class Cosine64(CosineSchedule):
    """Exactly zero at the end in double precision too, as single precision has it."""

    def signal(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2))


def gaussian(schedule: NoiseSchedule, mean: float = MEAN, deviation: float = DEVIATION) -> Denoise:
    """E[x₀ | x_t] where x₀ is normal."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        a, s = schedule.signal(t)[:, None, None], schedule.noise(t)[:, None, None]
        return mean + a * deviation**2 / (a**2 * deviation**2 + s**2) * (x - a * mean)

    return denoise


def two_hills(schedule: NoiseSchedule) -> Denoise:
    """E[x₀ | x_t] where x₀ is one of two normals: nothing linear about it."""
    centres, spread = torch.tensor([-1.0, 1.5], dtype=torch.float64), 0.3

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        a, s = schedule.signal(t)[:, None, None, None], schedule.noise(t)[:, None, None, None]
        variance = a**2 * spread**2 + s**2
        away = x[..., None] - a * centres
        weights = torch.softmax(-(away**2) / (2 * variance), dim=-1)
        means = centres + a * spread**2 / variance * away
        mean: Tensor = (weights * means).sum(-1)
        return mean

    return denoise


FLOW = Cosine64()
START = torch.linspace(-2.5, 2.5, 101, dtype=torch.float64)[:, None, None]


def exact(x: Tensor, begin: float = 1.0, end: float = 0.0) -> Tensor:
    """Where the deterministic flow for one normal ends: at the same quantile of the other."""
    (a, b), (s, r) = (part(torch.tensor([begin, end], dtype=torch.float64)) for part in (FLOW.signal, FLOW.noise))
    quantile = (x - a * MEAN) / (a**2 * DEVIATION**2 + s**2).sqrt()
    result: Tensor = b * MEAN + (b**2 * DEVIATION**2 + r**2).sqrt() * quantile
    return result


def run(sampler: Sampler, denoise: Denoise, times: Tensor) -> Tensor:
    return solve(sampler(FLOW, lambda: START, times.double()), denoise)


def slope(errors: list[float], steps: list[int]) -> float:
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm_solver_2m, 2)])
def test_order_of_convergence_between_two_noise_levels(sampler: Sampler, order: int) -> None:
    steps = [16, 32, 64, 128]
    times = [torch.linspace(0.7, 0.3, count + 1, dtype=torch.float64) for count in steps]
    truth = exact(START, 0.7, 0.3)
    errors = [(run(sampler, gaussian(FLOW), each) - truth).abs().mean().item() for each in times]
    assert slope(errors, steps) == pytest.approx(order, abs=0.1), errors


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm_solver_2m, 2)])
@pytest.mark.parametrize("shape", ["normal", "two hills"])
def test_order_of_convergence_from_pure_noise_to_none(sampler: Sampler, order: int, shape: str) -> None:
    """Both ends are infinite in λ, where steps are first order; that costs second order a logarithm and no more."""
    denoise = gaussian(FLOW) if shape == "normal" else two_hills(FLOW)
    truth = exact(START) if shape == "normal" else run(dpm_solver_2m, denoise, uniform_times(8192))
    steps = [256, 512, 1024]
    errors = [(run(sampler, denoise, uniform_times(count)) - truth).abs().mean().item() for count in steps]
    assert slope(errors, steps) == pytest.approx(order - 0.2, abs=0.3), errors


def test_second_order_pays_at_the_steps_that_are_played() -> None:
    for steps in (8, 12, 16):
        error = {
            sampler: (run(sampler, gaussian(FLOW), uniform_times(steps)) - exact(START)).abs().mean().item()
            for sampler in (ddim, dpm_solver_2m)
        }
        assert error[dpm_solver_2m] < 0.5 * error[ddim]


def test_two_steps_are_algorithm_2_by_hand() -> None:
    """No history in the first step, none at the last: both are DDIM's. With three, the middle one extrapolates."""
    denoise, schedule = gaussian(FLOW), FLOW
    assert torch.allclose(run(dpm_solver_2m, denoise, uniform_times(2)), run(ddim, denoise, uniform_times(2)))
    times = torch.tensor([0.9, 0.6, 0.3], dtype=torch.float64)
    a, s = schedule.signal(times), schedule.noise(times)
    step = (a / s).log().diff()
    x0 = START
    d0 = denoise(x0, times[:1])
    x1 = s[1] / s[0] * x0 - a[1] * torch.expm1(-step[0]) * d0
    d1 = denoise(x1, times[1:2])
    ratio = step[0] / step[1]
    x2 = s[2] / s[1] * x1 - a[2] * torch.expm1(-step[1]) * ((1 + 1 / (2 * ratio)) * d1 - 1 / (2 * ratio) * d0)
    assert torch.allclose(run(dpm_solver_2m, denoise, times), x2)


@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver_2m])
@pytest.mark.parametrize("schedule", [CosineSchedule(), PaperSchedule(50), PaperSchedule(1000)])
@pytest.mark.parametrize("steps", [1, 2, 50, 1000])
def test_what_is_certain_is_reached_whatever_the_steps(sampler: Sampler, schedule: NoiseSchedule, steps: int) -> None:
    random = torch.Generator().manual_seed(0)
    goal = torch.randn(2, 3, 4, generator=random)
    times = uniform_times(min(steps, getattr(schedule, "steps", steps)))
    out = solve(sampler(schedule, lambda: torch.randn(goal.shape, generator=random), times), lambda x, t: goal)
    assert torch.allclose(out, goal, atol=1e-5)


def spread_after(schedule: NoiseSchedule, steps: int) -> tuple[float, float]:
    random = torch.Generator().manual_seed(0)
    noise = lambda: torch.randn(20_000, 1, 1, generator=random)  # noqa: E731
    out = solve(ancestral(schedule, noise, uniform_times(steps)), gaussian(schedule))
    return out.mean().item(), out.std().item()


@pytest.mark.parametrize("steps", [50, 400])
def test_ancestral_sampling_reaches_mean_and_deviation(steps: int) -> None:
    """Its variance is that of data known for certain: too small, less so the finer the steps.

    The paper's schedule crosses from signal to noise in about √T of its T steps, so it nears the truth with √T only.
    """
    for schedule, share in ((CosineSchedule(), 4 / steps), (PaperSchedule(steps), 1.3 / math.sqrt(steps))):
        mean, deviation = spread_after(schedule, steps)
        assert mean == pytest.approx(MEAN, abs=0.02)
        assert DEVIATION * (1 - share - 0.02) < deviation < DEVIATION * 1.02


def test_ancestral_noise_is_drawn_before_every_step_but_the_last() -> None:
    drawn = []

    def noise() -> Tensor:
        drawn.append(1)
        return torch.zeros(1, 1, 1)

    solve(ancestral(CosineSchedule(), noise, uniform_times(7)), gaussian(CosineSchedule()))
    assert len(drawn) == 7


@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver_2m])
def test_the_denoiser_is_asked_once_a_step_with_one_time_a_row(sampler: Sampler) -> None:
    asked = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return torch.zeros_like(x)

    solve(sampler(CosineSchedule(), lambda: torch.zeros(3, 2, 2), uniform_times(5)), denoise)
    assert [t.tolist() for t in asked] == [[time] * 3 for time in uniform_times(5)[:-1].tolist()]


def test_times_fall_from_one_to_zero() -> None:
    times = uniform_times(12)
    assert times[[0, -1]].tolist() == [1, 0]
    assert times.diff().numpy() == pytest.approx(-1 / 12, abs=1e-6)
