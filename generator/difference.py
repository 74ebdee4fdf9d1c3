"""A model told as its difference from another: once packed, four bits a weight, where weights themselves take sixteen.

Distilled weights lie so near to their teacher's that the difference bears to be told coarsely; small tensors and new
ones are told whole.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

STEPS: Final = 7  #: to either side of no difference
#: Sizes of a step that are tried, in deviations of a row's differences; for normal ones 0.35 errs least (Max 1960).
SIZES: Final = (0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.75)
LEAST: Final = 4096  #: numbers of a tensor that is worth it
DIFFERENCE, SCALE = "difference.", "scale."


def difference(tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a file needs to hold beside another.

    Args:
        tensors: of the model.
        base: of the other.

    Returns:
        Under ``difference.NAME`` int8 steps from the base, in the tensor's shape, with the size of a row's steps under
        ``scale.NAME``, float32 [rows]; and under their own names the tensors that are told whole.
    """
    told: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        like = base.get(name)
        if like is None or like.shape != tensor.shape or tensor.dim() < 2 or tensor.numel() < LEAST:
            told[name] = tensor
            continue
        rows = (tensor.float() - like.float()).flatten(1)
        deviation = rows.square().mean(1).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
        scales = torch.tensor(SIZES)[:, None] * deviation
        errors = torch.stack([(_steps(rows, scale) * scale[:, None] - rows).square().sum(1) for scale in scales])
        scale = scales.gather(0, errors.argmin(0, keepdim=True))[0]
        told[DIFFERENCE + name] = _steps(rows, scale).to(torch.int8).reshape(tensor.shape)
        told[SCALE + name] = scale
    return told


def _steps(rows: Tensor, scale: Tensor) -> Tensor:
    return (rows / scale[:, None]).round().clamp(-STEPS, STEPS)


def applied(told: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model of which :func:`difference` told.

    Raises:
        KeyError, ValueError: it was told of another base.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in told.items():
        if name.startswith(DIFFERENCE):
            own = name.removeprefix(DIFFERENCE)
            like, scale = base[own], told[SCALE + own]
            if value.dtype != torch.int8 or value.shape != like.shape or scale.shape != like.shape[:1]:
                raise ValueError(f"{own} is no difference from its base")
            tensors[own] = like.float() + (value.float().flatten(1) * scale.float()[:, None]).reshape(like.shape)
        elif not name.startswith(SCALE):
            tensors[name] = value
    return tensors
