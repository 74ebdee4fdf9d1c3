import asyncio
import os
import signal
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from bot.__main__ import main
from bot.client import FixedEndpoint
from bot.demo import demo
from bot.errors import DemoError
from bot.fake import FakeGenerator
from bot.recording import check_writable
from bot.settings import Settings
from bot.stage import PACKET_SECONDS, Order, Performance, Stage
from generator.moods import MOODS, Mood
from generator.protocol import FRAME_SAMPLES, Problem
from tests.bot.conftest import pitch

MOODS_3 = (Mood("tavern"), Mood("mysterious"), Mood("fight"))


async def perform(fake: FakeGenerator, order: Order) -> Performance:
    return await Stage(order, FixedEndpoint(fake.url), lambda *_: None).perform()


@pytest.mark.parametrize("fast", [True, False])
async def test_each_mood_is_heard_in_its_stretch(fake: FakeGenerator, fast: bool) -> None:
    done = await perform(fake, Order(MOODS_3, 6.0, seed=1, fast=fast))
    assert len(done.frames) == 300
    assert [change.mood for change in done.changes] == list(MOODS_3)
    sound = np.concatenate(done.frames).astype(np.float32) / np.float32(32_768)
    for place, mood in enumerate(MOODS_3):
        middle = (100 * place + 60) * FRAME_SAMPLES
        assert pitch(sound[middle : middle + 24_000]) == mood
    for change in done.changes[1:]:
        assert change.delay is not None
        assert PACKET_SECONDS < change.delay < 1.5
    assert done.counts.held == 0
    assert done.counts.late == 0
    assert not done.interrupted


async def test_a_mood_that_plays_already_is_no_change(fake: FakeGenerator) -> None:
    tavern = Mood("tavern")
    done = await perform(fake, Order((tavern, tavern, Mood("sad"), tavern), 4.0, seed=1, fast=True))
    assert [change.mood for change in done.changes] == ["tavern", "sad", "tavern"]
    assert None not in [change.landed for change in done.changes]


async def test_a_slow_generator_is_waited_for_when_fast_and_held_at_a_tables_pace() -> None:
    async with FakeGenerator(speed=0.8) as fake:
        held = await perform(fake, Order((Mood("sad"),), 3.0, seed=1))
        assert held.counts.held > 10
        assert len(held.frames) == 150
        waited = await perform(fake, Order((Mood("sad"),), 1.0, seed=1, fast=True))
        assert waited.counts.held == 0


async def test_a_fatal_problem_ends_it_with_the_sentence(fake: FakeGenerator) -> None:
    fake.problem = Problem("model", "the checkpoint is damaged", fatal=True)
    with pytest.raises(DemoError, match="the checkpoint is damaged"):
        await perform(fake, Order(MOODS_3, 3.0, seed=1))


async def test_a_generator_that_is_not_there_is_not_waited_for_long() -> None:
    stage = Stage(Order(MOODS_3, 3.0, seed=1), FixedEndpoint("http://127.0.0.1:1"), lambda *_: None)
    async with asyncio.timeout(10):
        with pytest.raises(DemoError, match="can't be reached"):
            await stage.perform()


def test_a_dotenv_that_is_no_utf_8_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("DISCORD_TOKEN=x\n", encoding="utf-16")
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 2
    assert "save it as UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".ogg", ".wav"])
async def test_it_writes_the_sound_and_the_picture_and_the_figures(
    fake: FakeGenerator, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    out = tmp_path / f"demo{suffix}"
    order = Order(MOODS_3, 6.0, seed=1, fast=True)
    assert await demo(Settings(generator_urls=(fake.url,)), order, out) == 0
    with av.open(str(out)) as container:
        stream = container.streams.audio[0]
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
        assert (stream.rate, stream.channels) == (48_000, 2)
        assert sum(frame.size for frame in frames) / 2 == pytest.approx(6 * 48_000, abs=1_000)
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    for word in ("tavern to mysterious", "mysterious to fight", "real-time factor", "underruns", "held", "LU"):
        assert word in shown


async def test_interrupted_it_still_writes_what_was_heard(fake: FakeGenerator, tmp_path: Path) -> None:
    out = tmp_path / "demo.wav"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "demo", "--seconds", "60", "--out", str(out)),
        env={**os.environ, "BARDCAST_GENERATOR_URL": fake.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while b"tavern" not in await asyncio.wait_for(process.stderr.readline(), 20):
        pass
    await asyncio.sleep(1.0)
    process.send_signal(signal.SIGINT)
    shown, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 130
    assert b"underruns" in shown
    assert 30 * FRAME_SAMPLES * 4 < out.stat().st_size < 300 * FRAME_SAMPLES * 4


def test_an_unknown_mood_lists_the_moods(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--moods", "tavern,brawl"])
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert all(mood in shown for mood in MOODS)


@pytest.mark.parametrize("out", ["missing/demo.ogg", "demo.mp3", "folder.ogg"])
def test_a_place_that_cannot_be_written_is_said_before_any_work(
    tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARDCAST_GENERATOR_URL", "http://127.0.0.1:1")
    (tmp_path / "folder.ogg").mkdir()
    assert main(["demo", "--out", str(tmp_path / out)]) == 1
    assert "--out" in capsys.readouterr().err


def test_checking_leaves_what_is_there_alone(tmp_path: Path) -> None:
    there = tmp_path / "demo.ogg"
    there.write_bytes(b"precious")
    check_writable(there)
    assert there.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [there]


def test_no_token_is_a_sentence_and_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISCORD_TOKEN", raising=False)
    assert main(["run"]) == 2
    assert "discord.com/developers" in capsys.readouterr().err


def test_the_env_file_is_read_and_the_environment_goes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("BARDCAST_VOLUME=loud\n")
    assert main(["run"]) == 2
    assert "'loud'" in capsys.readouterr().err
    monkeypatch.setenv("BARDCAST_VOLUME", "quiet")
    assert main(["run"]) == 2
    assert "'quiet'" in capsys.readouterr().err
