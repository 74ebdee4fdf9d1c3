"""Which noise levels are trained, what is hidden from the network, and how its errors weigh."""

import math
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generator.analysis import condition
from generator.config import ModelConfig
from generator.diffusion import NoiseSchedule, clean_from, diffuse
from generator.mood_embedding import NO_MOOD
from generator.plan import BASS, CHROMA
from training.data import Batch

MOOD_DROPOUT: Final = 0.12
PLAN_DROPOUT: Final = 0.15
BOTH_DROPPED: Final = 0.08  #: of which mood and plan together
PLAN_NOISE: Final = 0.03
MAX_WEIGHT: Final = 10.0


@dataclass(frozen=True)
class Draw:
    """The random side of one training step: enough to repeat it exactly.

    Attributes:
        t: [batch], times.
        noise: ε, [batch, bands, frames].
        known: [batch, frames], 1 on the clean prefix.
        mood: [batch], some dropped.
        plan: [batch, FEATURES + 1, columns], some dropped, or ``None``.
        guidance: [batch], the weight of guidance; 1 where the recording itself is to be predicted.
    """

    t: Tensor
    noise: Tensor
    known: Tensor
    mood: Tensor
    plan: Tensor | None
    guidance: Tensor

    @property
    def plain(self) -> "Draw":
        """The same without guidance."""
        return replace(self, guidance=torch.ones_like(self.guidance))


def draw_paper(batch: Batch, config: ModelConfig, random: torch.Generator) -> Draw:
    """The paper's: a uniform step from 1 to T, nothing hidden."""
    size, _, frames = batch.mel.shape
    steps = config.diffusion.steps
    t = torch.randint(1, steps + 1, (size,), generator=random) / steps
    noise = torch.randn(batch.mel.shape, generator=random)
    return Draw(t, noise, torch.zeros(size, frames), batch.mood, None, torch.ones(size))


def draw_bard(batch: Batch, config: ModelConfig, random: torch.Generator, guided: float = 0.0) -> Draw:
    """The bard's: nothing that the sampler will meet is left out.

    Args:
        batch: what is learnt from.
        config: of the model.
        random: of all that is drawn.
        guided: share of the samples that a network which knows guidance learns it from.

    Noise levels are log-normal in noise-to-signal around 1 (Karras et al. 2022, table 1), one in five uniform in time,
    so that its ends are seen too; four in five have a clean prefix; moods and plans are dropped for guidance.
    """
    size, _, frames = batch.mel.shape
    column = config.unet.patch[1]

    def chance(share: float) -> Tensor:
        return torch.rand(size, generator=random) < share

    ratio = (1.4 * torch.randn(size, generator=random)).exp()
    t = torch.where(chance(0.2), torch.rand(size, generator=random), torch.atan(ratio) * (2 / math.pi))
    noise = torch.randn(batch.mel.shape, generator=random)
    longest = 2 * config.prefix // column
    lengths = torch.randint(1, longest + 1, (size,), generator=random) * column
    lengths = torch.where(chance(0.5), config.prefix, lengths) * chance(0.8)
    known = (torch.arange(frames)[None] < lengths[:, None]).float()
    # One number decides both, so that guidance's free side, neither mood nor plan, is seen as often as BOTH_DROPPED.
    drop = torch.rand(size, generator=random)
    mood = batch.mood.masked_fill(drop < MOOD_DROPOUT, NO_MOOD)
    plan = None
    if batch.plan is not None:
        dropped = (drop < BOTH_DROPPED) | (drop > 1 - PLAN_DROPOUT + BOTH_DROPPED)
        plan = condition(_roughen(batch.plan, random), size, batch.plan.shape[-1], ~dropped)
    guidance = torch.ones(size)
    if config.unet.guided:
        guidance = guidance.masked_fill(chance(guided), config.diffusion.guidance)
    return Draw(t, noise, known, mood, plan, guidance)


def _roughen(plan: Tensor, random: torch.Generator) -> Tensor:
    """Blur and sharpen measured chroma, so that the network also reads the cleaner plans that a composer writes."""
    size = len(plan)
    plan = plan.clone()
    spans = torch.randint(0, 4, (size,), generator=random)
    power = torch.empty(size, 1, 1).uniform_(0.7, 3.0, generator=random)
    for part in (CHROMA, BASS):
        chroma = plan[:, part]
        for span in (1, 2, 3):  # averages over 2, 4 and 8 columns
            width = 2**span
            usable = chroma.shape[-1] // width * width
            if not usable:
                break
            blurred = F.avg_pool1d(chroma[..., :usable], width).repeat_interleave(width, dim=-1)
            blurred = F.pad(blurred, (0, chroma.shape[-1] - usable), mode="replicate")
            chroma = torch.where((spans == span)[:, None, None], blurred, chroma)
        plan[:, part] = (chroma / chroma.amax(1, keepdim=True).clamp(min=0.1)).clamp(min=0) ** power
    return plan + PLAN_NOISE * torch.randn(plan.shape, generator=random)


def loss_of(
    network: nn.Module,
    batch: Batch,
    draw: Draw,
    config: ModelConfig,
    schedule: NoiseSchedule,
    teacher: nn.Module | None = None,
) -> Tensor:
    """The weighted error of one batch.

    The paper's loss is the plain mean square error of ε or x₀. The bard's error of x₀ weighs min(1 / s², 10), which is
    the error of v (Salimans & Ho 2022, appendix D) bounded near the clean end, outside the prefix. Where guidance is
    drawn, x₀ is not the recording's but what two passes of the teacher make of it: of the network itself, if no other
    is given.

    Returns:
        A scalar, float32.
    """
    hidden = 1 - draw.known[:, None]
    noisy = diffuse(batch.mel, draw.t, draw.noise, schedule)
    noisy = torch.where(hidden > 0, noisy, batch.mel)
    predicted = network(noisy, draw.t, draw.mood, draw.plan, draw.known, draw.guidance).float()
    if config.unet.architecture == "paper":
        return F.mse_loss(predicted, draw.noise if config.diffusion.target == "noise" else batch.mel)
    predicted = clean_from(predicted, noisy, draw.t, config.diffusion, schedule)
    goal = batch.mel
    if (rows := draw.guidance != 1).any():
        goal = goal.clone()
        goal[rows] = _guided(teacher or network, noisy[rows], _only(draw, rows), config, schedule)
    weight = (1 / schedule.noise(draw.t).square()).clamp(max=MAX_WEIGHT)[:, None, None] * hidden
    errors = weight * (predicted - goal).square()
    mean: Tensor = errors.sum() / (hidden.sum() * batch.mel.shape[1])
    return mean


@torch.no_grad()
def _guided(teacher: nn.Module, noisy: Tensor, draw: Draw, config: ModelConfig, schedule: NoiseSchedule) -> Tensor:
    """x₀ by classifier-free guidance in two passes (Ho & Salimans 2022, equation 6), which one pass learns to make.

    As Meng et al. 2023 (algorithm 1); a teacher that knows guidance itself is asked at a weight of 1.
    """
    plain = draw.plain
    nothing = condition(None, len(noisy), noisy.shape[2] // config.unet.patch[1]).to(noisy.device)
    conditional = teacher(noisy, draw.t, draw.mood, draw.plan, draw.known, plain.guidance).float()
    no_mood = torch.full_like(draw.mood, NO_MOOD)
    free = teacher(noisy, draw.t, no_mood, nothing, draw.known, plain.guidance).float()
    guided = free + draw.guidance[:, None, None] * (conditional - free)
    return clean_from(guided, noisy, draw.t, config.diffusion, schedule)


def _only(draw: Draw, rows: Tensor) -> Draw:
    return Draw(*(None if value is None else value[rows] for value in vars(draw).values()))  # type: ignore[arg-type]
