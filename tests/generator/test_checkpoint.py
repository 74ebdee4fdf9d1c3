import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from generator import checkpoint as module
from generator.checkpoint import FORMAT, Checkpoint, CheckpointError, load_checkpoint, load_state, save_checkpoint
from generator.engine import Engine
from generator.moods import MOODS
from generator.network import make_network
from tests.generator.tiny import CPU, TINY, TINY_PAPER, tiny_checkpoint

AGAIN = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "model.safetensors"
    save_checkpoint(path, tiny_checkpoint())
    return path.read_bytes()


def same(one: Checkpoint, two: Checkpoint) -> bool:
    return (
        one.config == two.config
        and one.config.notes == two.config.notes
        and one.tensors.keys() == two.tensors.keys()
        and all(torch.equal(value, two.tensors[key]) for key, value in one.tensors.items())
    )


def write(path: Path, tensors: dict[str, Tensor] | None = None, changes: dict[str, str] | None = None) -> Path:
    """A file of ours as it was before there were digests."""
    plain = {"format": FORMAT, "config": json.dumps(TINY.to_json()), "moods": json.dumps(MOODS)}
    save_file(tensors or dict(tiny_checkpoint().tensors), path, plain | (changes or {}))
    return path


@pytest.mark.parametrize("config", [TINY, TINY_PAPER, replace(TINY, notes={"scale": "half"})])
def test_what_is_saved_is_loaded(config: object, tmp_path: Path) -> None:
    assert isinstance(config, type(TINY))
    before = tiny_checkpoint(config)
    save_checkpoint(tmp_path / "new" / "model.safetensors", before)
    assert same(load_checkpoint(tmp_path / "new" / "model.safetensors"), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_parts_are_single_precision_whatever_was_saved(dtype: torch.dtype, tmp_path: Path) -> None:
    before = tiny_checkpoint()
    small = {key: value.to(dtype) for key, value in before.tensors.items()}
    save_checkpoint(tmp_path / "m", Checkpoint(TINY, small))
    loaded = load_checkpoint(tmp_path / "m")
    assert {value.dtype for value in loaded.tensors.values()} == {dtype}
    part = loaded.part("network")
    assert part.keys() == make_network(TINY.unet, TINY.mel.bands).state_dict().keys()
    for key, value in part.items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, before.tensors[f"network.{key}"], rtol=1e-2, atol=1e-3)


def test_other_layouts_than_plain_are_saved_too(tmp_path: Path) -> None:
    value = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "m", Checkpoint(TINY, {"network.odd": value, "network.count": torch.tensor(7)}))
    loaded = load_checkpoint(tmp_path / "m").part("network")
    assert torch.equal(loaded["odd"], value)
    assert loaded["count"].dtype == torch.int64


def test_a_file_from_before_digests_still_loads(tmp_path: Path) -> None:
    assert same(load_checkpoint(write(tmp_path / "m")), tiny_checkpoint())


@AGAIN
@given(data=st.data())
def test_a_flipped_byte_is_damage_or_nothing(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Not only no other exception: no file that is not what was written is ever taken for a model."""
    header = 8 + int.from_bytes(whole[:8], "little")
    region = data.draw(st.sampled_from([range(8), range(8, header), range(header, len(whole))]))
    place, flip = data.draw(st.sampled_from(region)), data.draw(st.integers(1, 255))
    path = tmp_path / "flipped"
    path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
    try:
        loaded = load_checkpoint(path)
    except CheckpointError:
        return
    assert same(loaded, tiny_checkpoint())


@AGAIN
@given(data=st.data())
def test_a_truncated_file_is_damaged(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "short"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@AGAIN
@given(content=st.binary(max_size=200))
def test_any_other_bytes_are_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@AGAIN
@given(text=st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
@pytest.mark.parametrize("field", ["config", "moods"])
def test_any_other_json_in_the_metadata_is_no_model(tmp_path: Path, field: str, text: object) -> None:
    with pytest.raises(CheckpointError):
        load_checkpoint(write(tmp_path / "m", {"network.x": torch.zeros(1)}, {field: json.dumps(text)}))


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "sprung"),))

    for number, content in enumerate((pickle.dumps(Trap()), b"\x80\x04" + b"x" * 100)):
        (tmp_path / str(number)).write_bytes(content)
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / str(number))
    torch.save({"network": torch.zeros(2)}, tmp_path / "torch.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "torch.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "other-1"}, "not a Bardcast model"),
        ({"moods": json.dumps(MOODS[:7])}, "other moods"),
        ({"moods": json.dumps([*MOODS, "brawl"])}, "brawl"),
        ({"moods": json.dumps(MOODS[::-1])}, "other moods"),
        ({"moods": "[" * 100_000}, "damaged"),
        ({"config": "{}"}, "damaged"),
        (
            {"config": json.dumps({**TINY.to_json(), "diffusion": {**TINY.to_json()["diffusion"], "power": 10**400}})},
            "damaged",
        ),
        ({"config": json.dumps({**TINY.to_json(), "prefix": 4})}, "whole number of patches"),
        ({"digest": "0" * 64}, "not what was written"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_foreign_files_are_told_apart(changes: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(write(tmp_path / "m", changes=changes))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_went_wrong_says_where(value: float, tmp_path: Path) -> None:
    tensors = dict(tiny_checkpoint().tensors)
    tensors["network.enter.bias"][3] = value
    save_checkpoint(tmp_path / "m", Checkpoint(TINY, tensors))
    with pytest.raises(CheckpointError, match=r"not finite in network\.enter\.bias"):
        load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn, torch.bool])
def test_data_types_that_no_model_has_are_foreign(dtype: torch.dtype, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        load_checkpoint(write(tmp_path / "m", {"network.x": torch.zeros(4).to(dtype)}))


def test_a_model_without_metadata_is_foreign(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "m")
    with pytest.raises(CheckpointError, match="not a Bardcast model"):
        load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize("name", ["missing", "", "a\0b", "folder"])
def test_what_is_not_there_names_what_is(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="bard"):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("change", ["shape", "missing", "extra"])
def test_tensors_that_do_not_fit_the_configuration(change: str) -> None:
    tensors = dict(tiny_checkpoint().tensors)
    if change == "shape":
        tensors["network.enter.bias"] = torch.zeros(9)
    elif change == "missing":
        del tensors["network.enter.bias"]
    else:
        tensors["network.exit.bias"] = torch.zeros(9)
    with pytest.raises(CheckpointError, match="does not fit") as error:
        Engine(Checkpoint(TINY, tensors), CPU)
    assert "\n" not in str(error.value)


def test_a_network_that_no_memory_holds_is_not_built() -> None:
    huge = replace(TINY, unet=replace(TINY.unet, widths=(2**20,) * len(TINY.unet.widths)))
    with pytest.raises(CheckpointError, match="the network in this checkpoint does not fit its own configuration"):
        Engine(Checkpoint(huge, tiny_checkpoint().tensors), CPU)


def test_the_folder_of_a_run_is_its_model(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.safetensors", tiny_checkpoint())
    assert same(load_checkpoint(tmp_path), tiny_checkpoint())


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(CheckpointError, match="no file that could be replaced"):
            save_checkpoint(tmp_path / name, tiny_checkpoint())
    assert (tmp_path / "pipe").is_fifo()


def test_a_misfit_of_hundreds_of_tensors_is_still_a_sentence() -> None:
    with pytest.raises(CheckpointError) as error:
        load_state(
            make_network(TINY.unet, TINY.mel.bands), {f"x{number}": torch.zeros(1) for number in range(500)}, "n"
        )
    assert len(str(error.value)) < 400


def test_a_failed_save_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, tiny_checkpoint())
    before = path.read_bytes()

    def full(tensors: object, name: str, metadata: object) -> None:
        Path(name).write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, tiny_checkpoint(seed=1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_takes_the_old_ones_place_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for seed in (0, 1):
        save_checkpoint(path, tiny_checkpoint(seed=seed))
    assert same(load_checkpoint(path), tiny_checkpoint(seed=1))
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_same_checkpoint_is_the_same_bytes(tmp_path: Path, whole: bytes) -> None:
    save_checkpoint(tmp_path / "m", tiny_checkpoint())
    assert load_checkpoint(tmp_path / "m").config == TINY
    assert len((tmp_path / "m").read_bytes()) == len(whole)


def test_what_may_not_be_read_is_told_from_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"can't be read \(File name too long\); allow it, or give another model"):
        load_checkpoint(tmp_path / ("a" * 300))
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, tiny_checkpoint())
    monkeypatch.setattr(Path, "open", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(CheckpointError, match=r"mine.safetensors: can't be read \(Permission denied\); allow it"):
        load_checkpoint(path)
