"""The processes that train one model together, as torchrun starts them; without torchrun, a world of one.

Whatever the size of the world, its processes draw the same batch, of which each computes a part; they decide the same
at the same step and have the same weights. The first one alone writes and speaks.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from generator.device import pick_device
from training.errors import Interrupted, PresetError, RunError, TrainingError

#: for one process to wait for another, which may still be making its part of the Mels
PATIENCE: Final = timedelta(hours=6)

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them. Its methods are called by all of them, in the same order.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        local_rank: of this process on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes: on a GPU of its own, where the machine has any.

        Raises:
            RunError: it has too few.
        """
        device = pick_device()
        if self.size == 1 or device.type == "cpu":
            return device
        if self.local_rank >= (count := torch.cuda.device_count()):
            raise RunError(f"this machine has fewer GPUs than processes; start it with --nproc-per-node {count}")
        return torch.device("cuda", self.local_rank)

    def demand_even(self, batch: int) -> None:
        """See that a batch can be shared.

        Raises:
            PresetError: not evenly.
        """
        if batch % self.size:
            raise PresetError(
                f"a batch of {batch} can't be shared evenly by {self.size} processes; "
                f"choose a --batch that divides by {self.size}, or another --nproc-per-node"
            )

    def rows(self, batch: int) -> slice:
        """This process's part of a batch that divides by the world's size."""
        part = batch // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of some work: every item is in one process's."""
        return items[self.rank :: self.size]

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over all processes; in a world of one, itself."""
        if self.size == 1:
            return network
        device = self.device
        return DistributedDataParallel(network, None if device.type == "cpu" else [device])

    def mean(self, value: float) -> float:
        """Of all processes' values."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(total)
        return total.item() / self.size

    def largest(self, value: int) -> int:
        """Of all processes' values."""
        if self.size == 1:
            return value
        found = torch.tensor(int(value))
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found.item())

    def gather(self, values: list[float]) -> list[float]:
        """All processes' values, in the order of their ranks."""
        if self.size == 1:
            return values
        parts: list[list[float]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(parts, values)
        return [value for part in parts for value in part]

    def first(self, work: Callable[[], T]) -> T:
        """Have the first process do ``work`` while the others wait; its result in each of them.

        Raises:
            TrainingError: what ``work`` raised, in each of them.
        """
        if self.size == 1:
            return work()
        outcomes = [_outcome(work) if self.leads else None]
        distributed.broadcast_object_list(outcomes, src=0, device=torch.device("cpu"))
        if isinstance(outcomes[0], TrainingError):
            raise outcomes[0]
        return outcomes[0]  # type: ignore[return-value]

    def together(self, work: Callable[[], T]) -> T:
        """Do ``work``, and wait until all have done theirs; each has its own result.

        Raises:
            TrainingError: what ``work`` raised in any process, in each of them.
        """
        own = _outcome(work)
        errors = [own if isinstance(own, TrainingError) else None]
        if self.size > 1:
            gathered: list[TrainingError | None] = [None] * self.size
            distributed.all_gather_object(gathered, errors[0])
            errors = gathered
        for error in errors:
            if error is not None:
                raise error
        return own  # type: ignore[return-value]


ALONE: Final = World()


def _outcome(work: Callable[[], T]) -> T | TrainingError:
    try:
        return work()
    except TrainingError as error:
        return error


@contextmanager
def joined() -> Iterator[World]:
    """The world that torchrun made, while the context lasts; a world of one without torchrun.

    The first process lets errors through to whoever says them. The others end silently with the same exit status, so
    that a sentence is read once.

    Raises:
        RunError: there are fewer GPUs than processes, or another process was lost.
    """
    size = int(os.environ["WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1
    if size == 1:
        yield ALONE
        return
    world = World(int(os.environ["RANK"]), size, int(os.environ["LOCAL_RANK"]))
    try:
        backend = "gloo"
        if (device := world.device).type == "cuda":
            torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl"
        # DDP imports it. Imported while there is a group it keeps the group, and with it threads that may want the
        # interpreter after its end, for which the process is aborted.
        importlib.import_module("torch._dynamo")
        # What is decided together is told between CPUs, so that no GPU waits for it; gradients go from GPU to GPU.
        distributed.init_process_group(backend, timeout=PATIENCE)
        try:
            yield world
        except RuntimeError as error:
            if not _is_of_the_line(error):
                raise
            raise RunError(
                "another process of this run was lost; run the same command again to go on from the last state"
            ) from error
        finally:
            distributed.destroy_process_group()
    except (TrainingError, Interrupted) as error:
        if not world.leads:
            raise SystemExit(error.exit_status) from error
        raise


def _is_of_the_line(error: RuntimeError) -> bool:
    # gloo has no class of its own for what it raises.
    return isinstance(error, distributed.DistError) or "gloo" in str(error)
