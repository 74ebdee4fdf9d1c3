import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generator.checkpoint import Checkpoint, load_checkpoint
from generator.mel import Mel
from tests.generator.tiny import tiny_checkpoint
from tests.training.small_run import BARD_RUN, PAPER_RUN, SMALL_BARD, SMALL_DENOISE, prepare_small
from training import log, loop, run
from training.data import load_dataset
from training.errors import RunError
from training.loop import Bounds, train
from training.loss import loss_of
from training.manifest import load_manifest
from training.presets import TrainConfig, distilling, with_crop
from training.run import Run
from training.state import Progress, load_state


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_small(tmp_path_factory.mktemp("loop") / "prepared")


def make_run(prepared: Path, folder: Path, config: TrainConfig = BARD_RUN, start: Checkpoint | None = None) -> Run:
    folder.mkdir(exist_ok=True)
    mel = Mel(config.model.mel)
    return Run(config, load_dataset(load_manifest(prepared), config.model, mel), mel, folder, start)


def steps(made: Run, count: int, seed: int = 0) -> list[float | None]:
    batches = made.dataset.train.batches(made.config.batch, np.random.default_rng(seed))
    noise = torch.Generator().manual_seed(seed)
    return [made.step(next(batches), noise) for _ in range(count)]


def all_tensors(made: Run) -> list[Tensor]:
    moments = [value for state in made.optimiser.state.values() for value in state.values()]
    return [*made.network.state_dict().values(), *made.ema.weights.values(), *moments]


@pytest.mark.parametrize("config", [BARD_RUN, PAPER_RUN, replace(PAPER_RUN, model=SMALL_DENOISE)])
def test_the_loss_falls(prepared: Path, tmp_path: Path, config: TrainConfig) -> None:
    made = make_run(prepared, tmp_path, replace(config, learning_rate=5e-3, decay="constant"))
    losses = [loss for _ in range(30) for loss in steps(made, 1) if loss is not None]  # one batch, one noise
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("guided", [0.75, 0.0])
def test_a_distilled_network_learns_from_its_teacher_which_stays_as_it_is(
    prepared: Path, tmp_path: Path, guided: float
) -> None:
    start = tiny_checkpoint(SMALL_BARD)
    made = make_run(prepared, tmp_path, replace(distilling(SMALL_BARD), batch=4, guided=guided), start)
    assert made.teacher is not None
    steps(made, 3)
    for key, value in made.teacher.state_dict().items():
        assert torch.equal(value, start.part("network")[key])
    for parameter in made.teacher.parameters():
        parameter.fill_(torch.nan)
    if guided:
        with pytest.raises(RunError, match="the loss became nan"):
            steps(made, 3)
    else:
        assert None not in steps(made, 3)  # nobody asks it


def test_a_resumed_run_goes_on_where_it_was(prepared: Path, tmp_path: Path) -> None:
    """Restored to the bit, so the next step with the same batch is the same step."""
    first = make_run(prepared, tmp_path)
    steps(first, 5)
    first.save()
    second = make_run(prepared, tmp_path)
    assert second.progress == first.progress == Progress(5, 20)
    assert all(torch.equal(a, b) for a, b in zip(all_tensors(first), all_tensors(second), strict=True))
    assert steps(first, 3, seed=1) == steps(second, 3, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(all_tensors(first), all_tensors(second), strict=True))


def test_steps_seconds_and_log_count_over_all_calls(prepared: Path, tmp_path: Path) -> None:
    said: list[str] = []
    one = train(BARD_RUN, prepared, tmp_path, Bounds(steps=3))
    two = train(BARD_RUN, prepared, tmp_path, Bounds(steps=5), say=said.append)
    assert (one.step, two.step, two.samples) == (3, 5, 20)
    assert two.seconds > one.seconds > 0
    assert [entry["step"] for entry in log.read(tmp_path) if "loss" in entry] == [1, 2, 3, 4, 5]
    assert said == [f"going on with {tmp_path} after 3 steps"]


def test_lines_of_the_log_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    lines = ['{"loss": 1}', "[]", '{"step"', '{"step": 1, "loss": 2.0}', '{"event": "start", "step": 1}']
    (tmp_path / log.LOG_NAME).write_text("\n".join(lines))
    assert log.read(tmp_path) == [{"step": 1, "loss": 2.0}, {"event": "start", "step": 1}]


def test_a_resumed_run_sees_other_clips_than_at_its_start(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    own = Run.step

    def note(self: Run, batch: Any, *rest: Any) -> float | None:
        seen.append(batch.mel)
        return own(self, batch, *rest)

    monkeypatch.setattr(Run, "step", note)
    train(BARD_RUN, prepared, tmp_path, Bounds(steps=1))
    train(BARD_RUN, prepared, tmp_path, Bounds(steps=2))
    assert not torch.equal(*seen)


def test_without_a_bound_it_ends_after_the_presets_epochs(prepared: Path, tmp_path: Path) -> None:
    assert train(BARD_RUN, prepared, tmp_path, Bounds()).step == 2 * (15 // 4)


def test_a_bound_in_time_counts_the_time_of_earlier_calls(prepared: Path, tmp_path: Path) -> None:
    first = train(BARD_RUN, prepared, tmp_path, Bounds(seconds=0.2))
    assert 0.2 <= first.seconds < 10
    assert train(BARD_RUN, prepared, tmp_path, Bounds(seconds=0.2)).step == first.step


def test_the_model_says_what_it_cost(prepared: Path, tmp_path: Path) -> None:
    train(BARD_RUN, prepared, tmp_path, Bounds(steps=2))
    made = load_checkpoint(tmp_path / "model.safetensors")
    notes = made.config.notes
    assert made.config == SMALL_BARD
    assert (notes["steps"], notes["samples"], notes["clips"]) == ("2", "8", "15 clips of 5 recordings")
    assert "CPU" in notes["device"] or torch.cuda.is_available()
    assert float(notes["validation loss"]) > 0
    assert float(notes["hours"]) >= 0


def test_validation_is_of_the_average_and_always_the_same(prepared: Path, tmp_path: Path) -> None:
    made = make_run(prepared, tmp_path)
    steps(made, 2)
    made.validate()
    first = made.progress.validation
    with torch.no_grad():
        next(made.network.parameters()).add_(100)  # not the averaged weights
    made.validate()
    assert first == made.progress.validation
    assert first is not None
    next(iter(made.ema.weights.values())).add_(1)
    made.validate()
    assert first != made.progress.validation


def test_with_nothing_held_out_it_trains_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    prepared = prepare_small(tmp_path / "prepared", sides=("train",))
    progress = train(BARD_RUN, prepared, tmp_path / "run", Bounds(steps=1), say=said.append)
    assert progress.validation is None
    assert "no recording is held out" in said[0]


def test_a_nan_loss_stops_with_a_sentence_and_changes_nothing(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(BARD_RUN, prepared, tmp_path, Bounds(steps=2))
    state, model = (tmp_path / "state.pt").read_bytes(), (tmp_path / "model.safetensors").read_bytes()
    own, calls = loss_of, []

    def sometimes_nan(*args: Any) -> Tensor:
        calls.append(0)
        return own(*args) * (torch.nan if len(calls) > 8 else 1)

    monkeypatch.setattr(run, "loss_of", sometimes_nan)
    with pytest.raises(RunError, match=r"the loss became nan at step \d.*kept in") as caught:
        train(BARD_RUN, prepared, tmp_path, Bounds(steps=50))
    assert caught.value.exit_status == 1
    assert (tmp_path / "state.pt").read_bytes() == state
    assert (tmp_path / "model.safetensors").read_bytes() == model


def test_an_infinite_gradient_of_a_finite_loss_stops_too(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_run(prepared, tmp_path)
    steps(made, 1)
    before = [tensor.clone() for tensor in all_tensors(made)]
    own = loss_of

    def steep(*args: Any) -> Tensor:
        loss = own(*args)
        return loss + (loss - loss.detach()).abs().sqrt()  # finite, with the slope of a root at 0

    monkeypatch.setattr(run, "loss_of", steep)
    with pytest.raises(RunError, match="the gradient became"):
        steps(made, 1)
    assert made.progress.step == 1
    assert all(torch.equal(a, b) for a, b in zip(before, all_tensors(made), strict=True))


def test_weights_that_are_not_finite_are_never_saved(prepared: Path, tmp_path: Path) -> None:
    made = make_run(prepared, tmp_path)
    steps(made, 1)
    made.save()
    whole = (tmp_path / "state.pt").read_bytes()
    with torch.no_grad():
        next(made.network.parameters()).flatten()[0] = torch.inf
    with pytest.raises(RunError, match=r"the weights of .* became infinite"):
        made.save()
    assert (tmp_path / "state.pt").read_bytes() == whole


def test_another_models_state_is_refused(prepared: Path, tmp_path: Path) -> None:
    made = make_run(prepared, tmp_path)
    made.save()
    with pytest.raises(RunError, match="another model"):
        make_run(prepared, tmp_path, PAPER_RUN)


def test_a_rerun_with_another_preset_is_refused_before_any_work(prepared: Path, tmp_path: Path) -> None:
    train(BARD_RUN, prepared, tmp_path / "run", Bounds(steps=1))
    before = sorted(prepared.iterdir())
    with pytest.raises(RunError, match="holds a run of 'small-bard'"):
        train(PAPER_RUN, prepared, tmp_path / "run", Bounds(steps=1))
    assert sorted(prepared.iterdir()) == before


def test_a_run_without_its_record_is_taken_on(prepared: Path, tmp_path: Path) -> None:
    """As an earlier version left it, or as a state that was copied alone."""
    train(BARD_RUN, prepared, tmp_path, Bounds(steps=1))
    (tmp_path / "run.json").unlink()
    assert train(BARD_RUN, prepared, tmp_path, Bounds(steps=2)).step == 2
    assert json.loads((tmp_path / "run.json").read_text())["config"]["model"]["name"] == "small-bard"


def test_a_run_begun_before_a_setting_existed_goes_on(prepared: Path, tmp_path: Path) -> None:
    train(BARD_RUN, prepared, tmp_path, Bounds(steps=1))
    record = json.loads((tmp_path / "run.json").read_text())
    for name in ("ema", "crop"):
        del record["config"][name]
    for name in ("reading", "power", "zero_terminal"):
        del record["config"]["model"]["diffusion"][name]
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert train(BARD_RUN, prepared, tmp_path, Bounds(steps=2)).step == 2
    with pytest.raises(RunError, match=r"other settings \(ema: True there, False here\)"):
        train(replace(BARD_RUN, ema=False), prepared, tmp_path, Bounds(steps=3))


@pytest.mark.parametrize("ema", [True, False])
def test_the_weights_that_play_are_averaged_or_the_last(prepared: Path, tmp_path: Path, ema: bool) -> None:
    made = make_run(prepared, tmp_path, replace(PAPER_RUN, ema=ema))
    steps(made, 3)
    made.save()
    made.validate()
    playing = load_checkpoint(tmp_path / "model.safetensors").part("network")
    last, averaged = made.network.state_dict(), made.ema.weights
    assert all(torch.equal(playing[key], (averaged if ema else last)[key]) for key in playing)
    assert not all(torch.equal(last[key], averaged[key]) for key in playing)
    before = made.progress.validation
    with torch.no_grad():
        next(made.network.parameters()).add_(1)
    made.validate()
    assert (made.progress.validation == before) is ema


def test_a_crop_shortens_the_sample_and_not_what_the_model_makes(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = set()
    own = Run.step

    def note(self: Run, batch: Any, *rest: Any) -> float | None:
        shapes.add(batch.mel.shape)
        return own(self, batch, *rest)

    monkeypatch.setattr(Run, "step", note)
    train(with_crop(PAPER_RUN, 24), prepared, tmp_path, Bounds(steps=2))
    assert shapes == {(4, 16, 24)}
    made = load_checkpoint(tmp_path / "model.safetensors").config
    assert made.unet.frames == 112
    assert made.notes["crop"] == "trained on 24 frames in place of 112"


def test_a_stop_half_way_through_a_step_drops_that_step(prepared: Path, tmp_path: Path) -> None:
    made = make_run(prepared, tmp_path)
    steps(made, 1)
    before = [tensor.clone() for tensor in all_tensors(made)]
    batch = next(made.dataset.train.batches(4, np.random.default_rng(0)))
    assert made.step(batch, torch.Generator(), stopped=lambda: True) is None
    assert made.progress.step == 1
    assert all(torch.equal(a, b) for a, b in zip(before, all_tensors(made), strict=True))


@pytest.mark.parametrize("pays", [True, False])
def test_bf16_is_used_where_the_stop_watch_says_that_it_pays(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pays: bool
) -> None:
    monkeypatch.setattr(run, "bf16_pays", lambda work, device: work() is None and pays)
    dtypes = set()
    own = loss_of

    def watch(network: torch.nn.Module, *rest: Any) -> Tensor:
        handle = network.get_submodule("enter").register_forward_hook(lambda _m, _i, out: dtypes.add(out.dtype))
        loss = own(network, *rest)
        handle.remove()
        return loss

    made = make_run(prepared, tmp_path)
    batch = next(made.dataset.train.batches(4, np.random.default_rng(0)))
    made.probe(batch, torch.Generator().manual_seed(0))
    assert made.bf16 is pays
    assert all(parameter.grad is None for parameter in made.network.parameters())
    monkeypatch.setattr(run, "loss_of", watch)
    steps(made, 1)
    made.validate()
    assert dtypes == {torch.bfloat16 if pays else torch.float32}
    assert {parameter.dtype for parameter in made.network.parameters()} == {torch.float32}


def test_the_papers_decay_is_in_the_gradient_and_the_bards_is_not(prepared: Path, tmp_path: Path) -> None:
    for name, config, kind in (("b", BARD_RUN, torch.optim.AdamW), ("p", PAPER_RUN, torch.optim.Adam)):
        made = make_run(prepared, tmp_path / name, config)
        assert type(made.optimiser) is kind
        assert made.optimiser.param_groups[0]["weight_decay"] == config.weight_decay


def test_a_state_is_saved_on_the_way(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    copies = tmp_path / "copies"
    copies.mkdir()
    own = Run.save

    def keep(self: Run) -> None:
        own(self)
        shutil.copy(self.folder / "state.pt", copies / f"{self.progress.step}.pt")

    monkeypatch.setattr(Run, "save", keep)
    train(BARD_RUN, prepared, tmp_path / "run", Bounds(steps=3), validate_seconds=0.0)
    assert sorted(path.stem for path in copies.iterdir()) == ["1", "2", "3"]
    assert all("validation" in entry for entry in log.read(tmp_path / "run") if "loss" in entry)
    found = load_state(tmp_path / "run")
    assert found is not None
    assert found[0].step == 3
