"""The paper's rows: each differs in what it says, and the diagnosis finds faults that are planted."""

import json
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.paper import play
from benchmarks.paper.__main__ import main
from benchmarks.paper.figures import best_and_worst
from benchmarks.paper.play import departure, model_of
from benchmarks.paper.rows import BASE, ROWS, Row, Scale
from benchmarks.paper.verdict import Recorded, judge
from benchmarks.paper.watch import LARGEST, Spread, Watched
from generator.checkpoint import load_checkpoint
from generator.config import ModelConfig
from generator.sampling import ancestral, solve, uniform_times
from generator.vocoder import GriffinLim
from tests.training.small_run import PAPER_MEL, PAPER_NET, SMALL_DENOISE, SMALL_NOISE, prepare_small
from training.errors import RunError
from training.state import load_state


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for key, item in value.items():
        parts |= flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return parts


def changed(row: Row) -> set[str]:
    """What a row has other than the experiment that the repairs are tried on."""
    base = flat(asdict(BASE))
    return {key for key, value in flat(asdict(row.config)).items() if value != base[key]} - {"model.name"}


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("noise-steps", set()),
        ("noise-steps-plain", {"model.unet.he_initialisation"}),
        ("bounds", {"model.diffusion.bound"}),
        ("late", set()),
        ("ema", {"ema"}),
        ("standard", {"model.mel.scaling"}),
        ("cosine", {"model.diffusion.schedule"}),
        ("zero", {"model.diffusion.zero_terminal"}),
        ("cumulative", {"model.diffusion.reading"}),
        ("cumulative-zero", {"model.diffusion.reading", "model.diffusion.zero_terminal"}),
        ("kernel", {"model.diffusion.power"}),
        ("mended-noise", {"model.mel.scaling", "model.diffusion.schedule", "model.diffusion.bound", "ema"}),
    ],
)
def test_a_repair_alone_changes_one_thing(name: str, differs: set[str]) -> None:
    assert changed(ROWS[name]) == differs


def test_a_borrowed_run_differs_only_in_how_it_is_played() -> None:
    for row in ROWS.values():
        if row.trained != row.name:
            assert ROWS[row.trained].trained == row.trained
            assert changed(row) <= {"ema", "model.diffusion.bound", "model.diffusion.zero_terminal"}


def test_the_scale_is_in_the_models_notes_and_never_above_the_papers_epochs() -> None:
    scaled = Scale((8, 16, 32), 216, 8).of(ROWS["noise"])
    assert set(scaled.model.notes) == {"scale", "crop"}
    assert (scaled.crop, scaled.epochs, scaled.model.unet.widths) == (216, 8, (8, 16, 32))
    assert Scale(epochs=8).of(ROWS["denoise"]).epochs == 3
    full = Scale((32, 64, 128), 864, 10).of(ROWS["noise"])
    assert full == ROWS["noise"].config


class Answer(nn.Module):
    """A network that says the same of every clip, whatever it is asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, noisy: Tensor, _level: Tensor, _mood: Tensor) -> Tensor:
        return self.answer.expand_as(noisy)


REAL = torch.rand(8, 16, 32, generator=torch.Generator().manual_seed(0))


def sampled(network: nn.Module, config: ModelConfig, real: Tensor = REAL) -> tuple[Watched, Tensor]:
    random = torch.Generator().manual_seed(1)
    watched = Watched(network, config, torch.zeros(8, dtype=torch.long), real, torch.randn(real.shape))
    steps = ancestral(watched.schedule, lambda: torch.randn(real.shape, generator=random), uniform_times(50))
    return watched, solve(steps, watched)


def departs(watched: Watched) -> dict[str, float] | None:
    return departure([asdict(step) for step in watched.steps])


def test_a_network_that_knows_the_clean_mel_never_departs() -> None:
    same = REAL[:1].expand_as(REAL)
    watched, made = sampled(Answer(same[:1]), SMALL_DENOISE, same)
    assert departs(watched) is None
    assert len(watched.steps) == 50
    for step in watched.steps:
        assert step.noisy.rms == pytest.approx(step.expected, rel=0.05)
        assert (step.error, step.clean_error) == pytest.approx((0, 0), abs=1e-3)
        assert (step.outside, step.lost) == (0, 0)
        if step.t > 0.6:
            assert step.taken == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(made, same)


def test_an_epsilon_that_is_wrong_is_found_at_the_step_where_it_is_blown_up() -> None:
    """ε̂ = 0 makes x̂₀ = x_t / √ᾱ: every cell is lost at the first step, and x_t leaves its scale within a few."""
    watched, _ = sampled(Answer(torch.zeros(1)), SMALL_NOISE)
    first = watched.steps[0]
    assert first.factor > 1e8
    assert first.clean.rms == pytest.approx(first.factor * first.noisy.rms, rel=1e-3)
    assert first.clean_error == pytest.approx(first.factor * first.error, rel=1e-3)
    assert (first.outside, first.lost) == (1, 1)
    found = departs(watched)
    assert found is not None
    assert 1 <= found["step"] <= 3
    assert found["ratio"] > 2
    assert all(step.taken == 0 for step in watched.steps)


def test_a_bound_is_kept_and_what_it_cuts_is_noted() -> None:
    config = replace(SMALL_NOISE, diffusion=replace(SMALL_NOISE.diffusion, bound=5.0))
    watched, made = sampled(Answer(torch.zeros(1)), config)
    assert watched.steps[0].clean.most > 1e6
    assert made.min() >= 0
    assert made.max() <= 1


def test_a_schedule_that_ends_at_zero_leaves_no_epsilon_to_divide() -> None:
    config = replace(SMALL_NOISE, diffusion=replace(SMALL_NOISE.diffusion, zero_terminal=True))
    watched, _ = sampled(Answer(torch.zeros(1)), config)
    assert watched.steps[0].factor == LARGEST
    assert watched.steps[1].factor < 1e9


def test_a_spread_is_always_a_number() -> None:
    assert astuple(Spread.of(torch.tensor([3.0, -4.0]))) == pytest.approx((-4, 3, 12.5**0.5))
    infinite = Spread.of(torch.tensor([torch.inf, -torch.inf, 0]))
    assert (infinite.least, infinite.most) == (-LARGEST, LARGEST)
    assert LARGEST / 2 < infinite.rms <= LARGEST
    assert Spread.of(torch.tensor([torch.nan, 0])).most == LARGEST


def swells(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Bands that rise and fall slowly, the further the higher the seed, with a little roughness."""
    random = np.random.default_rng(seed)
    time = np.arange(864) / 86
    rates = random.uniform(0.2, 1, (80, 1))
    mel = 0.5 + (0.05 + 0.03 * seed) * np.sin(2 * np.pi * (rates * time + random.uniform(0, 1, (80, 1))))
    return (mel + 0.01 * random.standard_normal(mel.shape)).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (None, set()),
        ("one cell", {"infinite"}),
        ("scale", {"exploded", "noise"}),
        ("flat", {"blank"}),
        ("saturated", {"exploded", "blank"}),
        ("hiss", {"noise"}),
    ],
)
def test_the_verdict_names_what_is_planted(fault: str | None, found: set[str]) -> None:
    recorded = Recorded.of([swells(seed) for seed in range(6)], 86.1)
    hiss = np.random.default_rng(9).standard_normal((80, 864)).astype(np.float32)
    mel = swells(7)
    if fault == "one cell":
        mel[3, 400] = np.nan
    elif fault == "scale":
        mel = 1e6 * hiss
    elif fault == "flat":
        mel = np.full_like(mel, 0.4)
    elif fault == "saturated":
        mel = 100 + mel
    elif fault == "hiss":
        mel = (mel + 0.1 * hiss).clip(0, 1)
    verdict = judge(mel, recorded)
    assert {name for name in ("infinite", "exploded", "blank", "noise") if getattr(verdict, name)} == found


def test_the_best_come_first_and_the_worst_last() -> None:
    def clip(texture: float, **faults: bool) -> dict[str, Any]:
        whole = {"infinite": False, "exploded": False, "blank": False, "noise": False}
        return {**whole, **faults, "texture": texture, "movement": 1.0}

    clips = [clip(0, infinite=True), clip(2), clip(1), clip(0, blank=True), clip(9, noise=True)]
    assert best_and_worst(clips, 4) == [2, 1, 3, 0]


@pytest.fixture
def small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row with a network and a Mel of a few thousand cells, and a quick inversion."""
    for name, row in list(ROWS.items()):
        own = row.config.model
        unet = replace(PAPER_NET, he_initialisation=own.unet.he_initialisation)
        model = replace(own, mel=replace(PAPER_MEL, scaling=own.mel.scaling), unet=unet)
        monkeypatch.setitem(ROWS, name, replace(row, config=replace(row.config, model=model, batch=4)))
    monkeypatch.setattr(play, "PaperInversion", lambda mel: GriffinLim(mel, iterations=1))


@pytest.mark.usefixtures("small_rows")
def test_rows_are_trained_played_and_drawn_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared, runs, pictures = prepare_small(tmp_path / "prepared"), tmp_path / "runs", tmp_path / "pictures"
    options = ["--prepared", str(prepared), "--runs", str(runs), "--widths", "8,8,8", "--crop", "56", "--epochs", "1"]
    for name in ("bounds", "denoise"):
        assert main([name, *options]) == 0
    assert sorted(path.name for path in runs.iterdir()) == ["bounds", "denoise", "noise-steps"]
    result = json.loads((runs / "bounds" / "result.json").read_text())
    assert (result["training"]["run"], result["training"]["crop"], result["training"]["epochs"]) == (
        "noise-steps",
        56,
        0.8,  # whole batches only
    )
    assert len(result["steps"]) == 50
    assert len(json.loads((runs / "denoise" / "result.json").read_text())["steps"]) == 10
    mels = np.load(runs / "bounds" / "mels.npz")["mels"]
    assert mels.shape == (32, 16, 112)
    assert (mels.min() >= 0, mels.max() <= 1) == (True, True)
    assert len(list((runs / "bounds" / "clips").glob("*/*.wav"))) == result["sampling"]["heard"] == 32

    bound, averaged = (load_checkpoint(model_of(ROWS[name], runs)) for name in ("bounds", "ema"))
    state = load_state(runs / "noise-steps")
    assert state is not None
    assert bound.config.name == "paper-bounds"
    for key, value in bound.part("network").items():
        assert torch.equal(value, state[1]["network"][key])
        assert torch.equal(averaged.part("network")[key], state[1]["ema"][key])

    before = {path: path.stat().st_mtime_ns for path in runs.glob("denoise/**/*") if path.name != ".lock"}
    assert main(["denoise", *options]) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.glob("denoise/**/*") if path.name != ".lock"} == before

    assert main(["--draw", str(pictures), *options]) == 0
    names = {"diagnosis", "linear-and-mel", "losses", "mel-scale", "repairs", "schedules", "spectrograms"}
    assert {path.name for path in pictures.iterdir()} == {f"{name}.png" for name in names} | {"rows.json"}
    rows = json.loads((pictures / "rows.json").read_text())["rows"]
    assert [row["row"] for row in rows] == ["denoise", "bounds"]
    assert all(len(row["steps"]["t"]) == row["sampling"]["steps"] for row in rows)
    capsys.readouterr()


def test_a_row_that_was_never_trained_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not trained yet; run `python -m benchmarks\.paper noise`"):
        model_of(ROWS["noise"], tmp_path)


def test_a_call_without_clips_ends_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["noise", "--prepared", str(tmp_path), "--runs", str(tmp_path / "runs")]) == 1
    assert "bardcast-train prepare" in capsys.readouterr().err
