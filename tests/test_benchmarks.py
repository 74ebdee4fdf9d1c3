"""The benchmarks tell the truth: on signals of which it is known, and on a table where each mood is one pitch."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import blank, report, table
from bot.fake import FakeGenerator
from generator.protocol import SAMPLE_RATE
from tests.bot.conftest import pitch
from tests.discord_server.rtp import FRAME_SAMPLES

SECONDS = 4.0


def notes(random: np.random.Generator) -> blank.Sound:
    """A plain tune: eight decaying notes."""
    time = np.arange(round(SECONDS / 8 * SAMPLE_RATE)) / SAMPLE_RATE
    pitches = 220 * 2 ** (random.integers(0, 24, 8) / 12)
    return np.concatenate([0.3 * np.exp(-6 * time) * np.sin(2 * np.pi * hertz * time) for hertz in pitches]).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def least() -> float:
    return blank.threshold(SECONDS, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["silence", "white noise", "pink noise", "tone", "chord"])
def test_what_never_changes_is_blank(name: str, least: float) -> None:
    sound = blank.plants(SECONDS, np.random.default_rng(1))[name]
    assert blank.is_blank(blank.level(sound), blank.movement(sound), least)


def test_a_tune_is_not_blank_unless_nobody_can_hear_it(least: float) -> None:
    tune = notes(np.random.default_rng(2))
    assert not blank.is_blank(blank.level(tune), blank.movement(tune), least)
    assert blank.is_blank(blank.level(0.001 * tune), blank.movement(0.001 * tune), least)


def test_level_of_a_sine_is_3_db_below_its_peak() -> None:
    sine = np.sin(2 * np.pi * 100 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    assert blank.level(sine) == pytest.approx(-3.01, abs=0.01)


def test_figures_are_kept_with_the_machine_and_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tmp_path / "model.safetensors", tmp_path / "figures.json"
    model.write_bytes(b"weights")
    options = report.parser("a benchmark").parse_args(["--model", str(model), "--out", str(out)])
    report.finish("Title", options, [("a row", "its value")], {"figure": 1.0})
    assert "a row  its value" in capsys.readouterr().out
    kept = json.loads(out.read_text())
    assert kept["figures"] == {"figure": 1.0}
    assert kept["options"]["seed"] == 0
    assert "model.safetensors" in kept["machine"]["model"]


async def test_an_evening_is_measured_by_what_was_heard() -> None:
    """The packet that is taken for a mood's first really is where its pitch begins."""
    async with FakeGenerator() as fake:
        generator = {"BARDCAST_GENERATOR_URL": fake.url, "BARDCAST_TOKEN": ""}
        evening = await table.play(generator, minutes=0.1, changes=2, seed=3)
    found = table.look(evening)
    sound = evening.listener.audio()
    for (asked, mood), (delay, index) in zip(
        evening.asked, table.delays(evening, table.music_packets(evening.listener)), strict=True
    ):
        place = index * FRAME_SAMPLES
        assert pitch(sound[place + 10 * FRAME_SAMPLES :][: 10 * FRAME_SAMPLES]) == mood
        assert pitch(sound[place - 12 * FRAME_SAMPLES : place - 2 * FRAME_SAMPLES]) != mood
        assert evening.listener.packets[index].arrival - asked == delay
        assert 0 < delay < 2
    assert found["packets_missing"] == found["underruns"] == found["silent_seconds"] == found["not_finite_samples"] == 0
    assert found["packets"] == pytest.approx(300, abs=15)
    assert 10 < found["bot_peak_rss_mib"] < 300
