"""What a run is between two steps, on disk: one file, whole or not at all."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import TrainingError


class Ema:
    """Power-function moving average of weights: it spans about the last tenth of the run, however long that is.

    β_n = (1 − 1/n)^(γ + 1) with γ = 6.94 (Karras et al. 2024, section 3.1).
    """

    def __init__(self, network: nn.Module) -> None:
        self.weights = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the network's weights after step ``step`` ≥ 1."""
        keep = (1 - 1 / step) ** 7.94
        for key, value in network.state_dict().items():
            self.weights[key].lerp_(value, 1 - keep) if value.is_floating_point() else self.weights[key].copy_(value)


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps done.
        samples: samples seen.
        seconds: of training, over all resumes.
    """

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best: float = field(default=float("inf"))


def save_state(path: Path, progress: Progress, parts: dict[str, Any]) -> None:
    """Write the run's state through a temporary file.

    Raises:
        TrainingError: the disk is full or the folder can't be written.
    """
    partial = path.with_suffix(".part")
    try:
        torch.save({"progress": vars(progress), **parts}, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(f"{path}: could not be written ({error}); free some space and run again") from error


def load_state(path: Path) -> tuple[Progress, dict[str, Any]] | None:
    """The state of an earlier run, or ``None`` where there is none.

    Raises:
        TrainingError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        parts: dict[str, Any] = torch.load(path, weights_only=True)
        return Progress(**parts.pop("progress")), parts
    except Exception as error:  # torch.load raises half a dozen kinds for one damaged file
        raise TrainingError(f"{path}: damaged ({error}); delete it to start the run anew") from error


def ema_tensors(ema: Ema, prefix: str) -> dict[str, Tensor]:
    """The averaged weights, named as in a checkpoint."""
    return {f"{prefix}.{key}": value for key, value in ema.weights.items()}
