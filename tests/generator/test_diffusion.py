import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.config import DiffusionConfig, Reading
from generator.diffusion import (
    CosineSchedule,
    NoiseSchedule,
    PaperSchedule,
    clean_from,
    diffuse,
    make_schedule,
    noise_from,
)

COSINE, PAPER = CosineSchedule(), PaperSchedule(50)
NOISE, CLEAN = (DiffusionConfig("cosine", target, steps=8, bound=None) for target in ("noise", "clean"))
SCHEDULES: dict[str, NoiseSchedule] = {
    "cosine": COSINE,
    "paper": PAPER,
    "cumulative": PaperSchedule(50, "cumulative"),
    "kernel": PaperSchedule(50, power=3.0),
    "zero": PaperSchedule(50, zero_terminal=True),
    "cumulative, zero": PaperSchedule(50, "cumulative", zero_terminal=True),
}
EACH = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def at(t: float) -> torch.Tensor:
    return torch.tensor([t])


@EACH
@given(t=st.floats(0, 1, width=32))
def test_variance_is_preserved_and_never_not_a_number(schedule: NoiseSchedule, t: float) -> None:
    signal, noise = schedule.signal(at(t)), schedule.noise(at(t))
    assert float(signal**2 + noise**2) == pytest.approx(1, abs=1e-6)
    assert 0 <= signal <= 1
    assert 0 <= noise <= 1


@EACH
def test_noise_only_grows(schedule: NoiseSchedule) -> None:
    t = torch.linspace(0, 1, 501)
    assert (schedule.signal(t).diff() <= 0).all()
    assert (schedule.noise(t).diff() >= 0).all()
    assert schedule.signal(t[:1]) == 1
    assert schedule.noise(t[:1]) == 0


@pytest.mark.parametrize("steps", [10, 50, 200])
def test_the_papers_product_is_exact(steps: int) -> None:
    schedule = PaperSchedule(steps)
    for step in (0, 1, 2, steps // 2, steps):
        product = math.prod(1 - 0.9 * k / steps for k in range(1, step + 1))
        signal = schedule.signal(torch.tensor(step / steps, dtype=torch.float64))
        assert signal.item() == pytest.approx(math.sqrt(product), rel=1e-12)


def test_most_of_the_papers_process_is_pure_noise() -> None:
    assert float(PAPER.signal(at(0.6)) ** 2) < 1e-4
    assert float(PAPER.signal(at(1.0)) ** 2) > 0  # nor does it ever quite end


@pytest.mark.parametrize("name", ["cosine", "zero", "cumulative, zero"])
def test_it_ends_in_pure_noise(name: str) -> None:
    assert SCHEDULES[name].signal(at(1.0)).item() == 0
    assert SCHEDULES[name].noise(at(1.0)).item() == 1


def test_read_as_cumulative_it_never_comes_near_noise() -> None:
    times = torch.linspace(0, 1, 51, dtype=torch.float64)
    signal = SCHEDULES["cumulative"].signal(times)
    torch.testing.assert_close(signal.square(), 1 - 0.9 * times)


def test_the_kernel_keeps_half_of_the_variance_for_half_of_the_time() -> None:
    """As the cosine does, where the paper's own has lost it after a fifth."""
    half = at(0.5)
    assert float(SCHEDULES["kernel"].signal(half) ** 2) == pytest.approx(0.5, abs=0.05)
    assert float(COSINE.signal(half) ** 2) == pytest.approx(0.5)
    assert float(PAPER.signal(half) ** 2) < 0.002


@pytest.mark.parametrize("reading", ["step", "cumulative"])
def test_a_schedule_ended_at_zero_begins_as_it_did(reading: Reading) -> None:
    """Lin et al. 2024, algorithm 1: √ᾱ_1 stays, √ᾱ_T is 0, and what lies between is moved in proportion."""
    times = torch.linspace(0, 1, 51, dtype=torch.float64)
    own = PaperSchedule(50, reading).signal(times)
    ended = PaperSchedule(50, reading, zero_terminal=True).signal(times)
    assert ended[:2].tolist() == pytest.approx(own[:2].tolist(), rel=1e-12)
    ratio = ended[2:-1] / (own[2:-1] - own[-1])
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_the_closed_form_is_the_steps_one_by_one() -> None:
    """Equation 1 iterated, x_k = √α_k x_{k−1} + √(1 − α_k) ε, has the closed form's mean and variance."""
    steps, samples = 50, 100_000
    random = torch.Generator().manual_seed(0)
    schedule, x = PaperSchedule(steps), torch.full((samples,), 2.0)
    for step in range(1, 16):
        alpha = 1 - 0.9 * step / steps
        x = math.sqrt(alpha) * x + math.sqrt(1 - alpha) * torch.randn(samples, generator=random)
        if step in (1, 5, 15):
            t = at(step / steps)
            noise = torch.randn(samples, 1, 1, generator=random)
            closed = diffuse(torch.full((samples, 1, 1), 2.0), t.expand(samples), noise, schedule)
            spread = float(schedule.noise(t))
            error = 5 * spread / math.sqrt(samples)
            for sample in (x, closed):
                assert sample.mean().item() == pytest.approx(2 * float(schedule.signal(t)), abs=error)
                assert sample.std().item() == pytest.approx(spread, abs=error)


@EACH
@settings(max_examples=50)
@given(t=st.floats(0.02, 0.55), seed=st.integers(0, 99))
def test_clean_and_noise_are_two_views_of_the_same(schedule: NoiseSchedule, t: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 3, 4, 5, generator=random, dtype=torch.float64)
    times = torch.full((3,), t, dtype=torch.float64)
    noisy = diffuse(clean, times, noise, schedule)
    assert torch.allclose(clean_from(noise, noisy, times, NOISE, schedule), clean, atol=1e-6)
    assert torch.allclose(noise_from(clean, noisy, times, schedule), noise, atol=1e-6)
    assert clean_from(clean, noisy, times, CLEAN, schedule) is clean


@pytest.mark.parametrize("residual", [0.03, 0.12, 1.0])
def test_of_two_witnesses_the_surer_one_is_believed_and_both_together_err_least(residual: float) -> None:
    """A network that errs by the residual, beside x_t: the best share of a line between them is the formula's."""
    random = torch.Generator().manual_seed(4)
    clean, noise, error = torch.randn(3, 1, 1, 200_000, generator=random, dtype=torch.float64)
    config = replace(CLEAN, residual=(residual,))
    for t in (0.01, 0.06, 0.125, 0.25, 0.5, 0.9):
        times = torch.tensor([t], dtype=torch.float64)
        noisy, predicted = diffuse(clean, times, noise, COSINE), clean + residual * error
        found = clean_from(predicted, noisy, times, config, COSINE)
        own = (noisy / COSINE.signal(times)).double()
        shares = torch.linspace(0, 1, 101, dtype=torch.float64)
        errors = [(own + share * (predicted - own) - clean).square().mean().item() for share in shares]
        assert (found - clean).square().mean().item() <= min(errors) * 1.01
    at = {t: clean_from(predicted, noisy, torch.tensor([t]), config, COSINE) for t in (0.0, 1.0)}
    assert torch.allclose(at[0.0], noisy)
    assert torch.allclose(at[1.0], predicted)


def test_each_band_has_its_own_share_of_the_two() -> None:
    predicted, noisy = torch.zeros(2, 5, 3), torch.ones(2, 5, 3)
    times = torch.tensor([0.1, 0.2])
    found = clean_from(predicted, noisy, times, replace(CLEAN, residual=(0.3, 0.1, 0.2)), COSINE)
    for band, residual in enumerate((0.3, 0.2, 0.1, 0.15, 0.2)):
        alone = clean_from(predicted, noisy, times, replace(CLEAN, residual=(residual,)), COSINE)
        assert torch.allclose(found[:, band], alone[:, band])


def test_each_row_of_a_batch_has_a_time_of_its_own() -> None:
    clean, noise, times = torch.ones(2, 1, 1), torch.zeros(2, 1, 1), torch.tensor([0.0, 1.0])
    assert diffuse(clean, times, noise, COSINE).flatten().tolist() == [1, 0]


@EACH
def test_both_ends_stay_finite(schedule: NoiseSchedule) -> None:
    x = torch.ones(2, 1, 1)
    times = torch.tensor([0.0, 1.0])
    for config in (NOISE, CLEAN, replace(CLEAN, residual=(0.1, 0.2))):
        assert clean_from(2 * x, x, times, config, schedule).isfinite().all()
    assert noise_from(2 * x, x, times, schedule).isfinite().all()


def test_a_configuration_names_its_schedule() -> None:
    paper = make_schedule(DiffusionConfig("paper", "noise", steps=20, bound=None))
    assert isinstance(paper, PaperSchedule)
    assert paper.steps == 20
    asked = DiffusionConfig("paper", "noise", steps=20, bound=None, reading="cumulative", power=2.0, zero_terminal=True)
    other, same = make_schedule(asked), PaperSchedule(20, "cumulative", 2.0, zero_terminal=True)
    times = torch.linspace(0, 1, 21)
    assert torch.equal(other.signal(times), same.signal(times))
    assert isinstance(make_schedule(DiffusionConfig("cosine", "clean", steps=20, bound=None)), CosineSchedule)
