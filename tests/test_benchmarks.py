"""The benchmarks tell the truth: on signals of which it is known, and on a table where each mood is one pitch."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import cost, peers, realtime, report, table
from bot.fake import FakeGenerator
from tests.bot.conftest import pitch
from tests.discord_server.rtp import FRAME_SAMPLES


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


@pytest.mark.parametrize("main", [cost.main, peers.main, realtime.main], ids=["cost", "peers", "realtime"])
def test_a_gpu_that_is_not_there_is_said(main: Callable[[list[str]], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU here that torch can use: leave --device out"):
        main(["--device", "cuda"])


async def test_the_service_computes_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class StartedError(Exception): ...

    def started(model: str, *, threads: int | None, device: str | None) -> None:
        raise StartedError(model, threads, device)

    monkeypatch.setattr(realtime, "serving", started)
    with pytest.raises(StartedError) as told:
        await realtime.measure_service("bard", 2, "cpu", 1, 0)
    assert told.value.args == ("bard", 2, "cpu")


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
    assert " 0 packets missed" in evening.last_words  # the bot says the same
    assert found["packets"] == pytest.approx(300, abs=15)
    assert 10 < found["bot_peak_rss_mib"] < 300
