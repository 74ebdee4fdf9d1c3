"""Two real processes on one machine, as torchrun starts them, beside one that does the same alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from generator.checkpoint import load_checkpoint
from tests.training.small_run import prepare_small
from tests.training.two_processes import BARD, PAPER, in_float32, noting
from training import log
from training.distributed import World
from training.errors import PresetError
from training.loop import Bounds, train
from training.state import exclusive, load_state

ROOT = Path(__file__).parents[2]
#: Behind whatever test runs beside these in real time.
NICE = ["nice", "-n", "19"]
TORCHRUN = [*NICE, sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
CHILD = [*TORCHRUN, "tests.training.two_processes"]


@dataclass(frozen=True)
class Trained:
    """What one process alone and two together left, each with data of its own.

    Attributes:
        alone: the runs of one process.
        together: those of two.
        prepared: what the one learnt from.
        theirs: the same for the two.
        seen: the samples of the run "bard", by their noise.
        ranks: what the two met, by run.
    """

    alone: Path
    together: Path
    prepared: Path
    theirs: Path
    seen: list[str]
    ranks: tuple[dict[str, Any], dict[str, Any]]


pytestmark = pytest.mark.timeout(400)  # those processes come last when the machine is busy


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("distributed")
    alone, together = folder / "alone", folder / "together"
    prepared, theirs = prepare_small(folder / "prepared"), prepare_small(folder / "theirs")
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        in_float32(patch)
        patch.setattr("training.run.loss_of", noting(seen))
        train(BARD, prepared, alone / "bard", Bounds(steps=4))
        patch.undo()
        in_float32(patch)
        train(PAPER, prepared, alone / "paper", Bounds(steps=4))
        train(BARD, prepared, alone / "begun by one", Bounds(steps=2))
        shutil.copytree(alone / "begun by one", together / "begun by one")
        train(BARD, prepared, alone / "begun by one", Bounds(steps=4))
    with exclusive(together / "claimed"):
        subprocess.run([*CHILD, str(theirs), str(together)], cwd=ROOT, check=True, timeout=300)
    first, second = (json.loads((together / f"rank{rank}.json").read_text()) for rank in (0, 1))
    return Trained(alone, together, prepared, theirs, seen, (first, second))


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in log.read(folder) if "loss" in entry]


def assert_equal(one: Path, other: Path) -> None:
    """Losses, weights, averages and moments, up to the order in which numbers are added."""
    assert losses(one) == pytest.approx(losses(other), rel=1e-4)
    states = [load_state(folder) for folder in (one, other)]
    (progress, parts), (others_progress, others_parts) = (found for found in states if found is not None)
    assert (progress.step, progress.samples) == (others_progress.step, others_progress.samples)
    assert progress.validation == pytest.approx(others_progress.validation, rel=1e-4)
    for part in ("network", "ema", "optimiser"):
        torch.testing.assert_close(parts[part], others_parts[part], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bard", "paper", "begun by one"])
def test_two_processes_learn_what_one_learns(both: Trained, name: str) -> None:
    assert len(losses(both.together / name)) == 4
    assert_equal(both.alone / name, both.together / name)


def test_each_sample_is_in_one_process(both: Trained) -> None:
    first, second = (np.array(found["bard"]).reshape(4, 2) for found in both.ranks)
    assert np.array_equal(np.hstack([first, second]), np.array(both.seen).reshape(4, 4))
    assert len({*first.flat, *second.flat}) == 16


def test_one_process_goes_on_with_what_two_began(
    both: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_float32(monkeypatch)
    for name, began in (("alone", both.alone), ("together", both.together)):
        shutil.copytree(began / "bard", tmp_path / name)
        train(BARD, both.prepared, tmp_path / name, Bounds(steps=6))
    assert_equal(tmp_path / "alone", tmp_path / "together")
    notes = load_checkpoint(tmp_path / "together" / "model.safetensors").config.notes
    assert notes["device"].startswith("2 × ")


def test_the_first_process_alone_writes_and_speaks(both: Trained) -> None:
    first, second = both.ranks
    assert first["said"] == [f"going on with {both.together / 'begun by one'} after 2 steps"]
    assert second["said"] == []
    assert {path.name for path in (both.together / "bard").iterdir()} == {
        ".lock", "run.json", "state.pt", "model.safetensors", "log.jsonl"
    }  # fmt: skip
    events = [entry["event"] for entry in log.read(both.together / "bard") if "event" in entry]
    assert events == ["start", "stop"]


def test_two_processes_make_the_mels_that_one_makes(both: Trained) -> None:
    made = {path.relative_to(both.prepared): path for path in both.prepared.glob("cache/mel-*/*")}
    assert {path.relative_to(both.theirs) for path in both.theirs.glob("cache/mel-*/*")} == set(made)
    for name, path in made.items():
        np.testing.assert_allclose(np.load(both.theirs / name), np.load(path), rtol=1e-3, atol=1e-3)


def test_what_fails_in_one_process_is_one_sentence_in_both(both: Trained) -> None:
    first, second = both.ranks
    assert first["nan"] == second["nan"]
    assert "the loss became nan at step 7" in first["nan"]
    assert first["claimed"] == second["claimed"]
    assert "another process is training" in first["claimed"]
    assert "a batch of 5 can't be shared evenly by 2 processes" in first["uneven"]
    assert not (both.together / "uneven").exists()


def test_no_thread_of_the_group_outlives_it(both: Trained) -> None:
    """One that wants the interpreter after its end aborts the process."""
    assert [name for rank in both.ranks for name in rank["threads"] if "gloo" in name] == []


@pytest.mark.slow
def test_a_signal_ends_all_at_one_step_and_saves(both: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [*CHILD, "train", str(both.prepared), "--preset", "small-bard", "--run", str(folder)]
    child = subprocess.Popen(
        [*command, "--steps", "100000"], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "80"}
    )
    try:
        deadline = time.monotonic() + 90
        while not any(entry.get("step", 0) >= 3 for entry in log.read(folder)):
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        said = child.communicate(timeout=25)[1]  # torchrun kills after 30 s
    finally:
        child.kill()
    assert child.returncode != 0
    assert said.count("bardcast-train: interrupted; run the same command again") == 1
    found = load_state(folder)
    assert found is not None
    steps = [entry["step"] for entry in log.read(folder) if "loss" in entry]
    assert steps == list(range(1, found[0].step + 1))
    assert found[0].samples == 4 * found[0].step
    assert load_checkpoint(folder / "model.safetensors").config.notes["steps"] == str(found[0].step)


@given(st.integers(1, 9), st.integers(0, 40))
def test_shares_are_a_partition(size: int, count: int) -> None:
    worlds = [World(rank, size) for rank in range(size)]
    shares = [item for world in worlds for item in world.share(range(count))]
    assert sorted(shares) == list(range(count))
    rows = [item for world in worlds for item in range(size * count)[world.rows(size * count)]]
    assert rows == list(range(size * count))


def test_a_batch_that_can_not_be_shared_evenly_is_refused() -> None:
    World(size=4).demand_even(32)
    with pytest.raises(PresetError, match="divides by 5"):
        World(size=5).demand_even(32)
