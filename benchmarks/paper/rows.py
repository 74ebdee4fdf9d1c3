"""The rows of the comparison: what is trained, by whose run it is played, and in how many steps."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from generator.config import DiffusionConfig
from training.presets import TrainConfig, find_preset, with_crop, with_widths

RUNS: Final = Path("runs/paper")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the row, and of its folder.
        title: what it is, in a few words.
        config: the paper's, or with a repair; at the paper's own scale.
        trained: name of the row whose training it plays; its own where a repair changes more than the sampling.
        steps: of the sampler, where they are fewer than the process has.
        start: the time at which the sampler starts, from pure noise.
    """

    name: str
    title: str
    config: TrainConfig
    trained: str
    steps: int | None = None
    start: float = 1.0


@dataclass(frozen=True)
class Scale:
    """How much smaller than the paper's a row is trained.

    Attributes:
        widths: of the network; the paper's are 32, 64 and 128.
        crop: Mel frames of a training sample; the paper's is the whole window of 864.
        epochs: at most; a row whose own number is lower keeps it.
    """

    widths: tuple[int, ...] = (8, 16, 32)
    crop: int = 216
    epochs: int = 8

    def of(self, row: Row) -> TrainConfig:
        """The row's configuration at this scale.

        Raises:
            PresetError: the network can't have it.
        """
        config = replace(row.config, epochs=min(row.config.epochs, self.epochs))
        return with_crop(with_widths(config, self.widths), self.crop)


#: Every repair is tried on this experiment: at so small a scale a rate of 1e-4 teaches the network next to nothing.
BASE: Final = find_preset("paper-noise-steps")
BOUND: Final = 5.0  #: deviations of a standardised Mel; one of DiffWave's scale is kept in [0, 1]
POWER: Final = 3.0  #: at T = 50 half of the variance is signal at half the time, as in the cosine schedule
REDUCED: Final = 10  #: steps of the sampler, of the process's 50
LATE: Final = 0.5  #: where of the paper's signal 3 % is left, so that pure noise is nearly what the network knows


def _named(config: TrainConfig, name: str) -> TrainConfig:
    return replace(config, model=replace(config.model, name=f"paper-{name}"))


def _diffusion(config: TrainConfig, diffusion: DiffusionConfig) -> TrainConfig:
    return replace(config, model=replace(config.model, diffusion=diffusion))


def _standard(config: TrainConfig) -> TrainConfig:
    return replace(config, model=replace(config.model, mel=replace(config.model.mel, scaling="standard")))


def _without_he(config: TrainConfig) -> TrainConfig:
    return replace(config, model=replace(config.model, unet=replace(config.model.unet, he_initialisation=False)))


def _mended(config: TrainConfig) -> TrainConfig:
    diffusion = replace(config.model.diffusion, schedule="cosine", bound=BOUND)
    return replace(_standard(_diffusion(config, diffusion)), ema=True)


def _rows() -> tuple[Row, ...]:
    own = BASE.model.diffusion
    cumulative = replace(own, reading="cumulative")

    def row(
        name: str,
        title: str,
        config: TrainConfig,
        trained: str | None = None,
        steps: int | None = None,
        start: float = 1.0,
    ) -> Row:
        return Row(name, title, _named(config, name), trained or name, steps, start)

    return (
        row("noise", "ε, 1e-4, decay 1e-5", find_preset("paper-noise")),
        row("noise-steps", "ε, 1e-3 × 0.1 every 5 epochs, decay 1e-4", BASE),
        row("noise-steps-plain", "the same without He initialisation", _without_he(BASE)),
        row("denoise", "x₀, 5e-3, 3 epochs, 10 of 50 steps", find_preset("paper-denoise"), steps=REDUCED),
        row("mended-noise", "ε, all repairs", _mended(BASE)),
        row("mended-denoise", "x₀, all repairs", _mended(find_preset("paper-denoise")), steps=REDUCED),
        row("bounds", "x₀ kept in bounds", _diffusion(BASE, replace(own, bound=BOUND)), "noise-steps"),
        row("late", f"sampled from t = {LATE:g} only", BASE, "noise-steps", start=LATE),
        row("ema", "averaged weights", replace(BASE, ema=True), "noise-steps"),
        row("standard", "Mel standardised per band", _standard(BASE)),
        row("cosine", "cosine schedule", _diffusion(BASE, replace(own, schedule="cosine"))),
        # It moves ᾱ by less than 10⁻⁸, so a training of its own would be the same training.
        row("zero", "zero terminal SNR", _diffusion(BASE, replace(own, zero_terminal=True)), "noise-steps"),
        row("cumulative", "1 − 0.9 t read as ᾱ", _diffusion(BASE, cumulative)),
        row(
            "cumulative-zero",
            "1 − 0.9 t read as ᾱ, zero terminal SNR",
            _diffusion(BASE, replace(cumulative, zero_terminal=True)),
        ),
        row("kernel", "non-linear kernel, 1 − 0.9 t³", _diffusion(BASE, replace(own, power=POWER))),
    )


ROWS: Final[dict[str, Row]] = {row.name: row for row in _rows()}
