"""Named training runs: a model and how it is optimised."""

import math
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

from generator.config import (
    BARD,
    GROUPS,
    LONGEST_NAME,
    PAPER_DENOISE,
    PAPER_DENOISE_COSINE,
    PAPER_DENOISE_FIXED,
    PAPER_NOISE,
    PAPER_NOISE_COSINE,
    PAPER_NOISE_FIXED,
    ModelConfig,
)
from training.errors import PresetError

WARM_UP: Final = 200  #: steps of ``inverse-sqrt``
TUNING: Final = 0.6  #: of the learning rate, where the weights are learnt already
TUNING_EPOCHS: Final = 10
TUNED: Final = "-tuned"  #: ends the name of a model that began as another
DISTILLING_RATE: Final = 1e-4  #: more throws away within a hundred steps what long training won


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        model: what is trained.
        batch: samples a step.
        learning_rate: Adam's, at its highest.
        weight_decay: decoupled (AdamW) for ``inverse-sqrt``, otherwise L2 in the gradient, as the paper's Adam has it.
        decay: ``constant``; ``step`` multiplies by ``gamma`` every ``every`` epochs; ``inverse-sqrt`` warms up, stays
            for ``every`` steps and then falls with the root of the step (Karras et al. 2024, equation 67).
        gamma: factor of ``step``.
        every: epochs of ``step``, steps of ``inverse-sqrt``.
        epochs: where the run ends by itself, unless the caller gives another bound.
        ema: the model that plays, and is validated, has averaged weights; otherwise the last step's, as the paper's.
        guided: share of the samples in which a network that takes guidance's weight as an input learns what guidance
            makes; in the rest it learns what recordings are.
        crop: Mel frames of a training sample where that is less than the window that the model makes.
    """

    model: ModelConfig
    batch: int
    learning_rate: float
    weight_decay: float
    decay: Literal["constant", "step", "inverse-sqrt"] = "constant"
    gamma: float = 1.0
    every: int = 1
    epochs: int = 10
    ema: bool = True
    guided: float = 0.5
    crop: int | None = None

    @property
    def sample(self) -> ModelConfig:
        """The model with a window as long as a training sample."""
        if self.crop is None:
            return self.model
        return replace(self.model, unet=replace(self.model.unet, frames=self.crop))

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        """The inverse of ``asdict``; a field that an older version did not know has its default.

        Raises:
            KeyError, TypeError, ValueError: it is no such thing.
        """
        return cls(**(body | {"model": ModelConfig.from_json(body["model"])}))

    def rate(self, step: int, steps_an_epoch: int) -> float:
        """The learning rate of the step that comes after ``step`` others."""
        if self.decay == "step":
            return self.learning_rate * self.gamma ** (step // steps_an_epoch // self.every)
        if self.decay == "inverse-sqrt":
            return self.learning_rate * min(1.0, (step + 1) / WARM_UP) / math.sqrt(max(1.0, step / self.every))
        return self.learning_rate


PRESETS: Final[dict[str, TrainConfig]] = {
    config.model.name: config
    for config in (
        # At 1e-3 the loss rose from 0.17 to 2 within twenty steps, after 1,150 that were well.
        TrainConfig(BARD, 32, 5e-4, 1e-2, "inverse-sqrt", every=1200, epochs=100),
        # The paper's three experiments ...
        TrainConfig(PAPER_NOISE, 16, 1e-4, 1e-5, ema=False),
        TrainConfig(
            replace(PAPER_NOISE, name="paper-noise-steps"), 16, 1e-3, 1e-4, "step", gamma=0.1, every=5, ema=False
        ),
        TrainConfig(PAPER_DENOISE, 16, 5e-3, 0.0, epochs=3, ema=False),
        # ... with the cosine schedule beside its own ...
        TrainConfig(PAPER_NOISE_COSINE, 16, 1e-4, 1e-5, ema=False),
        TrainConfig(PAPER_DENOISE_COSINE, 16, 5e-3, 0.0, epochs=3, ema=False),
        # ... and with what made its spectrograms blank or infinite mended, and averaged weights.
        TrainConfig(PAPER_NOISE_FIXED, 16, 1e-4, 1e-5),
        TrainConfig(PAPER_DENOISE_FIXED, 16, 5e-3, 0.0, epochs=3),
    )
}


def find_preset(name: str) -> TrainConfig:
    """The preset called ``name``.

    Raises:
        PresetError: there is none; the sentence lists them.
    """
    if name not in PRESETS:
        raise PresetError(f"there is no preset {name!r}; choose one of: {', '.join(PRESETS)}")
    return PRESETS[name]


def with_widths(config: TrainConfig, widths: tuple[int, ...]) -> TrainConfig:
    """The same run at another scale. The model's name and notes say so wherever it goes.

    Raises:
        PresetError: the network can't have these widths.
    """
    own = config.model.unet.widths
    if widths == own:
        return config
    if len(widths) != len(own) or any(width < GROUPS or width % GROUPS for width in widths):
        raise PresetError(f"--widths takes {len(own)} multiples of {GROUPS}, e.g. {_listed(own)}")
    name = "-".join([config.model.name, *map(str, widths)])
    scale = f"widths {_listed(widths)} in place of {_listed(own)}"
    unet = replace(config.model.unet, widths=widths)
    return replace(
        config, model=replace(config.model, name=name, unet=unet, notes=config.model.notes | {"scale": scale})
    )


def tuning(model: ModelConfig) -> TrainConfig:
    """How a model that can play already learns from more music: as its kind begins, at a gentler rate.

    It has a name of its own, so that whoever asks a service what plays can tell the two.

    Raises:
        PresetError: a model of this kind is not tuned.
    """
    if model.unet.architecture != "patched":
        raise PresetError("--from takes a model of bard's kind; the paper's models are trained from the beginning")
    learnt = {key: model.notes[key] for key in ("samples", "hours", "from") if key in model.notes}
    origin = ", ".join([model.name, *(f"{key} {value}" for key, value in learnt.items())])
    own = PRESETS[BARD.name]
    name = model.name.removesuffix(TUNED)[: LONGEST_NAME - len(TUNED)] + TUNED
    return replace(
        own,
        model=replace(model, name=name, notes={"from": origin}),
        learning_rate=TUNING * own.learning_rate,
        epochs=TUNING_EPOCHS,
    )


def distilling(model: ModelConfig) -> TrainConfig:
    """How a model learns to make in one pass of its network what guidance makes in two (see ``loss.loss_of``).

    Raises:
        PresetError: its network has no guidance to learn, or has learnt it.
    """
    if model.unet.architecture != "patched" or model.unet.guided or model.diffusion.guidance == 1:
        raise PresetError(
            "--distil takes a model of bard's kind that takes two passes for its guidance; this one doesn't"
        )
    own = tuning(model)
    unet = replace(own.model.unet, guided=True)
    return replace(
        own,
        model=replace(own.model, name=model.name, unet=unet),
        batch=16,
        learning_rate=DISTILLING_RATE,
        weight_decay=0.0,
        every=400,
        guided=0.75,
    )


def with_crop(config: TrainConfig, frames: int) -> TrainConfig:
    """The same run on samples of ``frames`` Mel frames; what the model makes is as long as ever. Its notes say so.

    Raises:
        PresetError: the network can't be trained on such samples.
    """
    whole, step = config.model.unet.frames, config.model.unet.multiples[1]
    if config.model.unet.architecture != "paper":
        raise PresetError("--crop is for the paper's network, whose every position is like any other")
    if not step <= frames <= whole or frames % step:
        raise PresetError(f"--crop takes a multiple of {step} frames, up to the window's {whole}")
    if frames == whole:
        return config
    notes = config.model.notes | {"crop": f"trained on {frames} frames in place of {whole}"}
    return replace(config, model=replace(config.model, notes=notes), crop=frames)


def _listed(widths: tuple[int, ...]) -> str:
    return ",".join(map(str, widths))
