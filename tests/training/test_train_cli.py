import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from generator.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from generator.config import BARD, LONGEST_NAME
from generator.engine import Engine
from generator.moods import MOODS
from generator.protocol import Controls
from generator.stream import Stream
from tests.generator.tiny import tiny_checkpoint
from tests.training.small_run import BARD_RUN, MEL, PAPER_RUN, SMALL_BARD, prepare_small
from training import log
from training.__main__ import main
from training.presets import PRESETS, TUNING, WARM_UP, tuning
from training.state import load_state

ROOT = Path(__file__).parents[2]
CHILD = """
import sys, torch
from tests.training.small_run import BARD_RUN
from training.__main__ import main
from training.presets import PRESETS
torch.set_num_threads(1)
PRESETS["small-bard"] = BARD_RUN
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_small(tmp_path_factory.mktemp("cli") / "prepared")


@pytest.fixture(autouse=True)
def small_presets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setitem(PRESETS, "small-bard", BARD_RUN)
    monkeypatch.setitem(PRESETS, "small-noise", PAPER_RUN)
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_train_plot_and_export_leave_a_model_that_plays(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(prepared), "--preset", "small-bard", "--steps", "3"]) == 0
    folder = tmp_path / "runs" / "small-bard"
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "run.json", "state.pt", "model.safetensors", "log.jsonl", "loss.png", "samples.png"
    }  # fmt: skip
    assert "3 steps, 12 samples" in capsys.readouterr().err

    (folder / "loss.png").unlink()
    assert main(["plot", str(folder), str(prepared)]) == 0
    assert (folder / "loss.png").exists()

    out = tmp_path / "deep" / "small.safetensors"
    assert main(["export", str(folder), "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "samples: 12" in said
    assert f"{out.stat().st_size / 1e6:.1f} MB" in said
    assert list(out.parent.iterdir()) == [out]

    assert main(["export", str(folder)]) == 0  # without a place named, beside the run, never over what ships
    full, small = load_checkpoint(folder / "model.safetensors"), load_checkpoint(out)
    beside = load_checkpoint(folder / "export.safetensors")
    assert all(torch.equal(tensor, small.tensors[key]) for key, tensor in beside.tensors.items())
    assert (full.config.name, beside.config.name, small.config.name) == ("small-bard", "small-bard", "small")
    assert small.config.notes == full.config.notes
    for key, tensor in small.tensors.items():
        exact = key.startswith(("mel.", "plan."))
        assert tensor.dtype == (torch.float32 if exact else torch.bfloat16), key
        torch.testing.assert_close(tensor.float(), full.tensors[key], rtol=0 if exact else 2**-8, atol=0)

    stream = Stream(Engine(small), 1, Controls(MOODS[2]))
    frames = [frame for _ in range(3) for frame in stream.advance().frames]
    sound = np.frombuffer(b"".join(frames), "<i2")
    assert len(frames) > 30
    assert sound.std() > 1


def test_a_model_goes_on_learning_from_another_folder(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The admin's own music, of one mood: the rest of the model stays what it was."""
    assert main(["train", str(prepared), "--preset", "small-bard", "--steps", "3"]) == 0
    first = tmp_path / "runs" / "small-bard" / "model.safetensors"
    trained = load_checkpoint(first)
    # Away from what a new run begins with, whose seed is always the same.
    moved = {name: tensor + 0.05 * name.startswith("network.") for name, tensor in trained.tensors.items()}
    save_checkpoint(first, Checkpoint(trained.config, moved))
    before = load_checkpoint(first)
    own = prepare_small(tmp_path / "own", moods=("festival",))
    command = ["train", str(own), "--from", str(first), "--steps"]
    assert main([*command, "1"]) == 0
    folder = tmp_path / "runs" / "small-bard-tuned"
    after = load_checkpoint(folder / "model.safetensors")
    assert after.config == replace(before.config, name="small-bard-tuned")
    assert after.config.notes["from"].startswith("small-bard, samples 12, hours 0.0")
    assert after.config.notes["samples"] == "32"
    for name in ("mel.mean", "mel.deviation"):  # weights mean nothing with other statistics
        assert torch.equal(after.tensors[name], before.tensors[name])
    statistics = [model.tensors["plan.statistics"] for model in (before, after)]
    changed = (statistics[0] != statistics[1]).flatten(1).any(1).tolist()
    assert [mood for mood, other in zip(MOODS, changed[:-1], strict=True) if other] == ["festival"]
    weights = [torch.cat([value.flatten() for value in model.part("network").values()]) for model in (before, after)]
    # Adam's first step is as long as its rate: no fresh start, and no new model's rate.
    rate = TUNING * PRESETS[BARD.name].learning_rate / WARM_UP
    assert (weights[0] - weights[1]).abs().max().item() == pytest.approx(rate, rel=0.2)

    capsys.readouterr()
    assert main([*command, "2"]) == 0
    assert "going on with" in capsys.readouterr().err
    assert load_checkpoint(folder / "model.safetensors").config.notes["steps"] == "2"


def test_guidance_is_distilled_into_one_pass(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(prepared), "--preset", "small-bard", "--steps", "3"]) == 0
    first = tmp_path / "runs" / "small-bard" / "model.safetensors"
    command = ["train", str(prepared), "--distil", str(first), "--steps"]
    assert main([*command, "1"]) == 0
    assert main([*command, "2"]) == 0
    assert "going on with" in capsys.readouterr().err
    distilled = tmp_path / "runs" / "small-bard-distilled" / "model.safetensors"
    after = load_checkpoint(distilled)
    assert after.config == replace(SMALL_BARD, unet=replace(SMALL_BARD.unet, guided=True))
    assert after.config.notes["from"].startswith("small-bard, samples 12")
    assert after.config.notes["samples"] == "32"
    assert after.tensors["network.guidance.weight"].abs().max() > 0
    # Near where its teacher was, and no fresh start.
    before = load_checkpoint(first).part("network")
    assert all((after.part("network")[name] - value).abs().max() < 1e-3 for name, value in before.items())

    out = first.with_name("told.safetensors")
    assert main(["export", str(distilled.parent), "--base", str(first), "--out", str(out)]) == 0
    told = load_checkpoint(out)
    assert told.config == replace(after.config, name="told")
    for name, value in after.tensors.items():
        torch.testing.assert_close(told.tensors[name].to(value.dtype), value, rtol=0.01, atol=1e-4)

    capsys.readouterr()
    assert main(["export", str(distilled.parent), "--base", str(first)]) == 2
    assert (
        f"--base: a difference is written beside its base; give an --out in {first.parent}" in capsys.readouterr().err
    )
    whole = first.read_bytes()
    assert main(["export", str(distilled.parent), "--base", str(first), "--out", str(first)]) == 2
    assert "a difference can't take its base's place" in capsys.readouterr().err
    assert first.read_bytes() == whole
    assert main(["train", str(prepared), "--distil", str(distilled), "--steps", "3"]) == 2
    assert "--distil takes a model of bard's kind that takes two passes" in capsys.readouterr().err


def without_statistics(model: Checkpoint) -> Checkpoint:
    return replace(model, tensors={key: value for key, value in model.tensors.items() if key != "plan.statistics"})


def with_tensor(name: str, value: torch.Tensor) -> Callable[[Checkpoint], Checkpoint]:
    return lambda model: replace(model, tensors={**model.tensors, name: value})


@pytest.mark.parametrize(
    ("spoil", "options", "sentence"),
    [
        (lambda model: model, ["--widths", "8,16,24"], "--widths is for a new model"),
        (without_statistics, [], "lacks the plan's statistics"),
        (with_tensor("plan.statistics", torch.zeros(3, 2, 30)), [], "lacks the plan's statistics"),
        (with_tensor("mel.mean", torch.zeros(3)), [], "the Mel in this checkpoint does not fit"),
        (with_tensor("mel.deviation", torch.zeros(MEL.bands)), [], "a band that never moves"),
    ],
    ids=["widths", "no statistics", "other statistics", "other Mel", "flat Mel"],
)
def test_what_can_not_go_on_learning_is_one_sentence_and_claims_no_folder(
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Checkpoint], Checkpoint],
    options: list[str],
    sentence: str,
) -> None:
    save_checkpoint(tmp_path / "spoilt.safetensors", spoil(tiny_checkpoint(SMALL_BARD)))
    assert main(["train", str(prepared), "--from", "spoilt.safetensors", "--steps", "1", *options]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_models_own_name_leads_nowhere_else(prepared: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "theirs.safetensors", tiny_checkpoint(replace(SMALL_BARD, name="../../elsewhere")))
    assert main(["train", str(prepared), "--from", "theirs.safetensors", "--steps", "1"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["elsewhere-tuned"]


def test_a_tuned_model_has_one_name_of_its_own(prepared: Path, tmp_path: Path) -> None:
    """Of a length that a file can have, however often it is tuned."""
    save_checkpoint(tmp_path / "theirs.safetensors", tiny_checkpoint(replace(SMALL_BARD, name=LONGEST_NAME * "x")))
    command = ["train", str(prepared), "--steps", "1"]
    assert main([*command, "--from", "theirs.safetensors"]) == 0
    assert main([*command, "--from", f"runs/{94 * 'x'}-tuned", "--run", "runs/again"]) == 0
    assert load_checkpoint(tmp_path / "runs" / "again").config.name == 94 * "x" + "-tuned"
    assert tuning(replace(SMALL_BARD, name="mine-tuned")).model.name == "mine-tuned"
    long = tmp_path / f"{(LONGEST_NAME + 1) * 'x'}.safetensors"
    assert main(["export", "runs/again", "--out", str(long)]) == 2
    assert not long.exists()


def test_a_paper_model_plays_too(prepared: Path, tmp_path: Path) -> None:
    assert main(["train", str(prepared), "--preset", "small-noise", "--steps", "1", "--batch", "2"]) == 0
    model = tmp_path / "runs" / "small-noise" / "model.safetensors"
    assert load_checkpoint(model).config.notes["samples"] == "2"


def test_epochs_and_minutes_bound_a_run(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    main(["train", str(prepared), "--preset", "small-bard", "--run", str(folder), "--epochs", "1"])
    assert load_checkpoint(folder / "model.safetensors").config.notes["steps"] == "3"  # 15 clips, 4 a step
    main(["train", str(prepared), "--preset", "small-bard", "--run", str(folder), "--minutes", "0.00001"])
    assert load_checkpoint(folder / "model.safetensors").config.notes["steps"] == "3"


def test_another_scale_has_a_folder_and_a_name_of_its_own(prepared: Path, tmp_path: Path) -> None:
    command = ["train", str(prepared), "--preset", "small-bard", "--steps", "1", "--widths", "8,8,8"]
    assert main(command) == 0
    config = load_checkpoint(tmp_path / "runs" / "small-bard-8-8-8" / "model.safetensors").config
    assert (config.name, config.unet.widths) == ("small-bard-8-8-8", (8, 8, 8))
    assert config.notes["scale"] == "widths 8,8,8 in place of 8,16,16"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["train", "PREPARED", "--preset", "bart"], 2, "there is no preset 'bart'; choose one of: bard, paper-noise"),
        (["train", "PREPARED", "--preset", "small-bard", "--widths", "8,9,10"], 2, "3 multiples of 8"),
        (["train", "nowhere", "--preset", "small-bard"], 1, "bardcast-train prepare"),
        (["train", "PREPARED", "--from", "nowhere.safetensors"], 2, "--from: nowhere.safetensors: no such model"),
        (["plot", "nowhere"], 1, "nowhere holds no step of training"),
        (["export", "nowhere"], 1, "nowhere holds no model to export"),
    ],
)
def test_what_can_not_be_is_one_sentence(
    prepared: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, sentence: str
) -> None:
    assert main([str(prepared) if word == "PREPARED" else word for word in arguments]) == status
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["--steps", "0"], ["--minutes", "nan"], ["--widths", "8,x"], ["--batch", "-1"], ["--minutes", "ten"]]
)
def test_nonsense_is_refused_at_the_door(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", *arguments])
    assert caught.value.code == 2
    assert repr(arguments[1]) in capsys.readouterr().err


def test_a_library_that_is_missing_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.prepare.prepare", Mock(side_effect=ModuleNotFoundError(name="tqdm")))
    assert main(["prepare", "music"]) == 1
    assert capsys.readouterr().err == "bardcast-train: tqdm is not installed: pip install 'bardcast[training]'\n"


def test_another_preset_in_the_same_folder_is_refused(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    assert main(["train", str(prepared), "--preset", "small-bard", "--run", folder, "--steps", "1"]) == 0
    capsys.readouterr()
    assert main(["train", str(prepared), "--preset", "small-noise", "--run", folder, "--steps", "2"]) == 1
    assert "holds a run of 'small-bard' with other settings" in capsys.readouterr().err


def test_a_nan_ends_with_status_1_and_keeps_the_model(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(prepared), "--preset", "small-bard", "--run", str(tmp_path / "run"), "--steps"]
    assert main([*command, "1"]) == 0
    kept = (tmp_path / "run" / "model.safetensors").read_bytes()
    monkeypatch.setattr("training.run.loss_of", lambda network, *_: next(network.parameters()).sum() * torch.nan)
    capsys.readouterr()
    assert main([*command, "5"]) == 1
    assert "the loss became nan at step 2" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == kept


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_every_finished_step(prepared: Path, tmp_path: Path, number: int, status: int) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", CHILD, "train", str(prepared), "--preset", "small-bard", "--run", str(folder)]
    child = subprocess.Popen(
        [*command, "--steps", "100000"], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "80"}
    )
    try:
        deadline = time.monotonic() + 90
        while not any(entry.get("step", 0) >= 3 for entry in log.read(folder)):
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(number)
        asked = time.monotonic()
        said = child.communicate(timeout=30)[1]
    finally:
        child.kill()
    assert time.monotonic() - asked < 10
    assert child.returncode == status
    assert said.strip().splitlines()[-1] == (
        "bardcast-train: interrupted; run the same command again, which goes on from what is finished"
    )
    assert "Traceback" not in said
    found = load_state(folder)
    assert found is not None
    steps = [entry["step"] for entry in log.read(folder) if "loss" in entry]
    assert steps == list(range(1, found[0].step + 1))
    assert load_checkpoint(folder / "model.safetensors").config.notes["steps"] == str(found[0].step)


def test_the_same_command_goes_on_after_a_kill(prepared: Path, tmp_path: Path) -> None:
    """A kill between two states: the log is ahead of the state, and counts each step once afterwards."""
    command = ["train", str(prepared), "--preset", "small-bard", "--run", str(tmp_path), "--steps"]
    assert main([*command, "2"]) == 0
    for step in (3, 4, 5):
        log.append(tmp_path, {"step": step, "samples": 4 * step, "loss": 9.0, "seconds": 9.0})
    assert main([*command, "4"]) == 0
    entries = [entry for entry in log.read(tmp_path) if "loss" in entry]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    assert all(entry["loss"] != 9.0 for entry in entries)
