"""The pictures of docs/paper.md, each beside the number of the paper's own figure where it has one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.paper.play import MELS_NAME
from benchmarks.paper.rows import BASE, BOUND, POWER, ROWS, Row
from generator.config import DIFFWAVE_MEL, DiffusionConfig
from generator.diffusion import make_schedule
from generator.mel import Mel
from training import log
from training.drawing import BACKGROUND, COLOURS, INK, dress, new_figure, save
from training.plots import smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result = Mapping[str, Any]
Results = Mapping[str, Result]

EXPERIMENTS: Final = ("noise", "noise-steps", "noise-steps-plain", "denoise")
#: The paper's own loss curves: its figures 5 to 7 are of ε, 9a is of x₀.
LOSS_FIGURES: Final = {"noise": "figures 5 to 7", "clean": "figure 9a"}
#: What the diagnosis shows, and how: each is 1 or less where all is well.
PANELS: Final = (
    ("noisy", "RMS of x_t, over what it is in training"),
    ("taken", "How much of x_t the network takes for noise: ⟨ε̂, x_t⟩ / ⟨x_t, x_t⟩"),
    ("noise", "RMS of ε̂"),
    ("clean", "RMS of x̂₀ before any bound, over recordings'"),
    ("clean_error", "RMS error of x̂₀ on held-out Mels at this t, over their RMS"),
)


def draw_losses(runs: Path, path: Path) -> Path | None:
    """The loss curves of the paper's experiments (its figures 5, 6, 7 and 9a); ``None`` where none has begun."""
    logs = {name: log.read(runs / name) for name in EXPERIMENTS}
    if not any(logs.values()):
        return None
    figure = new_figure(13, 7.5)
    for place, (name, entries) in enumerate(logs.items(), 1):
        axes = figure.add_subplot(2, 2, place)
        row = ROWS[name]
        dress(axes, f"{row.title}   (paper: {LOSS_FIGURES[row.config.model.diffusion.target]})")
        steps = [entry for entry in entries if "loss" in entry]
        if not steps:
            continue
        clips = max(entry["clips"] for entry in entries if entry.get("event") == "start")
        epochs = np.array([entry["samples"] for entry in steps], float) / clips
        losses = np.array([entry["loss"] for entry in steps], float)
        axes.plot(epochs, losses, color=COLOURS[0], alpha=0.25, linewidth=0.6)
        axes.plot(epochs, smooth(losses), color=COLOURS[0], linewidth=1.8, label="training, smoothed")
        held = [(entry["samples"] / clips, entry["validation"]) for entry in steps if entry.get("validation")]
        if held:
            axes.plot(*zip(*held, strict=True), color=COLOURS[1], marker="o", markersize=3, label="held out")
        axes.set_yscale("log")
        axes.set_xlabel("epochs", color=INK, fontsize=8)
        axes.grid(visible=True, which="both", alpha=0.12)
        axes.legend(facecolor=BACKGROUND, edgecolor="none", labelcolor=INK, fontsize=8)
    figure.tight_layout()
    return save(figure, path)


def draw_schedules(path: Path) -> Path:
    """√ᾱ of every schedule, and 1 / √ᾱ, by which an error of ε̂ comes into x̂₀."""
    own = BASE.model.diffusion
    cumulative = replace(own, reading="cumulative")
    named: dict[str, DiffusionConfig] = {
        "α = 1 − 0.9 t, a step's factor (T = 50)": own,
        "ᾱ = 1 − 0.9 t": cumulative,
        "ᾱ = 1 − 0.9 t, zero terminal SNR": replace(cumulative, zero_terminal=True),
        f"α = 1 − 0.9 t^{POWER:g}, a step's factor": replace(own, power=POWER),
        "cosine": replace(own, schedule="cosine"),
    }
    figure = new_figure(12, 4.2)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    dress(left, "ᾱ: share of the variance that is signal")
    dress(right, "1 / √ᾱ: how much an error of ε̂ grows in x̂₀")
    times = torch.linspace(0, 1, own.steps + 1)
    for colour, (name, config) in zip(COLOURS, named.items(), strict=False):
        signal = make_schedule(config).signal(times).double().numpy()
        left.plot(times, signal**2, color=colour, label=name)
        right.plot(times[signal > 0], 1 / signal[signal > 0], color=colour)
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel("t", color=INK)
        axes.grid(visible=True, alpha=0.12)
    left.legend(facecolor=BACKGROUND, edgecolor="none", labelcolor=INK, fontsize=8)
    figure.tight_layout()
    return save(figure, path)


def draw_scale(path: Path) -> Path:
    """The Mel scale and the filters of the bands (the paper's figure 1)."""
    figure = new_figure(12, 4)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    dress(left, "The Mel scale, 2595 log₁₀(1 + f / 700)   (paper: figure 1)")
    dress(right, f"Every eighth of the {DIFFWAVE_MEL.bands} filters")
    hertz = np.linspace(0, DIFFWAVE_MEL.f_max, 500)
    left.plot(hertz, 2595 * np.log10(1 + hertz / 700), color=COLOURS[0])
    left.set_ylabel("mel", color=INK)
    filters = Mel(DIFFWAVE_MEL).filters.numpy()
    bins = np.linspace(0, DIFFWAVE_MEL.sample_rate / 2, len(filters))
    for number, band in enumerate(range(4, DIFFWAVE_MEL.bands, 8)):
        right.plot(bins, filters[:, band], color=COLOURS[number % len(COLOURS)], linewidth=1)
    for axes in (left, right):
        axes.set_xlabel("Hz", color=INK)
        axes.grid(visible=True, alpha=0.12)
    figure.tight_layout()
    return save(figure, path)


def draw_linear_and_mel(sound: NDArray[np.float32], title: str, path: Path) -> Path:
    """Linear and Mel spectrogram of one sound (the paper's figure 2).

    Args:
        sound: mono, at the paper's sample rate.
        title: what it is.
        path: of the picture.
    """
    mel = Mel(DIFFWAVE_MEL)
    wave = torch.from_numpy(sound)
    window = torch.hann_window(DIFFWAVE_MEL.n_fft)
    linear = torch.stft(wave, DIFFWAVE_MEL.n_fft, DIFFWAVE_MEL.hop, window=window, return_complex=True).abs()
    decibels = 20 * linear.clamp(min=1e-5).log10()
    seconds = len(sound) / DIFFWAVE_MEL.sample_rate
    figure = new_figure(13, 4.5)
    for place, (values, top, label, unit) in enumerate(
        ((decibels.numpy(), DIFFWAVE_MEL.f_max / 1000, "linear", "kHz"), (mel(wave).numpy(), 80, "Mel", "band")), 1
    ):
        axes = figure.add_subplot(1, 2, place)
        dress(axes, f"{title}: {label} spectrogram" + ("   (paper: figure 2)" if place == 1 else ""))
        low, high = np.percentile(values, (5, 99.9))
        axes.imshow(
            values, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high, extent=(0, seconds, 0, top)
        )
        axes.set_xlabel("s", color=INK)
        axes.set_ylabel(unit, color=INK)
    figure.tight_layout()
    return save(figure, path)


def draw_spectrograms(runs: Path, results: Results, names: Iterable[str], path: Path, title: str) -> Path | None:
    """For each row what it made best and worst, below recordings (the paper's figures 8a, 8b and 9b)."""
    played = [ROWS[name] for name in names if name in results]
    if not played:
        return None
    columns = 4
    figure = new_figure(15, 1.75 * (len(played) + 1) + 0.4)
    real = _mels(runs, played[0], "real")
    for column in range(columns):
        axes = figure.add_subplot(len(played) + 1, columns, column + 1)
        _show(axes, real[column * 2], "recorded, held out", *_range(results[played[0].name]))
    for line, row in enumerate(played, 1):
        result, mels = results[row.name], _mels(runs, row, "mels")
        for column, index in enumerate(best_and_worst(result["clips"], columns)):
            axes = figure.add_subplot(len(played) + 1, columns, line * columns + column + 1)
            what = _said(result["clips"][index])
            _show(axes, mels[index], f"{row.name}: {what}", *_range(result))
    figure.suptitle(title, color=INK, fontweight="bold")
    figure.tight_layout()
    return save(figure, path)


def best_and_worst(clips: Sequence[Result], count: int) -> list[int]:
    """Indices of ``count`` clips: half of the likest to music, then half of the least.

    Infinite is worse than exploded, that than blank, that than noise; among equals more frame-to-frame change than in
    recordings is worse, and then less movement.
    """

    def badness(index: int) -> tuple[object, ...]:
        clip = clips[index]
        return (clip["infinite"], clip["exploded"], clip["blank"], clip["noise"], clip["texture"], -clip["movement"])

    order = sorted(range(len(clips)), key=badness)
    return [*order[: count // 2], *order[len(order) - (count - count // 2) :]]


def draw_diagnosis(results: Results, path: Path) -> Path | None:
    """x_t, ε̂ and x̂₀ at each step of sampling, and the error of x̂₀ on real Mels: which of them blows up, and where."""
    if not results:
        return None
    split = [
        [name for name in EXPERIMENTS if name in results],
        [name for name in results if name not in EXPERIMENTS],
    ]
    groups = [names for names in split if names]
    figure = new_figure(7 * len(groups), 19)
    for side, names in enumerate(groups):
        for line, (key, title) in enumerate(PANELS):
            axes = figure.add_subplot(len(PANELS), len(groups), len(groups) * line + side + 1)
            dress(axes, title)
            for number, name in enumerate(names):
                steps, recorded = results[name]["steps"], results[name]["recorded"]["rms"]
                style = "-" if number < len(COLOURS) else "--"
                axes.plot(
                    [step["t"] for step in steps],
                    [_relative(step, key, recorded) for step in steps],
                    style,
                    color=COLOURS[number % len(COLOURS)],
                    marker=".",
                    markersize=4,
                    label=name,
                )
            if key == "taken":
                axes.set_ylim(-1, 1.5)
            else:
                axes.set_yscale("log")
            axes.set_xlim(1.02, -0.02)
            axes.grid(visible=True, alpha=0.12)
            if line == 0:
                axes.legend(facecolor=BACKGROUND, edgecolor="none", labelcolor=INK, fontsize=7, ncols=2)
            if line == len(PANELS) - 1:
                axes.set_xlabel("t, sampled from 1 (noise) to 0", color=INK)
    figure.suptitle("Sampling, step by step: the paper's experiments, then each repair", color=INK, fontweight="bold")
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    return save(figure, path)


def _relative(step: Result, key: str, recorded: float) -> float:
    """A step's quantity over what it would be if all were well."""
    if key == "noisy":
        return float(step["noisy"]["rms"] / step["expected"])
    if key == "taken":
        return float(step["taken"])
    if key == "noise":
        return float(step["noise"]["rms"])
    if key == "clean":
        return float(step["clean"]["rms"] / recorded)
    return float(step["clean_error"] / recorded)


def _mels(runs: Path, row: Row, what: str) -> NDArray[np.float32]:
    with np.load(runs / row.name / MELS_NAME) as file:
        return np.asarray(file[what], np.float32)


def _range(result: Result) -> tuple[float, float]:
    """Of colours: all of DiffWave's scale, the middle of a standardised one."""
    return (0.0, 1.0) if result["training"]["scaling"] == "diffwave" else (-BOUND / 2, BOUND / 2)


def _said(clip: Result) -> str:
    words = [name for name in ("infinite", "exploded", "blank", "noise") if clip[name]]
    return f"{clip['mood']}, {' and '.join(words) if words else 'sound'}"


def _show(axes: "Axes", mel: NDArray[np.float32], title: str, low: float, high: float) -> None:
    axes.imshow(
        np.nan_to_num(mel, posinf=high, neginf=low),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=low,
        vmax=high,
        interpolation="nearest",
    )
    axes.set_title(title, color=INK, fontsize=8)
    axes.set_axis_off()
