import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from generator.amplitude import AmplitudeConfig, load_network
from generator.mel import FLOOR
from tests.training.small_run import MEL, prepare_small
from training import log, vocoder
from training.__main__ import main
from training.errors import Interrupted, ManifestError, RunError
from training.manifest import Manifest, load_manifest
from training.state import Progress

SMALL = AmplitudeConfig(MEL, width=16, blocks=1, expansion=2, notes={})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_small(tmp_path_factory.mktemp("vocoder") / "prepared")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"CONFIG": SMALL, "BATCH": 2, "FRAMES": 16, "WARM_UP": 5}.items():
        monkeypatch.setattr(vocoder, name, value)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def train(prepared: Path, folder: Path, seconds: float) -> Progress:
    return vocoder.train_vocoder(prepared, folder, seconds, lambda _line: None, progress_bar=False)


def test_training_helps_and_goes_on_where_it_was(prepared: Path, tmp_path: Path) -> None:
    first = train(prepared, tmp_path / "run", 2)
    assert first.step > 5
    assert first.validation is not None
    second = train(prepared, tmp_path / "run", 4)
    assert second.step > first.step
    assert second.seconds >= 4
    entries = [entry for entry in log.read(tmp_path / "run") if "loss" in entry]
    assert [entry["step"] for entry in entries] == list(range(1, second.step + 1))
    losses = [entry["loss"] for entry in entries]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    made = load_network(tmp_path / "run" / vocoder.FILE_NAME)
    assert made.config.mel == MEL
    assert made.config.notes["steps"] == str(second.step)
    assert made.config.notes["clips"] == "15 clips of 5 recordings"


def test_the_command_leaves_a_file_that_plays(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vocoder.train_vocoder
    monkeypatch.setattr(
        vocoder, "train_vocoder", lambda where, folder, seconds, say: whole(where, folder, seconds / 60, say)
    )
    folder = tmp_path / "run"
    assert main(["vocoder", str(prepared), "--run", str(folder), "--minutes", "1"]) == 0
    assert "loss on held-out recordings" in capsys.readouterr().err
    assert load_network(folder / "vocoder.safetensors").config.mel == MEL


@pytest.fixture
def run(prepared: Path, tmp_path: Path) -> vocoder.VocoderRun:
    return vocoder.VocoderRun(load_manifest(prepared), tmp_path / "run")


def test_inputs_are_standardised_by_what_is_trained_on(run: vocoder.VocoderRun) -> None:
    level = run.spectra(run.train.spread(vocoder.FIT_PIECES))[1].flatten(0, 1)
    assert torch.allclose(run.network.mean, level.mean(0))
    assert torch.allclose(run.network.deviation, level.std(0).clamp(min=0.5))


def test_the_rate_rises_at_first_and_falls_to_nothing(run: vocoder.VocoderRun) -> None:
    rates = []
    for share in (0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0):
        run.step(np.random.default_rng(0), share)
        rates.append(run.optimiser.param_groups[0]["lr"] / vocoder.RATE)
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 0.5, 0])


def test_the_optimiser_goes_on_as_it_was(run: vocoder.VocoderRun, prepared: Path) -> None:
    run.step(np.random.default_rng(0), 0)
    run.folder.mkdir()
    run.save()
    again = vocoder.VocoderRun(load_manifest(prepared), run.folder)
    before, after = (each.optimiser.state_dict()["state"] for each in (run, again))
    assert before.keys() == after.keys() != set()
    for key, state in before.items():
        assert torch.equal(state["exp_avg"], after[key]["exp_avg"])
        assert torch.equal(state["exp_avg_sq"], after[key]["exp_avg_sq"])


def test_only_held_out_recordings_validate(run: vocoder.VocoderRun) -> None:
    assert {track.split for track, _ in run.train.where} == {"train"}
    assert run.held_out is not None
    assert {track.split for track, _ in run.held_out.where} == {"validation"}
    run.train.where.clear()  # nothing can be drawn from it any more
    run.validate()
    assert run.progress.validation is not None


def test_some_mels_are_roughened_and_what_is_asked_for_never_is(
    run: vocoder.VocoderRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, wanted, true_error = list[torch.Tensor](), list[torch.Tensor](), vocoder.error
    run.network.register_forward_pre_hook(lambda _network, arguments: given.append(arguments[0]))

    def spied(made: torch.Tensor, amplitude: torch.Tensor) -> torch.Tensor:
        wanted.extend((amplitude @ run.network.filters).clamp(min=FLOOR).log())
        return true_error(made, amplitude)

    monkeypatch.setattr(vocoder, "error", spied)
    random = np.random.default_rng(0)
    for _ in range(16):
        run.step(random, 0)
    same = [torch.allclose(mel, true) for mel, true in zip(torch.cat(given), wanted, strict=True)]
    assert any(same)
    assert not all(same)


def test_a_spread_reaches_from_the_first_clip_to_the_last(
    run: vocoder.VocoderRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.train.where = 95 * run.train.where[:1]
    monkeypatch.setattr(run.train, "draw", lambda indices, _random: torch.from_numpy(indices))
    clips = run.train.spread(48)
    assert clips.tolist() == list(range(0, 95, 2))
    assert run.train.spread(200).tolist() == list(range(95))


def test_a_resumed_run_draws_other_noise(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, states = vocoder.VocoderRun.step, list[torch.Tensor]()

    def spied(run: vocoder.VocoderRun, random: np.random.Generator, share: float) -> tuple[float, float]:
        states.append(torch.get_rng_state())
        return step(run, random, share)

    monkeypatch.setattr(vocoder.VocoderRun, "step", spied)
    first = train(prepared, tmp_path / "run", 0.1)
    train(prepared, tmp_path / "run", first.seconds + 0.1)
    assert not torch.equal(states[0], states[first.step])


def test_another_runs_folder_is_left_alone(prepared: Path, tmp_path: Path) -> None:
    train(prepared, tmp_path / "run", 0.1)
    other = prepare_small(tmp_path / "other", moods=("fight",))
    with pytest.raises(RunError, match="other clips"):
        train(other, tmp_path / "run", 0.2)


def test_an_interrupted_run_is_saved(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = vocoder.VocoderRun.step

    def stopped_at_three(run: vocoder.VocoderRun, random: np.random.Generator, share: float) -> tuple[float, float]:
        if run.progress.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return step(run, random, share)

    with monkeypatch.context() as patch:
        patch.setattr(vocoder.VocoderRun, "step", stopped_at_three)
        with pytest.raises(Interrupted):
            train(prepared, tmp_path / "run", 60)
    assert vocoder.VocoderRun(load_manifest(prepared), tmp_path / "run").progress.step == 3


def test_nothing_to_train_on_is_said(tmp_path: Path) -> None:
    empty = prepare_small(tmp_path / "prepared", sides=("validation",))
    manifest = load_manifest(empty)
    Manifest(empty, tuple(track for track in manifest.tracks if track.split == "validation")).save()
    with pytest.raises(ManifestError, match="no clip to train on"):
        train(empty, tmp_path / "run", 1)


def test_an_error_is_none_for_the_truth_and_the_same_at_any_loudness() -> None:
    true = torch.rand(2, 8, 100, generator=torch.Generator().manual_seed(0)) + 0.1
    made = 1.2 * true
    assert vocoder.error(true, true) < 1e-3
    assert vocoder.error(10 * made, 10 * true).item() == pytest.approx(vocoder.error(made, true).item(), rel=0.05)
