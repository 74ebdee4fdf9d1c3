"""What a run is between two calls, on disk: whose folder it is, and one file of state, whole or not at all."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from training.errors import RunError
from training.presets import TrainConfig
from training.storage import write_atomically, writing_to

RUN_NAME: Final = "run.json"
STATE_NAME: Final = "state.pt"


class Ema:
    """Power-function moving average of weights: it spans about the last tenth of the run, however long that is.

    β_n = (1 − 1/n)^(γ + 1) with γ = 6.94 (Karras et al. 2024, section 3.1).
    """

    def __init__(self, network: nn.Module) -> None:
        self.weights = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the network's weights after step ``step`` ≥ 1."""
        keep = (1 - 1 / step) ** 7.94
        for key, value in network.state_dict().items():
            self.weights[key].lerp_(value, 1 - keep)


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps done.
        samples: samples seen.
        seconds: of training, over all resumes.
        validation: the playing weights' loss on held-out tracks when it was last measured.
    """

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    validation: float | None = None


@contextmanager
def claimed(folder: Path, config: TrainConfig, data: str) -> Iterator[None]:
    """Make ``folder`` the run's own while the context lasts: the same run as before, and no other process's.

    Args:
        folder: the run's; made if need be.
        config: what is trained and how.
        data: identity of the clips.

    Raises:
        RunError: it holds another run that has saved something, or this one is under way.
        StorageError: it can't be written.
    """
    own = {"config": _plain(config), "data": data}
    with exclusive(folder):
        if (folder / STATE_NAME).exists():
            _check(folder, own)
        with writing_to(folder, "--run"):
            write_atomically(folder / RUN_NAME, json.dumps(own, indent=1) + "\n")
        yield


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes from training in ``folder``, which is made if need be, while the context lasts.

    Raises:
        RunError: one does already.
        StorageError: it can't be written.
    """
    with writing_to(folder, "--run"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process is training in {folder}; wait for it, or choose another --run") from None
        yield


def _check(folder: Path, own: dict[str, Any]) -> None:
    try:
        there = json.loads((folder / RUN_NAME).read_text(encoding="utf-8"))
        # Through the class, so that what is newer than the run has its default.
        config, data = TrainConfig.from_json(there["config"]), there["data"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / RUN_NAME} is damaged ({error}); choose another --run") from error
    name, earlier, now = config.model.name, _flat(_plain(config)), _flat(own["config"])
    differing = [key for key in now if earlier.get(key) != now[key]]
    if differing:
        key = next((key for key in differing if "name" not in key), differing[0])
        if key.startswith("model.notes."):
            raise RunError(f"{folder} holds a run of {name!r} that began with other weights; choose another --run")
        raise RunError(
            f"{folder} holds a run of {name!r} with other settings ({key.removeprefix('model.')}: {earlier.get(key)} "
            f"there, {now[key]} here); choose another --run, or call it as it was begun"
        )
    if data != own["data"]:
        raise RunError(
            f"{folder} was trained on other clips, or split otherwise; to go on from what it learnt, begin another run "
            f"with `--from {folder} --run DIR`"
        )


def _plain(config: TrainConfig) -> dict[str, Any]:
    """In JSON's own types, as it comes back from a file."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat


def save_state(folder: Path, progress: Progress, parts: dict[str, Any]) -> None:
    """Write the run's state through a temporary file.

    Raises:
        RunError: the disk is full or the folder can't be written; the old state is kept.
    """
    path = folder / STATE_NAME
    partial = path.with_suffix(".part")
    try:
        with partial.open("wb") as file:
            torch.save({"progress": asdict(progress), **parts}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch says a full disk as a RuntimeError, and not plainly
        raise RunError(unwritable(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def unwritable(path: Path) -> str:
    """The sentence for a file of a run that could not be written."""
    return (
        f"{path} could not be written, the disk may be full: make room and run the same command again; "
        "it goes on from the last state that was saved"
    )


def load_state(folder: Path) -> tuple[Progress, dict[str, Any]] | None:
    """The state of an earlier call, on the CPU, or ``None`` where there is none.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / STATE_NAME
    if not path.exists():
        return None
    try:
        parts: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = parts.pop("progress")
        return Progress(**{field.name: found[field.name] for field in fields(Progress) if field.name in found}), parts
    except Exception as error:  # torch.load raises half a dozen kinds for one damaged file
        raise RunError(f"{path} is damaged; delete it to start the run anew") from error


def not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor that holds an infinity or a NaN."""
    return next((key for key, tensor in tensors.items() if not tensor.isfinite().all()), None)
