"""Checkpoints: safetensors files that carry configuration, moods and Mel statistics. No pickle is ever read."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from generator.config import ModelConfig, UNetConfig
from generator.difference import applied, difference
from generator.errors import GeneratorError
from generator.moods import MOODS

FORMAT: Final = "bardcast-1"
MODEL_NAME: Final = "model.safetensors"  #: in the folder of a training run
DTYPES: Final = frozenset({torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8})
FIELDS: Final = frozenset({"config", "moods"})  #: what a model's file says of itself
SHIPPED: Final = ("bard", "bard-teacher")  #: models inside the package

#: What reading a file that is no model can raise.
UNREADABLE: Final = (
    safetensors.SafetensorError,
    AttributeError,  # safetensors: a data type that this torch lacks
    KeyError,
    OSError,
    OverflowError,  # a whole number that no float can be
    RecursionError,  # JSON nested without end
    TypeError,
    ValueError,  # bad JSON, and ConfigError
)


class CheckpointError(GeneratorError):
    """The file can't be used as a model; the text is a sentence that says why."""


@dataclass(frozen=True)
class Checkpoint:
    """A file's content.

    Attributes:
        config: what the model is.
        tensors: by name, dotted by part: ``network.``, ``mel.``, ``plan.``.
    """

    config: ModelConfig
    tensors: Mapping[str, Tensor]

    @property
    def digest(self) -> str:
        """SHA-256 of what the model is, wherever it was read from."""
        return _digest({"config": json.dumps(self.config.to_json())}, self.tensors)

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, float32, their prefix taken off."""
        prefix = name + "."
        return {
            key.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }


def save_checkpoint(path: Path, checkpoint: Checkpoint, base: Path | None = None) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        path: where.
        checkpoint: what.
        base: a checkpoint in the same folder, complete in itself, from which only the difference is written.

    Raises:
        CheckpointError: the base can't be used.
    """
    metadata = {
        "format": FORMAT,
        "config": json.dumps(checkpoint.config.to_json()),
        "moods": json.dumps(MOODS),
    }
    tensors = checkpoint.tensors
    if base is not None:
        told, like = read_tensors(base, FORMAT, FIELDS | {"base"})
        if "base" in told:
            whole = json.loads(told["base"])["file"]
            raise CheckpointError(f"{base} is itself the difference from another; give that one, {whole}")
        if "digest" not in told:
            raise CheckpointError(f"{base}: it is of a time when files had no digest; export it again")
        metadata["base"] = json.dumps({"file": base.name, "digest": told["digest"]})
        tensors = difference(tensors, like)
    write_tensors(path, metadata, tensors)


def write_tensors(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Write a file whole or not at all: a temporary one beside it, then a rename. A digest is added to ``metadata``.

    Raises:
        CheckpointError: there is something else in its place, such as a folder.
    """
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    signed = {**metadata, "digest": _digest(metadata, plain)}
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is no file that could be replaced; choose another")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        save_file(plain, temporary, signed)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_checkpoint(model: str | Path) -> Checkpoint:
    """Read a checkpoint: a model's name in the package (``bard``), or the path of a file or of a run's folder.

    Raises:
        CheckpointError: it is missing, damaged, truncated, or not one of ours.
    """
    if str(model) in SHIPPED:
        with as_file(files("generator") / "weights" / f"{model}.safetensors") as path:
            return _read(path)
    path = Path(model)
    try:
        return _read(path / MODEL_NAME if path.is_dir() else path)
    except OSError as error:  # a folder that may not be entered, or a name that is too long
        raise CheckpointError(_kept_from(path, error)) from error


def _read(path: Path) -> Checkpoint:
    metadata, tensors = read_tensors(path, FORMAT, FIELDS | {"base"})
    try:
        moods = tuple(json.loads(metadata["moods"]))
        config = ModelConfig.from_json(json.loads(metadata["config"]))
        if "base" in metadata:
            tensors = applied(tensors, _base(path, json.loads(metadata["base"])))
    except UNREADABLE as error:
        raise CheckpointError(damaged(path, error)) from error
    if moods != MOODS:
        raise CheckpointError(f"{path}: made for other moods ({', '.join(map(str, moods))}); train it again")
    return Checkpoint(config, tensors)


def _base(path: Path, told: dict[str, str]) -> Mapping[str, Tensor]:
    """The tensors of the checkpoint beside, from which the one at ``path`` differs by what it holds."""
    name = Path(told["file"]).name  # beside, wherever the file says that it leads
    if not path.with_name(name).is_file():
        raise CheckpointError(f"{path}: it is the difference from {name}, which has to lie beside it; copy it there")
    metadata, tensors = read_tensors(path.with_name(name), FORMAT, FIELDS)
    if metadata.get("digest") != told["digest"]:
        raise CheckpointError(f"{path}: it belongs to another {name} than lies beside it; fetch both again")
    return tensors


def read_tensors(path: Path, made: str, fields: frozenset[str]) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """What :func:`write_tensors` wrote.

    Args:
        path: the file.
        made: its format.
        fields: what it says of itself, apart from its format and digest.

    Returns:
        Its metadata and its tensors, all of them finite.

    Raises:
        CheckpointError: it is missing, damaged, truncated, or of another format.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path}: no such model; give a .safetensors file or one of: {', '.join(SHIPPED)}")
        with path.open("rb"):  # which tells, as safetensors doesn't, that it may not be read
            pass
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != made:
                raise CheckpointError(f"{path}: a safetensors file, but not a Bardcast model ({made})")
            if unknown := sorted(metadata.keys() - fields - {"format", "digest"}):
                raise ValueError(f"it says {unknown[0]!r} of itself")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        if foreign := [key for key, value in tensors.items() if value.dtype not in DTYPES]:
            raise ValueError(f"{foreign[0]} holds {tensors[foreign[0]].dtype}")
        # Files from before there were digests lack one.
        if "digest" in metadata and metadata["digest"] != _digest(metadata, tensors):
            raise ValueError("its content is not what was written")
    except OSError as error:
        raise CheckpointError(_kept_from(path, error)) from error
    except UNREADABLE as error:
        raise CheckpointError(damaged(path, error)) from error
    if broken := [key for key, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise CheckpointError(f"{path}: not finite in {broken[0]}; the training that wrote it went wrong")
    return metadata, tensors


def _kept_from(path: Path, error: OSError) -> str:
    return f"{path}: can't be read ({error.strerror or error}); allow it, or give another model"


def damaged(path: Path, error: BaseException) -> str:
    """The sentence for a file that can't be read."""
    return f"{path}: damaged or not a Bardcast model ({error}); fetch or train it again"


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of everything that a file says, in an order of its own: safetensors has no checksum."""
    hasher = hashlib.sha256()
    for key in sorted(metadata.keys() - {"digest"}):
        hasher.update(f"{key}={metadata[key]}\n".encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        hasher.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def need_sizes(unet: UNetConfig, tensors: Mapping[str, Tensor]) -> None:
    """Make sure, before memory is taken, that a network is about as large as its tensors.

    Raises:
        CheckpointError: its configuration asks for sizes that none of the tensors has, or for more layers.
    """
    there = {size for tensor in tensors.values() for size in tensor.shape}
    layers = unet.blocks * len(unet.widths)
    if not {*unet.widths, unet.embedding} <= there or layers > len(tensors):
        raise CheckpointError("the network in this checkpoint does not fit its own configuration: sizes differ")


def load_state(module: torch.nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Fill a module's parameters and buffers.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()[:200]  # there can be hundreds
        raise CheckpointError(f"the {what} in this checkpoint does not fit its own configuration: {first}") from error
