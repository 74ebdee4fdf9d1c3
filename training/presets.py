"""Named training runs: a model and how it is optimised."""

from dataclasses import dataclass
from typing import Final, Literal

from generator.config import BARD, ModelConfig


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        model: what is trained.
        batch: samples a step.
        learning_rate: Adam's, at its highest.
        weight_decay: decoupled for ``inverse-sqrt``, L2 as in the paper otherwise.
        decay: ``constant``; ``step`` multiplies by ``gamma`` every ``every`` epochs; ``inverse-sqrt`` warms up, stays
            for ``every`` steps and then falls with the root of the step (Karras et al. 2024, equation 67).
        gamma: factor of ``step``.
        every: epochs of ``step``, steps of ``inverse-sqrt``.
        epochs: where the run ends by itself, unless the caller gives another bound.
    """

    model: ModelConfig
    batch: int
    learning_rate: float
    weight_decay: float
    decay: Literal["constant", "step", "inverse-sqrt"] = "constant"
    gamma: float = 1.0
    every: int = 1
    epochs: int = 10


PRESETS: Final[dict[str, TrainConfig]] = {
    "bard": TrainConfig(BARD, 32, 1e-3, 1e-2, "inverse-sqrt", every=1200, epochs=100),
}
