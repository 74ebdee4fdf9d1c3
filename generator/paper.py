"""The paper's UNet: single Mel cells, mood and time added at the input of every layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generator.config import GROUPS, UNetConfig
from generator.mood_embedding import MoodEmbedding
from generator.sinusoid import sinusoidal_embedding


class _Norm(nn.GroupNorm):
    """Group normalisation in eight groups, computed in the plain layout.

    Its gradient in channels_last is so slow on a CPU that, under bfloat16, two copies a call make the whole training
    step twice as fast at widths 8, 16, 32.
    """

    def __init__(self, width: int) -> None:
        super().__init__(GROUPS, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, width, high, wide], any layout → channels_last."""
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


class _Layer(nn.Module):
    """What every layer shares: the time and mood embedding, added at its input."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.condition = nn.Linear(embedding, width)

    def enter(self, x: Tensor, embedding: Tensor) -> Tensor:
        bias: Tensor = self.condition(embedding)
        return x + bias[:, :, None, None]


class ResidualLayer(_Layer):
    """Norm, conv, ReLU, conv, with a skip."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__(width, embedding)
        self.norm = _Norm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """[batch, width, high, wide], [batch, embedding] → the first's shape."""
        x = self.enter(x, embedding)
        update: Tensor = self.conv2(F.relu(self.conv1(self.norm(x))))
        return x + update


class DownBlock(nn.Module):
    """Three residual layers, then a strided convolution that halves both axes."""

    def __init__(self, width: int, coarser: int, layers: int, embedding: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ResidualLayer(width, embedding) for _ in range(layers))
        self.shrink = nn.Conv2d(width, coarser, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, width, h, w] → ([batch, coarser, h/2, w/2], the skip [batch, width, h, w])."""
        for layer in self.layers:
            x = layer(x, embedding)
        return self.shrink(x), x


class UpBlock(nn.Module):
    """Three residual layers, nearest up-sampling, convolution and norm; then the skip of equal size is added."""

    def __init__(self, width: int, finer: int, layers: int, embedding: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ResidualLayer(width, embedding) for _ in range(layers))
        self.conv = nn.Conv2d(width, finer, 3, padding=1)
        self.norm = _Norm(finer)

    def forward(self, x: Tensor, skip: Tensor, embedding: Tensor) -> Tensor:
        """[batch, width, h, w], [batch, finer, 2h, 2w] → [batch, finer, 2h, 2w]."""
        for layer in self.layers:
            x = layer(x, embedding)
        grown: Tensor = self.norm(self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))
        return grown + skip


class PaperUNet(nn.Module):
    """Fatten layer, three down blocks, three up blocks, thin layer.

    Time is a sinusoidal embedding, not learned; mood is a learned one. It knows neither plan nor prefix nor
    guidance, and its forward takes them only so that it can be called as any network of this house.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, size = config.widths, config.embedding
        coarser = (*widths[1:], widths[-1])
        self.mood = MoodEmbedding(size)
        self.fatten = nn.Conv2d(1, widths[0], 3, padding=1)
        pairs = list(zip(widths, coarser, strict=True))
        self.downs = nn.ModuleList(DownBlock(width, next_, config.blocks, size) for width, next_ in pairs)
        self.ups = nn.ModuleList(UpBlock(next_, width, config.blocks, size) for width, next_ in reversed(pairs))
        self.thin = nn.Conv2d(widths[0], 1, 3, padding=1)
        if config.he_initialisation:
            self.apply(_he)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        mood: Tensor,
        plan: Tensor | None = None,
        known: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Predict from a noisy Mel.

        Args:
            x: [batch, bands, frames]; both axes divide by 8.
            level: [batch], time from 0 to 1.
            mood: as for :class:`MoodEmbedding`: [batch] rows, or [batch, moods + 1] shares.
            plan: not known to this network.
            known: not known to this network.
            guidance: not known to this network.

        Returns:
            [batch, bands, frames]
        """
        embedding = sinusoidal_embedding(1000 * level, self.config.embedding) + self.mood(mood)
        h = self.fatten(x[:, None])
        skips = []
        for down in self.downs:
            h, skip = down(h, embedding)
            skips.append(skip)
        for up in self.ups:
            h = up(h, skips.pop(), embedding)
        out: Tensor = self.thin(h)
        return out[:, 0]


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):  # He et al. 2015, equation 10
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        assert module.bias is not None  # noqa: S101 - every convolution here has one
        nn.init.zeros_(module.bias)
