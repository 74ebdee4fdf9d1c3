"""The patched UNet: the network behind the default model.

A network maps a noisy Mel to a prediction and never sees raw noise-level scaling; ``diffusion.Denoiser`` owns that.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generator.config import UNetConfig
from generator.mood_embedding import MoodEmbedding
from generator.paper import PaperUNet
from generator.sinusoid import sinusoidal_embedding


def patchify(mel: Tensor, patch: tuple[int, int]) -> Tensor:
    """[batch, bands, frames] → [batch, patch cells, bands / patch[0], frames / patch[1]]."""
    batch, bands, frames = mel.shape
    rows, columns = patch
    cells = mel.reshape(batch, bands // rows, rows, frames // columns, columns)
    return cells.permute(0, 2, 4, 1, 3).reshape(batch, rows * columns, bands // rows, frames // columns)


def unpatchify(cells: Tensor, patch: tuple[int, int]) -> Tensor:
    """The inverse of :func:`patchify`."""
    batch, _, high, wide = cells.shape
    rows, columns = patch
    mel = cells.reshape(batch, rows, columns, high, wide).permute(0, 3, 1, 4, 2)
    return mel.reshape(batch, high * rows, wide * columns)


class ResidualBlock(nn.Module):
    """Two convolutions with a skip; noise level and mood scale and shift between them (Perez et al. 2018)."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.condition = nn.Linear(embedding, 2 * width)
        self.norm2 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # a block begins as the identity, up to a bias
        nn.init.zeros_(self.condition.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """[batch, width, high, wide], [batch, embedding] → the first's shape."""
        scale, shift = self.condition(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h) * (1 + scale) + shift
        update: Tensor = self.conv2(F.silu(h))
        return x + update


class TimeAttention(nn.Module):
    """Self-attention over all positions of the coarsest level: the timbre of the prefix reaches the whole window."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, width, high, wide] → the same shape."""
        batch, width, high, wide = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, width // self.heads, high * wide).unbind(1)
        mixed = F.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT
        update: Tensor = self.out(mixed.reshape(batch, width, high, wide))
        return x + update


class DownLevel(nn.Module):
    """Residual blocks, then a strided convolution that halves both axes."""

    def __init__(self, width: int, coarser: int, blocks: int, embedding: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(width, embedding) for _ in range(blocks))
        self.shrink = nn.Conv2d(width, coarser, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, width, h, w] → ([batch, coarser, h / 2, w / 2], the skip [batch, width, h, w])."""
        for block in self.blocks:
            x = block(x, embedding)
        return self.shrink(x), x


class UpLevel(nn.Module):
    """Nearest up-sampling and convolution, the skip added, then residual blocks."""

    def __init__(self, coarser: int, width: int, blocks: int, embedding: int) -> None:
        super().__init__()
        self.grow = nn.Conv2d(coarser, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, embedding) for _ in range(blocks))

    def forward(self, x: Tensor, skip: Tensor, embedding: Tensor) -> Tensor:
        """[batch, coarser, h, w], [batch, width, 2 h, 2 w] → [batch, width, 2 h, 2 w]."""
        grown: Tensor = self.grow(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = grown + skip
        for block in self.blocks:
            x = block(x, embedding)
        return x


class PatchedUNet(nn.Module):
    """A UNet over patches of the Mel, conditioned on noise level, mood, plan and a clean prefix.

    Skips are added, not concatenated: half the arithmetic at the finest level for no loss seen.
    """

    def __init__(self, config: UNetConfig, bands: int) -> None:
        super().__init__()
        self.config = config
        cells = config.patch[0] * config.patch[1]
        rows = bands // config.patch[0]
        finest, deepest, size = config.widths[0], config.widths[-1], config.embedding
        self.rows = rows

        self.level = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size))
        self.mood = MoodEmbedding(size)
        self.guidance = nn.Linear(size, size) if config.guided else None
        if self.guidance is not None:
            nn.init.zeros_(self.guidance.weight)  # it begins deaf to it
            nn.init.zeros_(self.guidance.bias)
        self.enter = nn.Conv2d(cells + 1, finest, 3, padding=1)
        self.pitch = nn.Parameter(torch.zeros(finest, rows, 1))  # where on the frequency axis a position lies
        self.plan = nn.Sequential(
            nn.Conv1d(config.plan_features + 1, size, 5, padding=2),
            nn.SiLU(),
            nn.Conv1d(size, size, 3, padding=1),
            nn.SiLU(),
            nn.Conv1d(size, finest * rows, 1),
        )
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for width, coarser in zip(config.widths[:-1], config.widths[1:], strict=True):
            self.downs.append(DownLevel(width, coarser, config.blocks, size))
            self.ups.append(UpLevel(coarser, width, config.blocks, size))
        self.middle1 = ResidualBlock(deepest, size)
        self.attention = TimeAttention(deepest)
        self.middle2 = ResidualBlock(deepest, size)
        self.leave = nn.Sequential(nn.GroupNorm(8, finest), nn.SiLU(), nn.Conv2d(finest, cells, 3, padding=1))

    def forward(
        self, x: Tensor, level: Tensor, mood: Tensor, plan: Tensor, known: Tensor, guidance: Tensor | None = None
    ) -> Tensor:
        """Predict from a noisy Mel.

        Args:
            x: [batch, bands, frames], noisy where not known, clean where known.
            level: [batch], noise level, 0 (clean) to 1 (pure noise).
            mood: as for :class:`MoodEmbedding`: [batch] rows, or [batch, moods + 1] shares.
            plan: [batch, plan features + 1, frames / patch]; the last row is 1 where a plan is given.
            known: [batch, frames], 1 where ``x`` is a clean prefix.
            guidance: [batch], the weight of guidance; 1, or nothing, for none. Only for a ``guided`` network.

        Returns:
            [batch, bands, frames]
        """
        embedding = self.level(sinusoidal_embedding(1000 * level, self.config.embedding)) + self.mood(mood)
        if self.guidance is not None and guidance is not None:
            embedding = embedding + self.guidance(sinusoidal_embedding(100 * guidance, self.config.embedding))
        embedding = F.silu(embedding)
        mask = known[:, None, None, :: self.config.patch[1]].to(x.dtype).expand(-1, 1, self.rows, -1)
        h = self.enter(torch.cat([patchify(x, self.config.patch), mask], dim=1)) + self.pitch
        h = h + self.plan(plan).unflatten(1, (h.shape[1], self.rows))
        skips = []
        for down in self.downs:
            h, skip = down(h, embedding)
            skips.append(skip)
        h = self.middle2(self.attention(self.middle1(h, embedding)), embedding)
        for up in reversed(self.ups):
            h = up(h, skips.pop(), embedding)
        return unpatchify(self.leave(h), self.config.patch)


def make_network(config: UNetConfig, bands: int) -> nn.Module:
    """A fresh network of the architecture that a configuration names, in channels_last layout."""
    network: nn.Module = PatchedUNet(config, bands) if config.architecture == "patched" else PaperUNet(config)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network
