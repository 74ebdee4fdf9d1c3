"""A model told as its difference from another is nearly itself, and joined to nothing but what it was told of."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from generator import difference as module
from generator.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint, write_tensors
from generator.difference import applied, difference
from tests.generator.tiny import TINY, tiny_checkpoint

NEAR = 0.15  #: of the differences' root mean square


@pytest.fixture(autouse=True)
def _small_tensors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 64)


def seeded(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def moved(before: Checkpoint) -> Checkpoint:
    """As after a little training, and with a tensor of which its base knows nothing."""
    near = {
        key: value + 0.01 * seeded(*value.shape, seed=number)
        for number, (key, value) in enumerate(before.tensors.items())
    }
    return replace(before, tensors=near | {"network.new": torch.ones(8, 64)})


def test_what_is_told_coarsely_is_nearly_what_was_meant_however_its_rows_differ() -> None:
    base = seeded(48, 16, 3, 3, seed=1)
    sizes = torch.logspace(-6, 0, 48)[:, None, None, None]
    meant = base + sizes * seeded(48, 16, 3, 3, seed=2)
    (heard,) = applied(difference({"a": meant}, {"a": base.bfloat16()}), {"a": base.bfloat16()}).values()
    errors, differences = ((value - base.bfloat16().float()).flatten(1) for value in (heard, meant))
    rest = (errors - differences).square().mean(1).sqrt() / differences.square().mean(1).sqrt()
    assert rest.mean() < NEAR
    assert rest.max() < 2 * NEAR


def test_small_new_and_reshaped_tensors_are_told_whole() -> None:
    base = {
        "small": torch.zeros(7, 9),
        "line": torch.zeros(100),
        "other": torch.zeros(8, 64),
        "same": torch.ones(8, 64),
    }
    tensors = {**base, "other": torch.ones(64, 8), "new": torch.ones(8, 64)}
    told = difference(tensors, base)
    assert told.keys() == {"small", "line", "other", "new", "difference.same", "scale.same"}
    joined = applied(told, base)
    assert joined.keys() == tensors.keys()
    assert all(torch.equal(joined[name], tensors[name]) for name in tensors)


def test_a_file_that_differs_from_the_one_beside_it_is_the_model(tmp_path: Path) -> None:
    before = tiny_checkpoint()
    after = moved(before)
    save_checkpoint(tmp_path / "base", before)
    save_checkpoint(tmp_path / "model", after, tmp_path / "base")
    with safe_open(tmp_path / "model", "pt") as file:
        assert any(name.startswith("difference.") for name in file.keys())  # noqa: SIM118 - not a mapping
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.config == TINY
    assert loaded.tensors.keys() == after.tensors.keys()
    for name, value in after.tensors.items():
        assert (loaded.tensors[name] - value).abs().mean() < NEAR * 0.01
    assert loaded.digest == load_checkpoint(tmp_path / "model").digest != load_checkpoint(tmp_path / "base").digest


def test_beside_another_base_or_none_it_is_no_model(tmp_path: Path) -> None:
    before = tiny_checkpoint()
    save_checkpoint(tmp_path / "base", before)
    save_checkpoint(tmp_path / "model", moved(before), tmp_path / "base")
    save_checkpoint(tmp_path / "base", moved(before))
    with pytest.raises(CheckpointError, match="it belongs to another base than lies beside it"):
        load_checkpoint(tmp_path / "model")
    (tmp_path / "base").unlink()
    with pytest.raises(CheckpointError, match="it is the difference from base, which has to lie beside it"):
        load_checkpoint(tmp_path / "model")


def test_a_difference_from_a_difference_is_not_written(tmp_path: Path) -> None:
    before = tiny_checkpoint()
    save_checkpoint(tmp_path / "base", before)
    save_checkpoint(tmp_path / "model", moved(before), tmp_path / "base")
    with pytest.raises(CheckpointError, match="model is itself the difference from another; give that one, base"):
        save_checkpoint(tmp_path / "next", moved(before), tmp_path / "model")


def rewrite(folder: Path, base: object, spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """A file that says that it differs from another, after somebody else has written it."""
    before = tiny_checkpoint()
    save_checkpoint(folder / "base", before)
    save_checkpoint(folder / "model", moved(before), folder / "base")
    with safe_open(folder / "model", "pt") as file:
        metadata = {name: value for name, value in file.metadata().items() if name != "digest"}
        told = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    metadata["base"] = json.dumps({**json.loads(metadata["base"]), "file": base})
    write_tensors(folder / "model", metadata, spoil(told))
    return folder / "model"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: {**told, "difference.network.gone": torch.zeros(8, 64, dtype=torch.int8)},
        lambda told: {name: value.float() for name, value in told.items()},
        lambda told: {name: value[:1] if name.startswith("scale") else value for name, value in told.items()},
        lambda told: {name: value for name, value in told.items() if not name.startswith("scale")},
    ],
    ids=["of nothing", "no steps", "too few scales", "no scales"],
)
def test_what_is_no_difference_is_no_model(
    tmp_path: Path, spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    with pytest.raises(CheckpointError, match="damaged or not a Bardcast model"):
        load_checkpoint(rewrite(tmp_path, "base", spoil))


@pytest.mark.parametrize("base", [7, None, "", "elsewhere"])
def test_a_base_that_is_none_is_said(tmp_path: Path, base: object) -> None:
    with pytest.raises(CheckpointError):
        load_checkpoint(rewrite(tmp_path, base, dict))


def test_a_base_is_looked_for_beside_the_file_wherever_that_leads(tmp_path: Path) -> None:
    folder = tmp_path / "beside"
    folder.mkdir()
    assert load_checkpoint(rewrite(folder, "../base", dict)).config == TINY
