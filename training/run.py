"""Everything that one step of training touches, and how it is put on disk and back."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from generator.checkpoint import MODEL_NAME, Checkpoint, save_checkpoint
from generator.checkpoint import load_state as load_weights
from generator.device import bf16_pays, precision
from generator.diffusion import NoiseSchedule, make_schedule
from generator.mel import Mel
from generator.network import make_network
from training import log
from training.data import Batch, Dataset, plan_statistics
from training.distributed import ALONE, World
from training.errors import RunError
from training.loss import Draw, draw_bard, draw_paper, loss_of
from training.presets import TrainConfig
from training.state import Ema, Progress, load_state, not_finite, save_state, unwritable

VALIDATION_CLIPS: Final = 64
PROBE_CLIPS: Final = 4  #: enough to see what bfloat16 buys, few enough to be quick at the paper's full width
MAX_GRADIENT: Final = 1.0  #: norm, for ``inverse-sqrt``


Rows = TypeVar("Rows", Batch, Draw)


def never() -> bool:
    """Nobody asks to stop."""
    return False


class Run:
    """Network, optimiser, average and progress; goes on from the folder's state if it has one."""

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        mel: Mel,
        folder: Path,
        start: Checkpoint | None = None,
        world: World = ALONE,
    ) -> None:
        """Set up, or restore.

        Args:
            config: what to train and how.
            dataset: what to learn from.
            mel: fitted to it.
            folder: the run's own.
            start: what a new run's weights are; random where not given. Where its network takes two passes for
                guidance and the configuration's one, it is also the teacher.
            world: the processes that share each batch. Where a method says nothing else, all of them call it.

        Raises:
            CheckpointError: ``start`` is not the configuration's.
            RunError: the folder's state is damaged or of another model.
        """
        self.config, self.model, self.folder = config, config.model, folder
        self.dataset, self.mel = dataset, mel
        self.world, self.device = world, world.device
        torch.manual_seed(0)
        self.network = make_network(self.model.unet, self.model.mel.bands).to(self.device)
        self.teacher: nn.Module | None = None
        if start is not None:
            weights = start.part("network")
            if self.model.unet.guided and not start.config.unet.guided:
                self.teacher = make_network(start.config.unet, start.config.mel.bands).to(self.device)
                load_weights(self.teacher, weights, "network")
                self.teacher.eval().requires_grad_(False)
                weights = self.network.state_dict() | weights  # guidance's own begin as they are
            load_weights(self.network, weights, "network")
        self.schedule: NoiseSchedule = make_schedule(self.model.diffusion)
        paper = self.model.unet.architecture == "paper"
        self.draw = draw_paper if paper else partial(draw_bard, guided=config.guided)
        self.ema = Ema(self.network)
        adam = torch.optim.AdamW if config.decay == "inverse-sqrt" else torch.optim.Adam
        self.optimiser: torch.optim.Optimizer = adam(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.progress = Progress()
        self.bf16 = False
        self.gradient = 0.0  # norm at the last step, before clipping
        self.steps_an_epoch = max(1, len(dataset.train) // config.batch)
        self.statistics = plan_statistics(dataset.train, None if start is None else start.tensors["plan.statistics"])
        if (found := world.first(lambda: load_state(folder))) is not None:
            self._restore(*found)
        self.parallel = world.parallel(self.network)
        devices = [entry["device"] for entry in log.read(folder) if "device" in entry]
        self.devices = list(dict.fromkeys([*devices, self.device_name]))

    def _restore(self, progress: Progress, parts: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(parts["network"])
            self.optimiser.load_state_dict(parts["optimiser"])
            self.ema.weights = {key: parts["ema"][key].to(self.device) for key in self.ema.weights}
        except (KeyError, RuntimeError, ValueError) as error:
            raise RunError(f"{self.folder} holds another model's state; choose another --run") from error
        self.progress = progress

    @property
    def device_name(self) -> str:
        """Where this call computes, for the log and the checkpoint's notes."""
        name = f"CPU, {torch.get_num_threads()} threads"
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        return name if self.world.size == 1 else f"{self.world.size} × {name}"

    def probe(self, batch: Batch, noise: torch.Generator) -> None:
        """Find out by a stop-watch whether bfloat16 pays here, and wherever else the batch is shared."""
        few = _rows(batch, slice(PROBE_CLIPS))
        draw = self.draw(few, self.model, noise)

        def work() -> None:
            self._loss(self.network, few, draw).backward()  # type: ignore[no-untyped-call]
            self.network.zero_grad(set_to_none=True)

        self.bf16 = not self.world.largest(not bf16_pays(work, self.device))

    def step(self, batch: Batch, noise: torch.Generator, stopped: Callable[[], int] = never) -> float | None:
        """One optimiser step.

        Args:
            batch: what to learn from, the same in all processes; each computes its rows.
            noise: of the diffusion.
            stopped: asked half-way; if true, which it must be in all processes or in none, the step is dropped.

        Returns:
            The loss; ``None`` if the step was dropped.

        Raises:
            RunError: loss or gradient is not finite; nothing was changed.
        """
        rate = self.config.rate(self.progress.step, self.steps_an_epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        with precision(self.device, self.bf16):
            part = self._part_of_loss(batch, self.draw(batch, self.model, noise))
        if stopped():
            return None
        loss = self.world.mean(part.item())
        self._demand_finite("loss", loss)
        part.backward()  # type: ignore[no-untyped-call]
        limit = MAX_GRADIENT if self.config.decay == "inverse-sqrt" else float("inf")
        self.gradient = nn.utils.clip_grad_norm_(self.network.parameters(), limit).item()
        self._demand_finite("gradient", self.gradient)
        self.optimiser.step()
        self.progress.step += 1
        self.progress.samples += len(batch.mel)
        self.ema.update(self.network, self.progress.step)
        return loss

    def _demand_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise RunError(
                f"the {what} became {value} at step {self.progress.step + 1}; the last good state and model are "
                f"kept in {self.folder}; run the same command again to go on from there, or lower the learning rate"
            )

    def _part_of_loss(self, batch: Batch, draw: Draw) -> Tensor:
        """What this process computes of a batch's loss: the mean over all processes is the loss of the batch."""
        rows = self.world.rows(len(batch.mel))
        own = _rows(draw, rows)
        share = (1 - own.known).mean() / (1 - draw.known).mean()  # a loss is the mean over what is hidden
        return share * self._loss(self.parallel, _rows(batch, rows), own)

    def _loss(self, network: nn.Module, batch: Batch, draw: Draw) -> Tensor:
        return loss_of(network, *_to(self.device, batch, draw), self.model, self.schedule, self.teacher)

    @torch.no_grad()
    def validate(self, stopped: Callable[[], int] = never) -> None:
        """Measure the playing weights' loss on held-out tracks, always with the same clips and the same noise.

        Left as it was where no track is held out, or where ``stopped`` says to hurry.
        """
        if self.dataset.validation is None:
            return
        playing = copy.deepcopy(self.network)
        playing.load_state_dict(self.weights)
        noise = torch.Generator().manual_seed(0)
        size = min(self.config.batch, VALIDATION_CLIPS)
        batches = self.dataset.validation.batches(size, np.random.default_rng(0))
        losses = []
        for number in range(VALIDATION_CLIPS // size):
            if stopped():
                return
            batch = next(batches)
            draw = self.draw(batch, self.model, noise).plain  # guidance has no recording to be right about
            if number % self.world.size == self.world.rank:
                with precision(self.device, self.bf16):
                    losses.append(self._loss(playing, batch, draw).item())
        self.progress.validation = float(np.mean(self.world.gather(losses)))

    @property
    def weights(self) -> dict[str, Tensor]:
        """Those that play: averaged, or the last step's."""
        return self.ema.weights if self.config.ema else self.network.state_dict()

    def save(self) -> None:
        """State for resuming, and the weights that play as a checkpoint. One process does it.

        Raises:
            RunError: the weights are not finite, or the disk is full; what was saved before is kept.
        """
        network = self.network.state_dict()
        if (broken := not_finite(network) or not_finite(self.ema.weights)) is not None:
            raise RunError(
                f"the weights of {broken} became infinite at step {self.progress.step}; the last good state and model "
                f"are kept in {self.folder}; lower the learning rate and begin anew in another --run"
            )
        parts = {"network": network, "optimiser": self.optimiser.state_dict(), "ema": self.ema.weights}
        save_state(self.folder, self.progress, parts)
        path = self.folder / MODEL_NAME
        try:
            save_checkpoint(path, self.checkpoint())
        except (OSError, SafetensorError) as error:
            raise RunError(unwritable(path)) from error

    def checkpoint(self) -> Checkpoint:
        """The weights with all that is needed to play them, and what they cost in the notes."""
        tensors = {f"network.{key}": value.cpu() for key, value in self.weights.items()}
        tensors |= {f"mel.{key}": value for key, value in self.mel.state_dict().items()}
        if self.statistics is not None:
            tensors["plan.statistics"] = self.statistics
        clips = self.dataset.train
        notes = self.model.notes | {
            "clips": f"{len(clips)} clips of {len(clips.mels)} recordings",
            "steps": str(self.progress.step),
            "samples": str(self.progress.samples),
            "hours": f"{self.progress.seconds / 3600:.3f}",
            "device": "; ".join(self.devices),
        }
        if self.progress.validation is not None:
            notes["validation loss"] = f"{self.progress.validation:.4f}"
        return Checkpoint(replace(self.model, notes=notes), tensors)


def _rows(values: Rows, rows: slice) -> Rows:
    def cut(value: Tensor | None) -> Any:
        return None if value is None else value[rows]

    return type(values)(*(cut(value) for value in vars(values).values()))


def _to(device: torch.device, batch: Batch, draw: Draw) -> tuple[Batch, Draw]:
    def move(value: Tensor | None) -> Any:
        return None if value is None else value.to(device, non_blocking=True)

    return (
        Batch(*(move(value) for value in vars(batch).values())),
        Draw(*(move(value) for value in vars(draw).values())),
    )
