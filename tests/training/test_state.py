import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.small_run import BARD_RUN, PAPER_RUN
from training import log
from training.errors import RunError
from training.presets import with_widths
from training.state import Ema, Progress, claimed, load_state, not_finite, save_state


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """Writes beyond ``size`` bytes fail in the kernel, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_average_follows_the_power_function() -> None:
    layer = nn.Linear(1, 1, bias=False)
    ema = Ema(layer)
    expected = 0.0
    for step in range(1, 30):
        nn.init.constant_(layer.weight, float(step**2))
        ema.update(layer, step)
        keep = (1 - 1 / step) ** (6.94 + 1)
        expected = keep * expected + (1 - keep) * step**2
        assert ema.weights["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_the_average_forgets_the_random_beginning_at_the_first_step() -> None:
    layer = nn.Linear(3, 3)
    ema = Ema(layer)
    nn.init.constant_(layer.weight, 2.0)
    ema.update(layer, 1)
    assert torch.equal(ema.weights["weight"], layer.weight)


def test_the_average_spans_about_a_tenth_of_the_run() -> None:
    """The standard deviation of the profile's position, relative to the run, is 0.10 for γ = 6.94."""
    layer = nn.Linear(1, 1, bias=False)
    first, second = Ema(layer), Ema(layer)
    for step in range(1, 1001):
        for ema, value in ((first, step / 1000), (second, (step / 1000) ** 2)):
            nn.init.constant_(layer.weight, value)
            ema.update(layer, step)
    mean, square = first.weights["weight"].item(), second.weights["weight"].item()
    assert (square - mean**2) ** 0.5 == pytest.approx(0.10, abs=0.01)


def test_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    progress = Progress(3, 12, 4.5, 0.25)
    save_state(tmp_path, progress, {"network": {"w": torch.randn(5)}, "ema": {"w": torch.randn(5)}})
    found = load_state(tmp_path)
    save_state(tmp_path, progress, found[1] if found else {})
    again = load_state(tmp_path)
    assert found is not None
    assert again is not None
    assert found[0] == again[0] == progress
    assert torch.equal(found[1]["ema"]["w"], again[1]["ema"]["w"])


def test_a_field_that_an_older_version_wrote_is_no_obstacle(tmp_path: Path) -> None:
    torch.save({"progress": {"step": 7, "samples": 9, "seconds": 1.0, "best": 0.5}, "ema": {}}, tmp_path / "state.pt")
    found = load_state(tmp_path)
    assert found is not None
    assert found[0] == Progress(7, 9, 1.0)


def test_a_damaged_state_is_a_sentence(tmp_path: Path) -> None:
    save_state(tmp_path, Progress(), {"network": {"w": torch.zeros(1000)}})
    whole = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="damaged; delete it"):
        load_state(tmp_path)


def test_a_full_disk_is_a_sentence_and_the_old_state_is_kept(tmp_path: Path) -> None:
    save_state(tmp_path, Progress(step=1), {"network": {"w": torch.zeros(10)}})
    with disk_with_room_for(20_000), pytest.raises(RunError, match=r"disk may be full.*the last state"):
        save_state(tmp_path, Progress(step=2), {"network": {"w": torch.zeros(100_000)}})
    found = load_state(tmp_path)
    assert found is not None
    assert found[0].step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_a_folder_goes_on_only_with_the_run_it_holds(tmp_path: Path) -> None:
    with claimed(tmp_path, replace(BARD_RUN, batch=2), "mel-0"):
        pass  # it ended before it had anything to lose
    with claimed(tmp_path, BARD_RUN, "mel-1"):
        save_state(tmp_path, Progress(), {})
    with claimed(tmp_path, BARD_RUN, "mel-1"):
        pass
    for other, difference in (
        (PAPER_RUN, "small-bard"),
        (replace(BARD_RUN, batch=8), "batch: 4 there, 8 here"),
        (with_widths(BARD_RUN, (8, 8, 8)), r"unet.widths: \[8, 16, 16\] there, \[8, 8, 8\] here"),
    ):
        with pytest.raises(RunError, match=difference), claimed(tmp_path, other, "mel-1"):
            pass
    tuned = replace(BARD_RUN, model=replace(BARD_RUN.model, notes={"from": "another"}))
    with pytest.raises(RunError, match="that began with other weights"), claimed(tmp_path, tuned, "mel-1"):
        pass
    with pytest.raises(RunError, match="other clips"), claimed(tmp_path, BARD_RUN, "mel-2"):
        pass


def test_two_processes_dont_train_in_one_folder(tmp_path: Path) -> None:
    with (
        claimed(tmp_path, BARD_RUN, "mel-1"),
        pytest.raises(RunError, match="another process"),
        claimed(tmp_path, BARD_RUN, "mel-1"),
    ):
        pass


def test_a_nan_is_named() -> None:
    assert not_finite({"a": torch.zeros(3)}) is None
    assert not_finite({"a": torch.zeros(3), "b": torch.tensor([0.0, torch.nan])}) == "b"


def test_the_log_counts_each_step_once(tmp_path: Path) -> None:
    log.append(tmp_path, {"event": "start", "step": 0})
    for step in (1, 2, 3):
        log.append(tmp_path, {"step": step, "loss": 1.0})
    log.append(tmp_path, {"event": "start", "step": 2})  # killed after a state of step 2
    log.append(tmp_path, {"step": 3, "loss": 2.0})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4})[:5])  # the disk was full
    with (tmp_path / "log.jsonl").open("ab") as file_of_bytes:
        file_of_bytes.write(b"\n5\n\xff\n")  # or is damaged
    assert [(e["step"], e["loss"]) for e in log.read(tmp_path) if "loss" in e] == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert log.read(tmp_path) == []
