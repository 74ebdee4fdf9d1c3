"""The training loop: train(config). Resumes by being called again; knows no command line."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import numpy as np
import torch
from tqdm import tqdm

from generator.checkpoint import Checkpoint, load_state
from generator.mel import Mel
from training import log
from training.data import identity_of, load_dataset
from training.distributed import ALONE, World
from training.errors import Interrupted
from training.manifest import load_manifest
from training.presets import TrainConfig
from training.run import Run
from training.state import Progress, claimed

SAVE_SECONDS: Final = 50.0  #: between states: a kill loses less than a minute
VALIDATE_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Bounds:
    """Where a call of :func:`train` ends; the run itself can be resumed beyond.

    Attributes:
        steps: optimiser steps in all, or ``None``.
        seconds: seconds of training in all, over every resume, or ``None``.
        epochs: passes over the clips in all, or ``None``.
    """

    steps: int | None = None
    seconds: float | None = None
    epochs: int | None = None

    def reached(self, progress: Progress, steps_an_epoch: int) -> bool:
        """Whether the run is there."""
        steps = self.step_limit(steps_an_epoch)
        return (steps is not None and progress.step >= steps) or (
            self.seconds is not None and progress.seconds >= self.seconds
        )

    def step_limit(self, steps_an_epoch: int) -> int | None:
        """The optimiser steps that ``steps`` and ``epochs`` allow."""
        limits = [] if self.steps is None else [self.steps]
        if self.epochs is not None:
            limits.append(self.epochs * steps_an_epoch)
        return min(limits, default=None)


def _say_nothing(_line: str) -> None: ...


def train(
    config: TrainConfig,
    prepared: Path,
    folder: Path,
    bounds: Bounds,
    progress_bar: bool = True,
    say: Callable[[str], None] = _say_nothing,
    validate_seconds: float = VALIDATE_SECONDS,
    start: Checkpoint | None = None,
    world: World = ALONE,
) -> Progress:
    """Train until ``bounds``; called again with the same folder it goes on where it was.

    The folder gets ``run.json`` (whose it is), ``state.pt`` (to resume), ``model.safetensors`` (the weights that
    play) and ``log.jsonl``.

    Args:
        config: what to train and how.
        prepared: a folder that ``prepare`` made.
        folder: the run's own.
        bounds: where to stop; with none at all, after the preset's epochs.
        progress_bar: draw one on stderr, where that is a terminal.
        say: told what a person should know before it starts.
        validate_seconds: between two measurements of the held-out loss; one comes at the end anyway.
        start: a model whose weights and band statistics a new run begins with; it must have the configuration's own Mel
            and network (``presets.tuning``), or be the teacher of what that network adds (``presets.distilling``).
        world: the processes that share each batch, all of which call this. The first one alone writes into the folder,
            says what there is to say and draws the bar.

    Returns:
        How far the run is.

    Raises:
        TrainingError: the data or the folder is unusable, the batch can't be shared evenly, or the loss is no longer
            finite.
        Interrupted: SIGINT or SIGTERM came to any of the processes; everything but the step under way is saved.
    """
    world.demand_even(config.batch)
    manifest = world.together(lambda: load_manifest(prepared))
    with ExitStack() as stack:
        world.first(lambda: stack.enter_context(claimed(folder, config, identity_of(manifest, config.model))))
        mel = Mel(config.model.mel)
        if start is not None:
            load_state(mel, start.part("mel"), "Mel")
        run = Run(config, load_dataset(manifest, config.sample, mel, world), mel, folder, start, world)
        if bounds == Bounds():
            bounds = Bounds(epochs=config.epochs)
        if world.leads and run.progress.step:
            say(f"going on with {folder} after {run.progress.step} steps")
        if world.leads and run.dataset.validation is None:
            say("no recording is held out, so no validation loss is measured: that takes two recordings in a mood")
        _loop(run, bounds, progress_bar and world.leads, validate_seconds)
        return run.progress


def _loop(run: Run, bounds: Bounds, progress_bar: bool, validate_seconds: float) -> None:
    # Batches and noise depend on the step at which this call began, so a resumed run doesn't see its start again.
    random = np.random.default_rng(run.progress.step)
    noise = torch.Generator().manual_seed(run.progress.step)
    batches = run.dataset.train.batches(run.config.batch, random)
    run.probe(next(batches), noise)
    world = run.world

    def note(entry: dict[str, object]) -> None:
        if world.leads:
            log.append(run.folder, entry)

    def clock() -> float:  # one for all processes, so that they validate, save and end at the same step
        return world.mean(time.monotonic())

    start = {"step": run.progress.step, "clips": len(run.dataset.train), "bf16": run.bf16, "device": run.device_name}
    note({"event": "start", **start})
    saved = validated = last = clock()
    bar = tqdm(
        total=bounds.step_limit(run.steps_an_epoch),
        initial=run.progress.step,
        unit="step",
        disable=None if progress_bar else True,
    )
    with signals() as received, bar:

        def stopped() -> int:  # the number of a signal that any process received
            return world.largest(received[0] if received else 0)

        while not bounds.reached(run.progress, run.steps_an_epoch) and not stopped():
            loss = run.step(next(batches), noise, stopped)
            if loss is None:
                break
            now = clock()
            run.progress.seconds += now - last
            last = now
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", hours=f"{run.progress.seconds / 3600:.2f}", refresh=False)
            entry: dict[str, object] = {"step": run.progress.step, "samples": run.progress.samples, "loss": loss}
            entry["gradient"] = round(run.gradient, 4)
            if now - validated > validate_seconds:
                run.validate(stopped)
                entry["validation"] = run.progress.validation
                validated = clock()
            note(entry | {"seconds": round(run.progress.seconds, 2)})
            if clock() - saved > SAVE_SECONDS:
                world.first(run.save)
                saved = clock()
        if not stopped():
            run.validate(stopped)
        world.first(run.save)
        number = stopped()
        stop: dict[str, object] = {"event": "stop", "step": run.progress.step, "samples": run.progress.samples}
        note(stop | ({} if number else {"validation": run.progress.validation}))
    if number:
        raise Interrupted(number)


@contextmanager
def signals() -> Iterator[list[int]]:
    """A list that SIGTERM or SIGINT makes non-empty: the loop ends itself, and no step is half done."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
