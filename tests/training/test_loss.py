import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generator.diffusion import clean_from, diffuse, make_schedule, noise_from
from generator.mood_embedding import NO_MOOD
from generator.moods import MOODS
from generator.plan import BASS, CHROMA, FEATURES
from tests.training.small_run import SMALL_BARD, SMALL_DENOISE, SMALL_NOISE
from training.data import Batch
from training.loss import (
    BOTH_DROPPED,
    MAX_WEIGHT,
    MOOD_DROPOUT,
    PLAN_DROPOUT,
    draw_bard,
    draw_paper,
    loss_of,
)

MANY = 4000
GUIDED_BARD = replace(SMALL_BARD, unet=replace(SMALL_BARD.unet, guided=True))


def batch(size: int, bands: int = 4, frames: int = 64) -> Batch:
    random = torch.Generator().manual_seed(1)
    mel = torch.randn(size, bands, frames, generator=random)
    plan = torch.rand(size, FEATURES, frames // 8, generator=random)
    return Batch(mel, plan, torch.arange(size) % len(MOODS))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Fixed(nn.Module):
    """A network that answers what it was given, and keeps what it saw."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer.clone())
        self.seen: tuple[Any, ...] = ()

    def forward(self, *seen: Tensor) -> Tensor:
        self.seen = seen
        return self.answer


def test_noise_levels_are_log_normal_but_for_a_fifth() -> None:
    t = draw_bard(batch(MANY, 1, 32), SMALL_BARD, seeded()).t
    assert 0 <= t.min() <= t.max() <= 1
    ratio = torch.tan(t * math.pi / 2).log()
    # The middle half of 0.8 N(0, 1.4) + 0.2 uniform t: symmetric, its quartiles near 0.67 · 1.4.
    low, middle, high = ratio.quantile(torch.tensor([0.25, 0.5, 0.75]))
    assert middle.abs() < 0.08
    assert (high - low) / 2 == pytest.approx(0.67 * 1.4, abs=0.12)
    # The ends are seen: a normal of 1.4 alone would put 0.02 % beyond t = 0.995.
    assert (t > 0.99).float().mean() > 0.001
    assert (t < 0.01).float().mean() > 0.001


def test_the_paper_draws_whole_steps_evenly_and_hides_nothing() -> None:
    draw = draw_paper(batch(MANY, 1, 32), SMALL_NOISE, seeded())
    steps = draw.t * SMALL_NOISE.diffusion.steps
    torch.testing.assert_close(steps, steps.round())
    counts = torch.bincount(steps.round().long(), minlength=51)
    assert counts[0] == 0
    assert counts[1:].min() > 0.5 * MANY / 50
    assert draw.known.sum() == 0
    assert draw.plan is None


def test_moods_and_plans_are_dropped_as_often_as_guidance_needs() -> None:
    draw = draw_bard(batch(MANY), SMALL_BARD, seeded())
    assert draw.plan is not None
    no_mood, no_plan = draw.mood == NO_MOOD, draw.plan[:, -1, 0] == 0
    tolerance = 4 * math.sqrt(0.25 / MANY)
    assert no_mood.float().mean() == pytest.approx(MOOD_DROPOUT, abs=tolerance)
    assert no_plan.float().mean() == pytest.approx(PLAN_DROPOUT, abs=tolerance)
    assert (no_mood & no_plan).float().mean() == pytest.approx(BOTH_DROPPED, abs=tolerance)
    assert draw.plan[no_plan].abs().sum() == 0
    assert torch.equal(draw.mood[~no_mood], (torch.arange(MANY) % len(MOODS))[~no_mood])


def test_prefixes_are_whole_columns_and_most_often_the_players() -> None:
    known = draw_bard(batch(MANY), SMALL_BARD, seeded()).known
    lengths = known.sum(1)
    assert torch.equal(known, (torch.arange(64)[None] < lengths[:, None]).float())
    assert (lengths % 8 == 0).all()
    assert lengths.max() <= 2 * SMALL_BARD.prefix
    assert (lengths == 0).float().mean() == pytest.approx(0.2, abs=0.03)
    assert (lengths == SMALL_BARD.prefix).float().mean() == pytest.approx(0.8 * (0.5 + 0.5 / 4), abs=0.03)


def test_roughened_plans_stay_near_a_chroma() -> None:
    draw = draw_bard(batch(64), SMALL_BARD, seeded())
    assert draw.plan is not None
    given = draw.plan[draw.plan[:, -1, 0] > 0]
    for part in (CHROMA, BASS):
        chroma = given[:, part]
        assert chroma.min() > -0.2
        assert chroma.max() < 1.2
        assert (chroma.amax(1) - 1).abs().max() < 0.25  # each column's strongest class is still about 1


def test_guidance_is_drawn_for_a_network_that_knows_it_and_for_no_other() -> None:
    assert (draw_bard(batch(MANY), SMALL_BARD, seeded()).guidance == 1).all()
    guidance = draw_bard(batch(MANY), GUIDED_BARD, seeded(), guided=0.75).guidance
    assert set(guidance.tolist()) == {1.0, GUIDED_BARD.diffusion.guidance}
    assert (guidance != 1).float().mean() == pytest.approx(0.75, abs=4 * math.sqrt(0.25 / MANY))


class Conditioned(nn.Module):
    """Answers ``plain`` where it is told the mood or the plan, else 3; ``guided`` where it is told to guide."""

    def __init__(self, guided: float, plain: float = 5.0) -> None:
        super().__init__()
        self.guided, self.plain = guided, plain

    def forward(
        self, x: Tensor, _level: Tensor, mood: Tensor, plan: Tensor, _known: Tensor, guidance: Tensor
    ) -> Tensor:
        told = (mood != NO_MOOD) | (plan[:, -1, 0] > 0)
        value = torch.where(told, self.plain, 3.0)
        value = torch.where(guidance == 1, value, torch.where(told, self.guided, 3.0))
        return value[:, None, None].expand_as(x)


@pytest.mark.parametrize(("guided", "right"), [(3 + 2 * (5 - 3), True), (5, False)])
def test_with_guidance_one_pass_learns_what_two_passes_make(guided: float, right: bool) -> None:
    clean = batch(64)
    draw = draw_bard(clean, GUIDED_BARD, seeded())
    draw = replace(draw, guidance=torch.full((64,), 2.0))
    schedule = make_schedule(GUIDED_BARD.diffusion)
    loss = loss_of(Conditioned(guided), clean, draw, GUIDED_BARD, schedule)
    assert (loss.item() < 1e-9) == right
    plain = loss_of(Conditioned(guided), clean, draw.plain, GUIDED_BARD, schedule)
    assert plain > 1  # there the recording is the goal, which is about 0


@pytest.mark.parametrize("guided", [7.0, 9.0])
def test_a_teacher_is_believed_in_the_networks_place(guided: float) -> None:
    clean = batch(64)
    draw = draw_bard(clean, GUIDED_BARD, seeded())
    draw = replace(draw, guidance=torch.full((64,), 2.0))
    schedule = make_schedule(GUIDED_BARD.diffusion)
    teacher = Conditioned(guided=0.0, plain=6.0)  # its two passes make 3 + 2 × (6 − 3)
    loss = loss_of(Conditioned(guided), clean, draw, GUIDED_BARD, schedule, teacher)
    assert (loss.item() < 1e-9) == (guided == 9.0)


def test_the_same_seed_draws_the_same() -> None:
    one, two = (draw_bard(batch(8), SMALL_BARD, seeded(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True))


@pytest.mark.parametrize(("config", "target"), [(SMALL_NOISE, "noise"), (SMALL_DENOISE, "mel")])
def test_the_papers_loss_is_the_plain_mean_square_error_of_its_target(config: Any, target: str) -> None:
    clean = batch(6)
    draw = draw_paper(clean, config, seeded())
    network = Fixed(torch.randn(6, 4, 64, generator=seeded(2)))
    schedule = make_schedule(config.diffusion)
    loss = loss_of(network, clean, draw, config, schedule)
    wanted = draw.noise if target == "noise" else clean.mel
    torch.testing.assert_close(loss, F.mse_loss(network.answer, wanted))
    torch.testing.assert_close(network.seen[0], diffuse(clean.mel, draw.t, draw.noise, schedule))
    assert torch.equal(network.seen[2], clean.mood)


def test_epsilon_and_x0_are_two_readings_of_one_thing() -> None:
    clean = batch(6)
    draw = draw_paper(clean, SMALL_NOISE, seeded())
    schedule = make_schedule(SMALL_NOISE.diffusion)
    t = (draw.t * 0 + 0.1).float()  # where the paper's schedule still has signal
    noisy = diffuse(clean.mel, t, draw.noise, schedule)
    torch.testing.assert_close(
        clean_from(draw.noise, noisy, t, SMALL_NOISE.diffusion, schedule), clean.mel, rtol=0, atol=1e-4
    )
    torch.testing.assert_close(noise_from(clean.mel, noisy, t, schedule), draw.noise, rtol=0, atol=1e-4)


def test_the_prefix_is_shown_clean_and_weighs_nothing() -> None:
    clean = batch(16)
    draw = draw_bard(clean, SMALL_BARD, seeded())
    schedule = make_schedule(SMALL_BARD.diffusion)
    network = Fixed(torch.zeros(16, 4, 64))
    loss = loss_of(network, clean, draw, SMALL_BARD, schedule)
    loss.backward()  # type: ignore[no-untyped-call]
    known = draw.known[:, None].expand(-1, 4, -1) > 0
    assert known.any()
    assert torch.equal(network.seen[0][known], clean.mel[known])
    assert not torch.equal(network.seen[0][~known], clean.mel[~known])
    assert network.answer.grad is not None
    assert network.answer.grad[known].abs().max() == 0
    assert (network.answer.grad[~known] != 0).float().mean() > 0.99
    with torch.no_grad():
        network.answer[known] = 1e6
    torch.testing.assert_close(loss_of(network, clean, draw, SMALL_BARD, schedule), loss)


def test_the_bards_weight_is_that_of_v_and_bounded() -> None:
    """An error of 1 everywhere costs min(1 / s², 10), whatever share of the window is hidden."""
    schedule = make_schedule(SMALL_BARD.diffusion)
    alone = replace(SMALL_BARD, diffusion=replace(SMALL_BARD.diffusion, residual=()))
    clean = batch(1)
    for seed in range(20):
        draw = draw_bard(clean, SMALL_BARD, seeded(seed))
        loss = loss_of(Fixed(clean.mel + 1), clean, draw, alone, schedule)
        expected = min(1 / math.sin(draw.t.item() * math.pi / 2) ** 2, MAX_WEIGHT)
        assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_error_that_counts_is_that_of_network_and_noisy_mel_together() -> None:
    """Near the clean end the Mel itself says more than the network, which isn't asked for what it can't tell."""
    schedule = make_schedule(SMALL_BARD.diffusion)
    clean = batch(1)
    network = Fixed(clean.mel + 0.5)
    draw = draw_bard(clean, SMALL_BARD, seeded())
    costs = [
        loss_of(network, clean, replace(draw, t=torch.tensor([t]), noise=0 * draw.noise), SMALL_BARD, schedule).item()
        for t in (0.01, 0.05, 0.2)
    ]
    assert costs == sorted(costs)
    assert costs[0] < 1e-2 * costs[2]


def test_a_perfect_prediction_costs_nothing() -> None:
    clean = batch(8)
    config = replace(SMALL_BARD, diffusion=replace(SMALL_BARD.diffusion, residual=()))
    schedule = make_schedule(config.diffusion)
    assert loss_of(Fixed(clean.mel), clean, draw_bard(clean, config, seeded()), config, schedule) == 0
