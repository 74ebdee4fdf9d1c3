"""What a model is made of, as frozen dataclasses with derived sizes, and the named presets. Torch-free.

A :class:`ModelConfig` travels inside its checkpoint; nothing that plays a model reads it from anywhere else.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self

Scaling = Literal["diffwave", "standard"]
Target = Literal["noise", "clean"]
Schedule = Literal["paper", "cosine"]
Architecture = Literal["paper", "patched"]


class ConfigError(ValueError):
    """A configuration that no model can have; the text says why."""


@dataclass(frozen=True, slots=True)
class MelConfig:
    """How a waveform becomes a normalised log-Mel.

    Attributes:
        sample_rate: Hz.
        n_fft: window and FFT length, samples.
        hop: samples between frames.
        bands: Mel bands.
        f_min: lower edge of the lowest band, Hz.
        f_max: upper edge of the highest band, Hz.
        scaling: ``diffwave`` maps decibels to [0, 1] as DiffWave does; ``standard`` is the natural logarithm,
            standardised per band with the training set's mean and deviation.
    """

    sample_rate: int
    n_fft: int
    hop: int
    bands: int
    f_min: float
    f_max: float
    scaling: Scaling

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.n_fft:
            raise ConfigError("a hop is at least 1 and at most the FFT length")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ConfigError("Mel bands lie between 0 Hz and half the sample rate")

    @property
    def frames_per_second(self) -> float:
        """Mel frames in a second of sound."""
        return self.sample_rate / self.hop

    def frames(self, seconds: float) -> int:
        """Whole frames in ``seconds`` of sound."""
        return int(seconds * self.sample_rate) // self.hop


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """A UNet's sizes.

    Attributes:
        architecture: ``paper`` works on single Mel cells; ``patched`` on patches, with a prefix and a plan.
        widths: channels at each level, finest first.
        blocks: residual blocks a level.
        patch: (bands, frames) folded into the channels of one position; (1, 1) for the paper's.
        embedding: size of the vector that carries noise level and mood.
        frames: length of a window, Mel frames.
        plan_features: rows of the plan (see ``generator.plan``); 0 for a network that knows only the mood.
        he_initialisation: He et al. 2015 for every convolution, as the paper found necessary.
    """

    architecture: Architecture
    widths: tuple[int, ...]
    blocks: int
    patch: tuple[int, int]
    embedding: int
    frames: int
    plan_features: int = 0
    he_initialisation: bool = True


@dataclass(frozen=True, slots=True)
class DiffusionConfig:
    """The forward process and what the network predicts of it.

    Attributes:
        schedule: ``paper`` multiplies steps of α = 1 − 0.9 t; ``cosine`` is Nichol & Dhariwal's, ended in pure noise.
        target: what the network predicts: the noise ε or the clean x₀.
        steps: T of the paper's discrete process; for ``cosine`` the sampler's own count.
        bound: x₀ is clamped to [−bound, bound] at each step of sampling; ``None`` as in the paper.
        guidance: classifier-free guidance at sampling, 1 for none.
    """

    schedule: Schedule
    target: Target
    steps: int
    bound: float | None
    guidance: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that a checkpoint says of its model.

    Attributes:
        name: what the model is called in logs and pictures.
        mel: its Mel.
        unet: its network.
        diffusion: its process.
        prefix: Mel frames of what was heard that a new window continues from.
    """

    name: str
    mel: MelConfig
    unet: UNetConfig
    diffusion: DiffusionConfig
    prefix: int
    notes: dict[str, str] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON's own types."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ConfigError: a field is missing, unknown or impossible.
        """
        try:
            unet = dict(body["unet"])
            unet["widths"], unet["patch"] = tuple(unet["widths"]), tuple(unet["patch"])
            return cls(
                name=body["name"],
                mel=MelConfig(**body["mel"]),
                unet=UNetConfig(**unet),
                diffusion=DiffusionConfig(**body["diffusion"]),
                prefix=body["prefix"],
                notes=dict(body["notes"]),
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"not a model's configuration: {error}") from None


#: DiffWave's conditions (Kong et al. 2021): 22.05 kHz, FFT 1024, hop 256, 80 bands.
DIFFWAVE_MEL: Final = MelConfig(22_050, 1024, 256, 80, 20.0, 11_025.0, "diffwave")
#: 48 kHz, two hops to a Discord frame of 20 ms.
BARD_MEL: Final = MelConfig(48_000, 2048, 480, 128, 20.0, 16_000.0, "standard")

#: The default model: a patched UNet that predicts x₀ from mood, plan and prefix.
BARD: Final = ModelConfig(
    name="bard",
    mel=BARD_MEL,
    unet=UNetConfig("patched", (128, 192, 256), 1, (4, 8), 256, frames=512, plan_features=30),
    diffusion=DiffusionConfig("cosine", "clean", steps=12, bound=5.0, guidance=1.5),
    prefix=128,
)
