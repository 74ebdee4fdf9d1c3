"""A run's model made small enough to ship."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError

from generator.checkpoint import MODEL_NAME, Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from generator.config import ConfigError
from training.errors import PresetError, RunError, StorageError

EXACT: Final = ("mel.", "plan.")  #: statistics: small, and every sample depends on them


def export(folder: Path, out: Path, base: Path | None = None, name: str | None = None) -> Checkpoint:
    """Write the run's weights that play to ``out``: bfloat16, statistics float32; whole or not at all.

    Args:
        folder: the run's.
        out: where.
        base: a model in the same folder as ``out``, from which only the difference is written.
        name: what the model is called from now on; ``None``: as ever.

    Returns:
        What was written.

    Raises:
        RunError: the run has no model that plays, or the base can't be used.
        PresetError: the name can't be a model's.
        StorageError: ``out`` can't be written.
    """
    if folder.is_dir() and not (folder / MODEL_NAME).exists():
        raise RunError(f"{folder} holds no model yet: a run saves one within its first minute, and at its end")
    try:
        found = load_checkpoint(folder / MODEL_NAME)
    except CheckpointError as error:
        raise RunError(f"{folder} holds no model to export: {error}") from error
    tensors = {
        key: value.to(torch.bfloat16) if value.is_floating_point() and not key.startswith(EXACT) else value
        for key, value in found.tensors.items()
    }
    try:
        config = found.config if name is None else replace(found.config, name=name)
    except ConfigError as error:
        raise PresetError(f"{error}; choose another --out") from error
    small = Checkpoint(config, tensors)
    try:
        save_checkpoint(out, small, base)
    except CheckpointError as error:
        raise RunError(str(error)) from error
    except (OSError, SafetensorError) as error:
        raise StorageError(f"can't write {out} ({error}); choose another place with --out") from error
    return small
