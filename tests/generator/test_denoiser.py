from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from generator.config import ModelConfig
from generator.denoiser import Denoiser
from generator.diffusion import CosineSchedule
from generator.mood_embedding import NO_MOOD
from generator.plan import FEATURES
from generator.sampling import Sampler, ddim, dpm_solver_2m, solve, uniform_times
from tests.generator.tiny import TINY, tiny_engine

SHAPE = (1, TINY.mel.bands, TINY.unet.frames)
COLUMNS = TINY.unet.frames // TINY.unet.patch[1]
ENGINE = tiny_engine()
SCHEDULE = CosineSchedule()


def with_guidance(guidance: float, bound: float | None = None) -> ModelConfig:
    return replace(TINY, diffusion=replace(TINY.diffusion, guidance=guidance, bound=bound))


class Rows(nn.Module):
    """Answers each row with a number of its own, and keeps what it was asked."""

    def __init__(self, *answers: float) -> None:
        super().__init__()
        self.answers = nn.Parameter(torch.tensor(answers))
        self.asked: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        self.asked.append((x, *conditions))
        return self.answers.detach()[:, None, None].expand_as(x)


def noise(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_guidance_is_free_plus_weight_times_difference() -> None:
    network = Rows(3.0, 1.0)
    out = Denoiser(network, with_guidance(1.5), SCHEDULE, 2)(noise(), torch.tensor([0.5]))
    assert torch.equal(out, torch.full(SHAPE, 1.0 + 1.5 * (3.0 - 1.0)))


def test_guidance_asks_with_and_without_mood_and_plan() -> None:
    network, plan = Rows(0.0, 0.0), torch.rand(FEATURES, COLUMNS)
    Denoiser(network, with_guidance(2.0), SCHEDULE, 2, plan)(noise(), torch.tensor([0.25]))
    ((x, level, mood, plans, known, guidance),) = network.asked
    assert mood.argmax(1).tolist() == [2, NO_MOOD]
    assert mood.sum(1).tolist() == [1, 1]
    assert level.tolist() == [0.25, 0.25]
    assert guidance.tolist() == [1, 1]
    assert torch.equal(plans[0], torch.cat([plan, torch.ones(1, COLUMNS)]))
    assert not plans[1].any()
    assert torch.equal(x[0], x[1])
    assert not known.any()


def test_a_network_that_knows_guidance_is_asked_once_and_told_its_weight() -> None:
    network = Rows(3.0)
    config = with_guidance(1.5)
    config = replace(config, unet=replace(config.unet, guided=True))
    out = Denoiser(network, config, SCHEDULE, 2)(noise(), torch.tensor([0.5]))
    assert [len(part) for part in network.asked[0]] == [1] * 6
    assert network.asked[0][-1].tolist() == [1.5]
    assert torch.equal(out, torch.full(SHAPE, 3.0))


def test_no_guidance_costs_no_second_row() -> None:
    network = Rows(3.0)
    out = Denoiser(network, with_guidance(1.0), SCHEDULE, 2)(noise(), torch.tensor([0.5]))
    assert [len(part) for part in network.asked[0]] == [1] * 6
    assert torch.equal(out, torch.full(SHAPE, 3.0))


def test_the_prefix_goes_in_clean_with_its_mask_and_comes_out_untouched() -> None:
    network, prefix = Rows(0.5, 0.5), 9 * torch.ones(SHAPE[1], 24)  # beyond the bound on purpose
    given = noise()
    out = Denoiser(network, with_guidance(1.5, bound=2.0), SCHEDULE, 2, prefix=prefix)(given, torch.tensor([0.9]))
    x, _, _, _, known, _ = network.asked[0]
    for row in range(2):
        assert torch.equal(x[row, :, :24], prefix)
        assert torch.equal(x[row, :, 24:], given[0, :, 24:])
        assert known[row].tolist() == [1.0] * 24 + [0.0] * (SHAPE[2] - 24)
    assert torch.equal(out[0, :, :24], prefix)
    assert torch.equal(out[0, :, 24:], torch.full((SHAPE[1], SHAPE[2] - 24), 0.5))


@pytest.mark.parametrize(("answer", "expected"), [(7.0, 2.0), (-7.0, -2.0), (1.0, 1.0)])
def test_the_prediction_is_kept_within_the_bound(answer: float, expected: float) -> None:
    out = Denoiser(Rows(answer), with_guidance(1.0, bound=2.0), SCHEDULE, 0)(noise(), torch.tensor([0.5]))
    assert torch.equal(out, torch.full(SHAPE, expected))


def test_a_prediction_of_noise_is_read_as_clean() -> None:
    config = replace(TINY, diffusion=replace(TINY.diffusion, target="noise", guidance=1.0, bound=None))
    t, given = torch.tensor([0.5]), noise()
    out = Denoiser(Rows(0.25), config, SCHEDULE, 0)(given, t)
    back = SCHEDULE.signal(t) * out + SCHEDULE.noise(t) * 0.25
    assert torch.allclose(back, given, atol=1e-5)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver_2m])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_sampled_window_begins_with_the_very_prefix(sampler: Sampler, steps: int) -> None:
    prefix = noise(1)[0, :, :32]
    denoiser = Denoiser(ENGINE.network, TINY, SCHEDULE, 1, torch.rand(FEATURES, COLUMNS), prefix, ENGINE.bf16)
    with torch.no_grad():
        out = solve(sampler(SCHEDULE, noise, uniform_times(steps)), denoiser)
    assert torch.equal(out[0, :, :32], prefix)
    assert out.abs().max() <= 5
    assert not torch.equal(out[0, :, 32:], noise()[0, :, 32:])


def test_the_prefix_is_continued_and_not_just_pasted() -> None:
    rest = []
    for seed in (1, 2):
        denoiser = Denoiser(ENGINE.network, TINY, SCHEDULE, 1, prefix=noise(seed)[0, :, :32], bf16=ENGINE.bf16)
        with torch.no_grad():
            rest.append(solve(dpm_solver_2m(SCHEDULE, noise, uniform_times(2)), denoiser)[0, :, 32:])
    assert (rest[0] - rest[1]).abs().max() > 1e-3


def test_a_mixture_of_moods_is_one_row_and_lies_between_them() -> None:
    """Two rows whatever is mixed; all of one mood is that mood to the bit; halfway is near neither and between both."""
    given, t, made = noise(), torch.tensor([0.5]), {}
    mixtures: dict[str, int | list[float]] = {
        "one": 1,
        "all of one": [float(row == 1) for row in range(NO_MOOD)],
        "two": 4,
        "both": [0.5 * (row in (1, 4)) for row in range(NO_MOOD)],
    }
    for name, mood in mixtures.items():
        denoiser = Denoiser(ENGINE.network, with_guidance(1.5), SCHEDULE, mood, bf16=ENGINE.bf16)
        assert denoiser.moods.shape == (2, NO_MOOD + 1)
        with torch.no_grad():
            made[name] = denoiser(given, t)
    assert torch.equal(made["one"], made["all of one"])
    apart = (made["one"] - made["two"]).norm()
    for end in ("one", "two"):
        assert 0.2 * apart < (made["both"] - made[end]).norm() < 0.9 * apart
