"""The amplitude network: log-Mel → linear STFT amplitudes, finer than the filter bank's own inversion.

A Mel's upper bands are many bins wide, and an inversion of the bank spreads each of them evenly. The network has learnt
from recordings where partials lie within a band, how deep it is between them, and what lies above the highest band.
It is a file of its own and serves every model of the same Mel.
"""

import json
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generator.checkpoint import UNREADABLE, CheckpointError, damaged, load_state, read_tensors, write_tensors
from generator.config import LARGEST, ConfigError, MelConfig
from generator.device import precision
from generator.mel import Mel

FORMAT: Final = "bardcast-vocoder-1"
SHIPPED: Final = "vocoder.safetensors"

REACH: Final = 3  #: frames to either side that a block looks at
BOUND: Final = 6.0  #: deviations to which an input is clamped, so that no Mel is stranger than any in training
LOUDEST: Final = 14.0  #: ln of an amplitude: a thousand times a sine of full scale
UPDATES: Final = (2, 2, 1)  #: how far each update of the amplitudes goes towards the Mel that was asked for


@dataclass(frozen=True, slots=True)
class AmplitudeConfig:
    """What an amplitude network is made of.

    Attributes:
        mel: the Mel that it inverts, of ``standard`` scaling.
        width: channels.
        blocks: how many.
        expansion: of the channels within a block.
        notes: what it was trained on, and how long.
    """

    mel: MelConfig
    width: int
    blocks: int
    expansion: int
    notes: dict[str, str]

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "expansion"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LARGEST:
                raise ConfigError(f"{name} is a whole number from 1 to {LARGEST}")
        if self.mel.scaling != "standard":
            raise ConfigError("an amplitude network takes a Mel of standard scaling")

    @property
    def context(self) -> int:
        """Frames to either side of one that have a say in its amplitudes."""
        return REACH * self.blocks

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        """The inverse of ``asdict``.

        Raises:
            ConfigError, KeyError, TypeError, ValueError: it is no such thing.
        """
        return cls(**(body | {"mel": MelConfig(**body["mel"]), "notes": dict(body["notes"])}))


class Block(nn.Module):
    """ConvNeXt's block (Liu et al. 2022, figure 4) over time: frames are mixed channel by channel, then channels."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        # A convolution over an image one pixel wide: as Conv1d it takes four times as long on a CPU.
        self.frames = nn.Conv2d(width, width, (2 * REACH + 1, 1), padding=(REACH, 0), groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, frames, width] → the same shape."""
        mixed = self.frames(x.mT.unsqueeze(-1)).squeeze(-1).mT
        update: Tensor = self.narrow(F.gelu(self.widen(self.norm(mixed))))
        return x + self.scale * update


class AmplitudeNet(nn.Module):
    """A correction, in the logarithmic domain, to the Mel drawn out to the bins of the STFT; then fitted to the Mel."""

    mean: Tensor
    deviation: Tensor
    filters: Tensor
    back: Tensor
    outside: Tensor
    drawn_out: Tensor
    gain: Tensor

    def __init__(self, config: AmplitudeConfig) -> None:
        """Make an untrained one, whose correction is nothing."""
        super().__init__()
        self.config = config
        filters = Mel(config.mel).filters
        bins, bands = filters.shape
        # Statistics of its own, since those of the models that it serves differ.
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("deviation", torch.ones(bands))
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("back", (filters / filters.sum(1, keepdim=True).clamp(min=1e-9)).T, persistent=False)
        self.register_buffer("outside", (filters.sum(1) == 0).float(), persistent=False)
        self.register_buffer("drawn_out", _drawn_out(filters), persistent=False)
        self.register_buffer("gain", filters.sum(0).clamp(min=1e-6).log(), persistent=False)
        self.enter = nn.Linear(bands, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.expansion) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, bins)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, log_mel: Tensor, bf16: bool = False) -> Tensor:
        """Amplitudes of the spectra behind a Mel.

        Args:
            log_mel: [batch, frames, bands], natural logarithm of the amplitude Mel.
            bf16: compute the correction in bfloat16.

        Returns:
            [batch, frames, bins], linear, float32.
        """
        with precision(log_mel.device, bf16):
            x = self.enter(((log_mel - self.mean) / self.deviation).clamp(-BOUND, BOUND))
            for block in self.blocks:
                x = block(x)
            correction = self.leave(self.norm(x)).float()
        amplitude = ((log_mel - self.gain) @ self.drawn_out + correction).clamp(max=LOUDEST).exp()
        return self._fitted(amplitude, log_mel.exp())

    def _fitted(self, amplitude: Tensor, mel: Tensor) -> Tensor:
        """Amplitudes whose Mel is nearer to the one asked for: each bin grows as the bands that it lies in lack.

        Multiplicative updates for the divergence (Lee & Seung 2001, equation 5), which keep the network's fine
        structure; those for the squared error, which ``vocoder`` makes of a flat start, spoil what is quiet. The
        first two go twice as far and the last evens out what they overshoot, which is worth six plain ones.
        """
        for power in UPDATES:
            lack = mel / (amplitude @ self.filters).clamp(min=1e-8)
            amplitude = amplitude * (lack @ self.back + self.outside).pow(power)
        return amplitude


def _drawn_out(filters: Tensor) -> Tensor:
    """Weights that draw a Mel out to the bins, in straight lines between the bands' centres: [bands, bins]."""
    bins, bands = filters.shape
    places = torch.arange(bins)
    centre = (filters * places[:, None]).sum(0) / filters.sum(0).clamp(min=1e-6)
    upper = torch.searchsorted(centre, places.float()).clamp(1, bands - 1)
    share = ((places - centre[upper - 1]) / (centre[upper] - centre[upper - 1]).clamp(min=1e-6)).clamp(0, 1)
    weights = torch.zeros(bands, bins)
    weights[upper, places] = share
    weights[upper - 1, places] = 1 - share
    return weights


def save_network(path: Path, network: AmplitudeNet) -> None:
    """Write a network with its configuration and statistics, whole or not at all; weights in bfloat16."""
    exact = ("mean", "deviation")  # small, and every amplitude depends on them
    tensors = {key: value if key in exact else value.to(torch.bfloat16) for key, value in network.state_dict().items()}
    write_tensors(path, {"format": FORMAT, "config": json.dumps(asdict(network.config))}, tensors)


def shipped_network(mel: MelConfig) -> AmplitudeNet | None:
    """The network that ships, if it was made for such a Mel.

    Raises:
        CheckpointError: its file is missing or damaged.
    """
    with as_file(files("generator") / "weights" / SHIPPED) as path:
        network = load_network(path)
    return network if network.config.mel == mel else None


def load_network(path: Path) -> AmplitudeNet:
    """Read what :func:`save_network` wrote.

    Raises:
        CheckpointError: it is missing, damaged, or not one of ours.
    """
    metadata, tensors = read_tensors(path, FORMAT, frozenset({"config"}))
    try:
        config = AmplitudeConfig.from_json(json.loads(metadata["config"]))
    except UNREADABLE as error:
        raise CheckpointError(damaged(path, error)) from error
    network = AmplitudeNet(config)
    load_state(network, {key: value.float() for key, value in tensors.items()}, "vocoder")
    if not (network.deviation > 0).all():
        raise CheckpointError(f"{path}: it has a band that never moves; train it again")
    return network.eval().requires_grad_(False)
