"""musicnn (Pons & Serra 2019, arXiv:1909.06654), a network that hears what music is made of: in torch, to listen only.

It was trained to tag music with words, "violin" or "slow", from three seconds of log-Mel. Its weights are in the PyPI
wheel of the authors' own package, which itself can't run any more (it wants a TensorFlow and a numpy of 2019). So the
wheel is installed without its dependencies and never imported: only two of its files are read.
"""

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from generator.torchaudio_shim import torchaudio
from training.errors import EvaluationError
from training.evaluation.tensor_bundle import read_tensor_bundle

VERSION: Final = "0.1.0"
INSTALL: Final = f"pip install --no-deps musicnn=={VERSION}"

NETWORK: Final = "MTT_musicnn"  #: trained on MagnaTagATune; its sister MSD_musicnn tells moods apart no better
HASHES: Final = {
    ".index": "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57",
    ".data-00000-of-00001": "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
}  #: SHA-256 of its files

SAMPLE_RATE: Final = 16_000  #: Hz
HOP: Final = 256
FFT: Final = 512
BANDS: Final = 96
PATCH_FRAMES: Final = 187  #: three seconds
FEATURES: Final = 200  #: of the layer before the tags
EPSILON: Final = 1e-3  #: of TensorFlow's batch normalisation


Weights = dict[str, NDArray[Any]]


class Features(NamedTuple):
    """What the network makes of patches.

    Attributes:
        tags: [patches, 50], probabilities.
        penultimate: [patches, 200].
        mean_pool: [patches, 753], mean over time of all that the convolutions found.
        max_pool: [patches, 753], its maximum.
    """

    tags: Tensor
    penultimate: Tensor
    mean_pool: Tensor
    max_pool: Tensor


class Musicnn(nn.Module):
    """The network."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.input = Affine(weights, 0)
        self.shapes = nn.ModuleList(Shapes(weights, index) for index in range(5))
        self.middle = nn.ModuleList(Convolution(weights, index) for index in (5, 6, 7))
        self.pooled = Affine(weights, 9)
        self.dense = Dense(weights, 0)
        self.penultimate = Affine(weights, 10)
        self.tags = Dense(weights, 1)

    def forward(self, patches: Tensor) -> Features:
        """Hear patches.

        Args:
            patches: [patches, frames, 96], log-Mel as :class:`LogMel` makes it.
        """
        x = self.input(patches[:, None])
        front = torch.cat([shape(x) for shape in self.shapes], 1)  # [patches, 561, frames, 1]
        found = [front, self.middle[0](front)]
        for convolution in self.middle[1:]:
            found.append(found[-1] + convolution(found[-1]))
        everything = torch.cat(found, 1)[..., 0]  # [patches, 753, frames]
        max_pool, mean_pool = everything.amax(2), everything.mean(2)
        pooled = self.pooled(torch.stack([max_pool, mean_pool], 2).flatten(1))
        penultimate = self.penultimate(F.relu(self.dense(pooled)))
        return Features(self.tags(penultimate).sigmoid(), penultimate, mean_pool, max_pool)


class Affine(nn.Module):
    """A batch normalisation whose statistics no longer change: one factor and one shift a channel."""

    factor: Tensor
    shift: Tensor

    def __init__(self, weights: Weights, index: int) -> None:
        super().__init__()
        name = _numbered("batch_normalization", index)
        gamma, beta, mean, variance = (
            _tensor(weights, f"{name}/{part}") for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        factor = gamma / (variance + EPSILON).sqrt()
        self.register_buffer("factor", factor)
        self.register_buffer("shift", beta - mean * factor)

    def forward(self, x: Tensor) -> Tensor:
        """[patches, channels, ...] → the same."""
        shape = (-1, *(1,) * (x.ndim - 2))
        return torch.addcmul(self.shift.view(shape), x, self.factor.view(shape))


class Shapes(nn.Module):
    """Filters laid over the spectrogram, and of each how well it fits at its best place in frequency.

    Two sets are as high as an instrument's spectrum, three as long as a beat. The original applies ReLU and
    normalisation everywhere and then takes the maximum over frequency. Both are monotone, so the place can be found
    first, which is faster: it is the maximum, or the minimum where the normalisation's factor is negative.
    """

    weight: Tensor
    bias: Tensor
    sign: Tensor

    def __init__(self, weights: Weights, index: int) -> None:
        super().__init__()
        name = _numbered("conv2d", index)
        self.affine = Affine(weights, index + 1)
        sign = torch.where(self.affine.factor < 0, -1.0, 1.0)
        kernel = _tensor(weights, f"{name}/kernel").permute(3, 2, 0, 1)  # [filters, 1, frames, bands]
        self.register_buffer("sign", sign.view(-1, 1, 1))
        self.register_buffer("weight", (kernel * sign.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", _tensor(weights, f"{name}/bias") * sign)

    def forward(self, x: Tensor) -> Tensor:
        """[patches, 1, frames, bands] → [patches, filters, frames, 1]."""
        fits = F.conv2d(_pad(x, self.weight.shape[2]), self.weight, self.bias)
        best = F.max_pool2d(fits, (1, fits.shape[3]))  # in channels_last, many times faster than amax
        known: Tensor = self.affine(F.relu(best * self.sign))
        return known


class Convolution(nn.Module):
    """A convolution over time and over all channels at once, its ReLU and its normalisation."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weights: Weights, index: int) -> None:
        super().__init__()
        name = _numbered("conv2d", index)
        kernel = _tensor(weights, f"{name}/kernel")  # [frames, channels, 1, filters]
        self.register_buffer("weight", kernel.permute(3, 1, 0, 2).contiguous())
        self.register_buffer("bias", _tensor(weights, f"{name}/bias"))
        self.affine = Affine(weights, index + 1)

    def forward(self, x: Tensor) -> Tensor:
        """[patches, channels, frames, 1] → [patches, filters, frames, 1]."""
        found: Tensor = self.affine(F.relu(F.conv2d(_pad(x, self.weight.shape[2]), self.weight, self.bias)))
        return found


class Dense(nn.Module):
    """A matrix and a bias."""

    kernel: Tensor
    bias: Tensor

    def __init__(self, weights: Weights, index: int) -> None:
        super().__init__()
        name = _numbered("dense", index)
        self.register_buffer("kernel", _tensor(weights, f"{name}/kernel"))
        self.register_buffer("bias", _tensor(weights, f"{name}/bias"))

    def forward(self, x: Tensor) -> Tensor:
        """[patches, in] → [patches, out]."""
        return torch.addmm(self.bias, x, self.kernel)


class LogMel(nn.Module):
    """The spectrogram that musicnn wants: librosa's power Mel in half precision, log₁₀(10,000 Mel + 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = torchaudio.transforms.MelSpectrogram(
            sample_rate=SAMPLE_RATE,
            n_fft=FFT,
            hop_length=HOP,
            n_mels=BANDS,
            pad_mode="constant",
            norm="slaney",
            mel_scale="slaney",
        )

    def forward(self, wave: Tensor) -> Tensor:
        """[..., samples] at 16 kHz → [..., frames, 96]."""
        mel: Tensor = self.transform(wave)
        return (10_000 * mel.half().float() + 1).log10().transpose(-1, -2)


def load_musicnn() -> Musicnn:
    """The network with its weights out of the installed wheel.

    Raises:
        EvaluationError: the package is not installed, or its files are others.
    """
    return Musicnn(read_tensor_bundle(*(_file(name) for name in HASHES)))


def _file(name: str) -> bytes:
    try:
        package = metadata.distribution("musicnn")
        content = Path(str(package.locate_file(f"musicnn/{NETWORK}/{name}"))).read_bytes()
    except (metadata.PackageNotFoundError, OSError):
        raise EvaluationError(f"the score card's ear, musicnn, is not installed; install it with `{INSTALL}`") from None
    if hashlib.sha256(content).hexdigest() != HASHES[name]:
        raise EvaluationError(
            f"the installed musicnn is damaged or another version; run `pip uninstall musicnn`, then `{INSTALL}`"
        )
    return content


def _pad(x: Tensor, frames: int) -> Tensor:
    """Zeros before and after, as TensorFlow puts them, so that filters of so many frames leave the length as it is."""
    return F.pad(x, (0, 0, (frames - 1) // 2, frames // 2))


def _numbered(name: str, index: int) -> str:
    """How TensorFlow names the layers of one kind: ``name``, ``name_1``, ``name_2``."""
    return f"{name}_{index}" if index else name


def _tensor(weights: Weights, name: str) -> Tensor:
    return torch.from_numpy(np.array(weights[name], np.float32))
