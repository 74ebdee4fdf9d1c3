"""What tests run under torchrun: one small model, trained in each of the ways that a world can be in."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.small_run import BARD_RUN, PAPER_RUN
from training.__main__ import main
from training.distributed import World, joined
from training.errors import TrainingError
from training.loop import Bounds, train
from training.loss import loss_of
from training.presets import PRESETS, TrainConfig, with_widths

# At the small runs' own widths a normalisation's group is one channel, which takes every bias before it away again: its
# gradient is rounding and nothing else, and Adam makes whole steps of it.
BARD = with_widths(BARD_RUN, (16, 16, 16))
PAPER = with_widths(PAPER_RUN, (16, 16, 16))


def in_float32(patch: pytest.MonkeyPatch) -> None:
    """Where a stop-watch would choose."""
    patch.setattr("training.run.bf16_pays", lambda _work, _device: False)


def noting(seen: list[str], nan_after: float = float("inf")) -> Callable[..., Tensor]:
    """``loss_of``, with a note of each training sample's noise; not a number after so many samples."""

    def loss(network: Any, batch: Any, draw: Any, *rest: Any) -> Tensor:
        if torch.is_grad_enabled():
            seen.extend(noise.numpy().tobytes().hex()[:32] for noise in draw.noise)
        return loss_of(network, batch, draw, *rest) * (torch.nan if len(seen) > nan_after else 1.0)

    return loss


def scenarios(prepared: Path, folder: Path, world: World, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Train anew, go on with one process's run, and be refused; what this process met."""
    found: dict[str, Any] = {}

    def trained(config: TrainConfig, name: str, steps: int, nan_after: float = float("inf")) -> None:
        seen: list[str] = []
        patch.setattr("training.run.loss_of", noting(seen, nan_after))
        try:
            train(config, prepared, folder / name, Bounds(steps=steps), say=said.append, world=world)
        except TrainingError as error:
            found[name] = str(error)
        else:
            found[name] = seen

    said: list[str] = []
    trained(BARD, "bard", 4)
    trained(PAPER, "paper", 4)
    trained(BARD, "begun by one", 4)
    trained(BARD, "claimed", 1)
    trained(BARD, "nan", 50, 12 if world.rank == 1 else float("inf"))
    trained(replace(BARD, batch=5), "uneven", 1)
    return found | {"said": said}


if __name__ == "__main__":
    torch.set_num_threads(1)
    in_float32(patch := pytest.MonkeyPatch())
    if sys.argv[1] == "train":
        PRESETS["small-bard"] = BARD
        sys.exit(main(sys.argv[1:]))
    with joined() as world:
        out = Path(sys.argv[2])
        found = scenarios(Path(sys.argv[1]), out, world, patch)
    found["threads"] = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    (out / f"rank{os.environ['RANK']}.json").write_text(json.dumps(found))
