"""A network made into what a sampler wants: (x_t, t) → x₀, bounded, guided, with the prefix kept clean."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from generator.analysis import condition
from generator.config import ModelConfig
from generator.device import precision
from generator.diffusion import NoiseSchedule, clean_from
from generator.mood_embedding import NO_MOOD
from generator.sampling import Steps


@dataclass(frozen=True, slots=True)
class Question:
    """What one window asks of the network at one step: one row; or two, where guidance takes two passes.

    Attributes:
        noisy: [rows, bands, frames].
        level: [rows].
        mood: [rows, moods + 1].
        plan: [rows, FEATURES + 1, columns].
        known: [rows, frames].
        guidance: [rows].
    """

    noisy: Tensor
    level: Tensor
    mood: Tensor
    plan: Tensor
    known: Tensor
    guidance: Tensor


@torch.no_grad()
def answer(network: nn.Module, questions: Sequence[Question], bf16: bool) -> list[Tensor]:
    """One forward pass for all.

    Args:
        network: predicts ε or x₀.
        questions: each of a window and at a noise level of its own.
        bf16: run it under bfloat16 autocast.

    Returns:
        For each question [rows, bands, frames].
    """
    names = [field.name for field in fields(Question)]
    rows = [torch.cat([getattr(question, name) for question in questions]) for name in names]
    with precision(rows[0].device, bf16):
        predicted: Tensor = network(*rows)
    return list(torch.split(predicted.float(), [len(question.level) for question in questions]))


class Denoiser:
    """One window's conditions round a network. Called by a sampler; holds nothing that changes."""

    def __init__(
        self,
        network: nn.Module,
        config: ModelConfig,
        schedule: NoiseSchedule,
        mood: int | Sequence[float],
        plan: Tensor | None = None,
        prefix: Tensor | None = None,
        bf16: bool = False,
    ) -> None:
        """Set a window's conditions.

        Args:
            network: predicts ε or x₀, as the configuration says.
            config: of the model.
            schedule: of the diffusion.
            mood: its row of the embedding, or how much of each mood, in the order of ``MOODS``, adding up to 1.
            plan: [FEATURES, columns], or ``None``.
            prefix: [bands, known frames], normalised, the clean beginning; or ``None``. Only for a network that was
                trained with one.
            bf16: run the network under bfloat16 autocast.
        """
        self.network, self.config, self.schedule, self.bf16 = network, config, schedule, bf16
        weight = config.diffusion.guidance
        self.guided = weight != 1 and not config.unet.guided
        columns = config.unet.frames // config.unet.patch[1]
        self.device = next(network.parameters()).device
        wanted = [float(row == mood) for row in range(NO_MOOD + 1)] if isinstance(mood, int) else [*mood, 0.0]
        free = [float(row == NO_MOOD) for row in range(NO_MOOD + 1)]
        self.moods = torch.tensor([wanted, free] if self.guided else [wanted], device=self.device)
        with_plan = condition(None if plan is None else plan[None].cpu(), 1, columns)
        without = condition(None, 1, columns)
        self.plans = torch.cat([with_plan, without] if self.guided else [with_plan]).to(self.device)
        self.guidance = torch.full((len(self.moods),), weight if config.unet.guided else 1.0, device=self.device)
        self.known = torch.zeros(1, config.unet.frames, device=self.device)
        self.clean = torch.zeros(1, config.mel.bands, config.unet.frames, device=self.device)
        if prefix is not None:
            self.known[:, : prefix.shape[1]] = 1
            self.clean[..., : prefix.shape[1]] = prefix

    def __call__(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Predict x₀.

        Args:
            noisy: x_t, [1, bands, frames].
            t: [1].

        Returns:
            [1, bands, frames], within the configuration's bound; the prefix as it was given.
        """
        question = self._question(noisy, t)
        return self._clean(question, answer(self.network, [question], self.bf16)[0])

    def through(self, steps: Steps) -> Generator[Question, Tensor, Tensor]:
        """A sampler's steps as what the network is asked; is sent its answers, and returns the sample."""
        noisy, t = next(steps)
        while True:
            question = self._question(noisy, t)
            clean = self._clean(question, (yield question))
            try:
                noisy, t = steps.send(clean)
            except StopIteration as end:
                sample: Tensor = end.value
                return sample

    def _question(self, noisy: Tensor, t: Tensor) -> Question:
        rows = len(self.moods)
        noisy = torch.where(self.known[:, None] > 0, self.clean, noisy)
        return Question(
            noisy.expand(rows, -1, -1),
            t.expand(rows),
            self.moods,
            self.plans,
            self.known.expand(rows, -1),
            self.guidance,
        )

    def _clean(self, question: Question, predicted: Tensor) -> Tensor:
        if self.guided:  # Ho & Salimans 2022, equation 6
            conditional, free = predicted.chunk(2)
            predicted = free + self.config.diffusion.guidance * (conditional - free)
        noisy, t = question.noisy[:1], question.level[:1]
        clean = clean_from(predicted, noisy, t, self.config.diffusion, self.schedule)
        if self.config.limits is not None:
            clean = clean.clamp(*self.config.limits)
        return torch.where(self.known[:, None] > 0, self.clean, clean)
