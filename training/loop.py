"""The training loop: train(config). Resumes by being called again; knows no command line."""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from generator.checkpoint import Checkpoint, save_checkpoint
from generator.device import bf16_pays, pick_device, precision
from generator.diffusion import NoiseSchedule, make_schedule
from generator.mel import Mel
from generator.network import make_network
from training.data import Batch, Clips, load_clips, plan_statistics
from training.errors import TrainingError
from training.loss import Draw, draw_bard, draw_paper, loss_of
from training.manifest import load_manifest
from training.presets import TrainConfig
from training.state import Ema, Progress, ema_tensors, load_state, save_state

SAVE_SECONDS: Final = 50.0  #: between states: a kill loses less than a minute
VALIDATE_SECONDS: Final = 600.0
VALIDATION_CLIPS: Final = 64
WARM_UP: Final = 200  #: steps of ``inverse-sqrt``
MAX_GRADIENT: Final = 1.0  #: norm, for ``inverse-sqrt``


@dataclass(frozen=True)
class Bounds:
    """Where a call of :func:`train` ends; the run itself can be resumed beyond.

    Attributes:
        steps: optimiser steps in all, or ``None``.
        seconds: seconds of training in all, over every resume, or ``None``.
    """

    steps: int | None = None
    seconds: float | None = None

    def reached(self, progress: Progress) -> bool:
        """Whether the run is there."""
        return (self.steps is not None and progress.step >= self.steps) or (
            self.seconds is not None and progress.seconds >= self.seconds
        )


class _Run:
    """Everything that a step touches."""

    def __init__(self, config: TrainConfig, prepared: Path, folder: Path) -> None:
        self.config, self.model, self.folder = config, config.model, folder
        self.device = pick_device()
        manifest = load_manifest(prepared)
        self.mel = Mel(self.model.mel)
        self.clips = load_clips(manifest, self.model, self.mel, "train")
        self.validation = (
            load_clips(manifest, self.model, self.mel, "validation")
            if any(track.split == "validation" and track.clips for track in manifest.tracks)
            else None
        )
        torch.manual_seed(0)
        self.network = make_network(self.model.unet, self.model.mel.bands).to(self.device)
        self.schedule: NoiseSchedule = make_schedule(self.model.diffusion)
        self.ema = Ema(self.network)
        adam = torch.optim.AdamW if config.decay == "inverse-sqrt" else torch.optim.Adam
        self.optimiser: torch.optim.Optimizer = adam(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.progress = Progress()
        if (found := load_state(folder / "state.pt")) is not None:
            self._restore(*found)

    @property
    def steps_an_epoch(self) -> int:
        return max(1, self.clips.count // self.config.batch)

    def _restore(self, progress: Progress, parts: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(parts["network"])
            self.optimiser.load_state_dict(parts["optimiser"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(f"{self.folder}: holds another model's run; choose another --run") from error
        self.ema.weights = {key: value.to(self.device) for key, value in parts["ema"].items()}
        self.progress = progress

    def save(self) -> None:
        """State for resuming, and the averaged weights as a checkpoint that plays."""
        save_state(
            self.folder / "state.pt",
            self.progress,
            {
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "ema": self.ema.weights,
            },
        )
        save_checkpoint(self.folder / "model.safetensors", self.checkpoint())

    def checkpoint(self) -> Checkpoint:
        tensors = ema_tensors(self.ema, "network")
        tensors |= {f"mel.{key}": value for key, value in self.mel.state_dict().items()}
        if self.clips.plans is not None:
            tensors["plan.statistics"] = self.statistics
        return Checkpoint(self.model, tensors)

    @property
    def statistics(self) -> Tensor:
        if not hasattr(self, "_statistics"):
            self._statistics = plan_statistics(self.clips)
        return self._statistics

    def learning_rate(self) -> float:
        config, step = self.config, self.progress.step
        if config.decay == "step":
            return config.learning_rate * config.gamma ** (step // self.steps_an_epoch // config.every)
        if config.decay == "inverse-sqrt":
            return config.learning_rate * min(1.0, (step + 1) / WARM_UP) / math.sqrt(max(1.0, step / config.every))
        return config.learning_rate

    def draw(self, batch: Batch, random: torch.Generator) -> Draw:
        draw = draw_paper if self.model.unet.architecture == "paper" else draw_bard
        return draw(batch, self.model, random)

    def loss(self, network: nn.Module, batch: Batch, draw: Draw, bf16: bool) -> Tensor:
        with precision(self.device, bf16):
            return loss_of(network, *_to(self.device, batch, draw), self.model, self.schedule)

    def step(self, batch: Batch, draw: Draw, bf16: bool) -> float:
        """One optimiser step.

        Raises:
            TrainingError: the loss is not finite; nothing was changed.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        loss = self.loss(self.network, batch, draw, bf16)
        if not loss.isfinite():
            raise TrainingError(
                f"the loss became {loss.item()} at step {self.progress.step}; the last good state is in {self.folder}. "
                "Lower the learning rate and run again"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.decay == "inverse-sqrt":
            nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        self.optimiser.step()
        self.progress.step += 1
        self.progress.samples += len(batch.mel)
        self.ema.update(self.network, self.progress.step)
        return loss.item()

    @torch.no_grad()
    def validate(self, bf16: bool) -> float | None:
        """Mean loss of the averaged weights on held-out tracks, always with the same clips and the same noise."""
        if self.validation is None:
            return None
        averaged = make_network(self.model.unet, self.model.mel.bands).to(self.device)
        averaged.load_state_dict(self.ema.weights)
        random, noise = np.random.default_rng(0), torch.Generator().manual_seed(0)
        size = self.config.batch
        batches = self.validation.epochs(size, random)
        losses = []
        for _ in range(max(1, VALIDATION_CLIPS // size)):
            batch = next(batches)
            losses.append(self.loss(averaged, batch, self.draw(batch, noise), bf16).item())
        return float(np.mean(losses))


def train(config: TrainConfig, prepared: Path, folder: Path, bounds: Bounds, progress_bar: bool = True) -> Progress:
    """Train until ``bounds``; called again with the same folder it goes on where it was.

    The folder gets ``state.pt`` (to resume), ``model.safetensors`` (averaged weights, playable) and ``log.jsonl``.

    Args:
        config: what to train and how.
        prepared: a folder that ``prepare`` made.
        folder: the run's own.
        bounds: where to stop; its ``None`` means the preset's epochs.
        progress_bar: draw one on stderr.

    Returns:
        How far the run is.

    Raises:
        TrainingError: the data or the folder is unusable, or the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(config, prepared, folder)
    if bounds.steps is None and bounds.seconds is None:
        bounds = Bounds(steps=config.epochs * run.steps_an_epoch)
    # Batches and noise depend on the step at which this call began, so a resumed run doesn't see its start again.
    random = np.random.default_rng(run.progress.step)
    noise = torch.Generator().manual_seed(run.progress.step)
    batches = run.clips.epochs(config.batch, random)
    bf16 = _probe(run, next(batches), noise)
    _log(folder, {"event": "start", "step": run.progress.step, "clips": run.clips.count, "bf16": bf16})
    saved = validated = last = time.monotonic()
    with (
        _stop_flag() as stop,
        tqdm(total=bounds.steps, initial=run.progress.step, unit="step", disable=not progress_bar) as bar,
    ):
        while not bounds.reached(run.progress) and not stop:
            batch = next(batches)
            loss = run.step(batch, run.draw(batch, noise), bf16)
            now = time.monotonic()
            run.progress.seconds += now - last
            last = now
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", lr=f"{run.learning_rate():.1e}", refresh=False)
            entry: dict[str, object] = {"step": run.progress.step, "samples": run.progress.samples, "loss": loss}
            if now - validated > VALIDATE_SECONDS:
                entry["validation"] = run.validate(bf16)
                validated = time.monotonic()
            _log(folder, entry | {"seconds": round(run.progress.seconds, 2)})
            if now - saved > SAVE_SECONDS:
                run.save()
                saved = time.monotonic()
        run.save()
        _log(folder, {"event": "stop", "step": run.progress.step, "validation": run.validate(bf16)})
    return run.progress


def _probe(run: _Run, batch: Batch, noise: torch.Generator) -> bool:
    draw = run.draw(batch, noise)

    def work() -> None:
        loss_of(run.network, *_to(run.device, batch, draw), run.model, run.schedule).backward()  # type: ignore[no-untyped-call]
        run.network.zero_grad(set_to_none=True)

    return bf16_pays(work, run.device)


def _to(device: torch.device, batch: Batch, draw: Draw) -> tuple[Batch, Draw]:
    def move(value: Tensor | None) -> Any:
        return None if value is None else value.to(device, non_blocking=True)

    return (
        Batch(*(move(value) for value in vars(batch).values())),
        Draw(*(move(value) for value in vars(draw).values())),
    )


def _log(folder: Path, entry: dict[str, object]) -> None:
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")


@contextmanager
def _stop_flag() -> Iterator[list[int]]:
    """A list that SIGTERM or SIGINT makes non-empty; the step under way is finished and everything saved."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
