"""What a model is made of, as frozen dataclasses with derived sizes, and the named presets. Torch-free.

A :class:`ModelConfig` travels inside its checkpoint; nothing that plays a model reads it from anywhere else.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, Self, get_args

from generator.plan import FEATURES

Scaling = Literal["diffwave", "standard"]
Target = Literal["noise", "clean"]
Schedule = Literal["paper", "cosine"]
Reading = Literal["step", "cumulative"]
Architecture = Literal["paper", "patched"]

LARGEST: Final = 2**20  #: of any size: beyond is damage and no design
STEEPEST: Final = 10  #: warp of a sampler's times
LONGEST_NAME: Final = 100
GROUPS: Final = 8  #: of every group normalisation: widths are multiples


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
        for name in ("sample_rate", "n_fft", "hop", "bands"):
            _need_size(name, getattr(self, name))
        for name in ("f_min", "f_max"):
            _need_number(name, getattr(self, name))
        _need_one_of("scaling", self.scaling, get_args(Scaling))
        if self.hop > self.n_fft:
            raise ConfigError("a hop is at most the FFT length")
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
        guided: takes the weight of classifier-free guidance as an input (Meng et al. 2023, "On Distillation of Guided
            Diffusion Models"), so that one pass does what otherwise takes two.
    """

    architecture: Architecture
    widths: tuple[int, ...]
    blocks: int
    patch: tuple[int, int]
    embedding: int
    frames: int
    plan_features: int = 0
    he_initialisation: bool = True
    guided: bool = False

    def __post_init__(self) -> None:
        _need_one_of("architecture", self.architecture, get_args(Architecture))
        for name in ("blocks", "embedding", "frames"):
            _need_size(name, getattr(self, name))
        for name, sizes in (("widths", self.widths), ("patch", self.patch)):
            for size in sizes:
                _need_size(name, size)
        if not self.widths or any(width % GROUPS for width in self.widths):
            raise ConfigError(f"widths are multiples of {GROUPS}, one a level")
        for name in ("he_initialisation", "guided"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"{name} is true or false")
        if self.embedding % 2:
            raise ConfigError("an embedding has an even size: half sines, half cosines")
        if self.architecture == "paper" and (self.patch != (1, 1) or self.plan_features or self.guided):
            raise ConfigError("the paper's network has neither patches nor a plan nor guidance")
        if self.architecture == "patched" and self.plan_features != FEATURES:
            raise ConfigError(f"a patched network reads a plan of {FEATURES} features")

    @property
    def multiples(self) -> tuple[int, int]:
        """What bands and frames of a Mel divide by, so that every level halves both axes."""
        halvings = 2 ** (len(self.widths) - (self.architecture == "patched"))
        return self.patch[0] * halvings, self.patch[1] * halvings


@dataclass(frozen=True, slots=True)
class DiffusionConfig:
    """The forward process and what the network predicts of it.

    Attributes:
        schedule: ``paper`` is α = 1 − 0.9 t; ``cosine`` is Nichol & Dhariwal's, ended in pure noise.
        target: what the network predicts: the noise ε or the clean x₀.
        steps: T of the paper's discrete process; for ``cosine`` the sampler's own count.
        bound: x₀ is clamped to [−bound, bound] at each step of sampling (see ``ModelConfig.limits``); ``None`` as in
            the paper.
        guidance: classifier-free guidance at sampling, 1 for none.
        reading: what the paper's α_t is: a ``step``'s factor, whose running product is ᾱ, or ``cumulative``, ᾱ itself.
        power: p of α = 1 − 0.9 tᵖ, the non-linear kernel that the paper leaves to future work; 1 is its own.
        zero_terminal: ᾱ shifted and scaled to end at 0 (Lin et al. 2024, algorithm 1). The cosine does anyway.
        residual: deviation of what a network that predicts x₀ can't tell of it however little the noise; where the
            noise is less than that, x_t itself is the better witness (see ``diffusion.clean_from``). Knots from the
            lowest band to the highest, evenly spread, and straight lines between; none trusts the network alone.
        warp: power of the ``cosine`` sampler's times; above 1 its steps are shorter towards the clean end.
    """

    schedule: Schedule
    target: Target
    steps: int
    bound: float | None
    guidance: float = 1.0
    reading: Reading = "step"
    power: float = 1.0
    zero_terminal: bool = False
    residual: tuple[float, ...] = ()
    warp: float = 1.0

    def __post_init__(self) -> None:
        _need_one_of("schedule", self.schedule, get_args(Schedule))
        _need_one_of("reading", self.reading, get_args(Reading))
        _need_one_of("target", self.target, get_args(Target))
        _need_size("steps", self.steps)
        _need_number("guidance", self.guidance)
        _need_number("power", self.power)
        _need_number("warp", self.warp)
        if self.power <= 0 or not 0 < self.warp <= STEEPEST:
            raise ConfigError(f"a power is above 0, and a warp up to {STEEPEST}")
        for knot in self.residual:
            _need_number("residual", knot)
        if not all(0 < knot <= 1 for knot in self.residual) or (self.residual and self.target == "noise"):
            raise ConfigError("a residual is above 0 and up to 1, and only a network that predicts x₀ has one")
        if type(self.zero_terminal) is not bool:
            raise ConfigError("zero_terminal is true or false")
        if self.zero_terminal and self.steps < 2:
            raise ConfigError("a process that ends at zero has two steps or more")
        if self.schedule == "cosine" and (self.reading != "step" or self.power != 1 or self.zero_terminal):
            raise ConfigError("only the paper's schedule has a reading, a power and an end of its own")
        if self.schedule == "paper" and self.warp != 1:
            raise ConfigError("only the cosine schedule's times can be warped")
        if self.bound is not None:
            _need_number("bound", self.bound)
            if self.bound <= 0:
                raise ConfigError("a bound is above 0")


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

    def __post_init__(self) -> None:
        bands, frames = self.unet.multiples
        if self.mel.bands % bands or self.unet.frames % frames:
            raise ConfigError(f"this network takes a multiple of {bands} bands and of {frames} frames")
        if type(self.prefix) is not int or not 0 <= self.prefix < self.unet.frames or self.prefix % self.unet.patch[1]:
            raise ConfigError("a prefix is a whole number of patches, shorter than the window")
        if self.prefix and self.unet.architecture == "paper":
            raise ConfigError("the paper's network knows no prefix")
        if not isinstance(self.name, str):
            raise ConfigError("a model's name is text")
        if not self.name.isprintable() or len(self.name) > LONGEST_NAME:
            raise ConfigError(f"a model's name is text of one line, up to {LONGEST_NAME} letters")

    @property
    def limits(self) -> tuple[float, float] | None:
        """Where x₀ is clamped at each step: the bound, within the range that the Mel has by definition."""
        bound = self.diffusion.bound
        if bound is None:
            return None
        return (0.0, min(bound, 1.0)) if self.mel.scaling == "diffwave" else (-bound, bound)

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
            high, wide = unet["patch"]
            unet["widths"], unet["patch"] = tuple(unet["widths"]), (high, wide)
            diffusion = dict(body["diffusion"])
            knots = diffusion.get("residual", ())
            if type(knots) in (int, float):  # of before it had a value for each band
                knots = (knots,) if knots else ()
            elif not isinstance(knots, list | tuple):
                raise ConfigError("a residual is a list of numbers")
            return cls(
                name=body["name"],
                mel=MelConfig(**body["mel"]),
                unet=UNetConfig(**unet),
                diffusion=DiffusionConfig(**diffusion | {"residual": tuple(knots)}),
                prefix=body["prefix"],
                notes=dict(body["notes"]),
            )
        except ConfigError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a model's configuration: {error}") from None


def _need_size(name: str, value: object) -> None:
    if type(value) is not int or not 1 <= value <= LARGEST:
        raise ConfigError(f"{name} is a whole number from 1 to {LARGEST}")


def _need_number(name: str, value: object) -> None:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ConfigError(f"{name} is a number")


def _need_one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is one of: {', '.join(choices)}")


#: DiffWave's conditions (Kong et al. 2021): 22.05 kHz, FFT 1024, hop 256, 80 bands.
DIFFWAVE_MEL: Final = MelConfig(22_050, 1024, 256, 80, 20.0, 11_025.0, "diffwave")
#: 48 kHz, two hops to a Discord frame of 20 ms.
BARD_MEL: Final = MelConfig(48_000, 2048, 480, 128, 20.0, 16_000.0, "standard")

#: The default model: a patched UNet that predicts x₀ from mood, plan and prefix.
BARD: Final = ModelConfig(
    name="bard",
    mel=BARD_MEL,
    unet=UNetConfig("patched", (128, 192, 256), 1, (4, 8), 256, frames=512, plan_features=30),
    diffusion=DiffusionConfig(
        "cosine", "clean", steps=5, bound=5.0, guidance=2.0, residual=(0.18, 0.165, 0.055), warp=1.6
    ),
    prefix=128,
)

#: The paper's window is 10 s: 861 frames, and three more so that both axes halve three times.
PAPER_UNET: Final = UNetConfig("paper", (32, 64, 128), 3, (1, 1), 128, frames=864)

#: The paper's two readings of the network's output, and each with a cosine schedule in place of α = 1 − 0.9 t.
PAPER_NOISE: Final = ModelConfig(
    "paper-noise", DIFFWAVE_MEL, PAPER_UNET, DiffusionConfig("paper", "noise", steps=50, bound=None), prefix=0
)
PAPER_DENOISE: Final = ModelConfig(
    "paper-denoise", DIFFWAVE_MEL, PAPER_UNET, DiffusionConfig("paper", "clean", steps=50, bound=None), prefix=0
)
PAPER_NOISE_COSINE: Final = replace(
    PAPER_NOISE, name="paper-noise-cosine", diffusion=replace(PAPER_NOISE.diffusion, schedule="cosine")
)
PAPER_DENOISE_COSINE: Final = replace(
    PAPER_DENOISE, name="paper-denoise-cosine", diffusion=replace(PAPER_DENOISE.diffusion, schedule="cosine")
)


def _fixed(model: ModelConfig) -> ModelConfig:
    """The paper's network on a Mel standardised per band, a schedule that ends in pure noise, and x₀ kept in bounds."""
    return replace(
        model,
        name=f"{model.name}-fixed",
        mel=replace(model.mel, scaling="standard"),
        diffusion=replace(model.diffusion, schedule="cosine", bound=5.0),
    )


PAPER_NOISE_FIXED: Final = _fixed(PAPER_NOISE)
PAPER_DENOISE_FIXED: Final = _fixed(PAPER_DENOISE)
