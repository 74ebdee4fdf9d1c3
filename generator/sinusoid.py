"""The sinusoidal embedding that both UNets take their noise level through."""

import math

import torch
from torch import Tensor


def sinusoidal_embedding(position: Tensor, size: int, max_period: float = 10_000.0) -> Tensor:
    """Sines and cosines of a position at geometric periods (Vaswani et al. 2017, section 3.5). Not learned.

    Args:
        position: [batch], any real numbers.
        size: even.
        max_period: the longest period over 2π.

    Returns:
        [batch, size]
    """
    half = size // 2
    frequencies = torch.exp(
        torch.arange(half, dtype=torch.float32, device=position.device) * (-math.log(max_period) / half)
    )
    angles = position.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
