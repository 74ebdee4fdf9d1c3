"""The command line: what it writes, and the sentence that it ends with when it can't."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from generator import sample
from generator.__main__ import main
from generator.moods import MOODS, Mood
from generator.protocol import AHEAD_FRAMES, FRAME_SAMPLES, Controls, Open, encode
from generator.sample import Order, clip_seed
from generator.settings import SettingsError, is_loopback, load_settings
from tests.generator.fake_engine import FakeEngine, sine
from tests.generator.run_with_fake_engine import fake_modules

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake engine in the real one's place, and a picture that is drawn at once."""
    picture = ModuleType("generator.picture")

    def draw_spectrogram(path: Path, audio: "np.ndarray[tuple[int, int], np.dtype[np.float32]]", *_: object) -> None:
        assert audio.dtype == np.float32
        assert np.abs(audio).max() <= 1
        path.write_bytes(b"\x89PNG")

    picture.draw_spectrogram = draw_spectrogram  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "generator.picture", picture)
    for name, module in fake_modules().items():
        monkeypatch.setitem(sys.modules, name, module)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What the user reads: one sentence, no traceback."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


# sample


@pytest.mark.usefixtures("fake")
def test_sample_writes_each_clip_and_its_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    status = main(["sample", "--mood", "fight", "--seconds", "2.5", "--count", "2", "--seed", "7", "--out", str(out)])
    assert status == 0
    names = ["fight-7-0.wav", "fight-7-0.png", "fight-7-1.wav", "fight-7-1.png"]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert capsys.readouterr().out.splitlines() == [str(out / name) for name in names]
    with wave.open(str(out / "fight-7-1.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (48_000, 2, 2)
        assert file.getnframes() == 2.5 * 48_000
        assert file.readframes(FRAME_SAMPLES) == sine("fight")


def test_a_library_that_is_missing_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("generator.__main__._sample", Mock(side_effect=ModuleNotFoundError(name="torch")))
    assert main(["sample", "--mood", "sad", "--out", "anywhere"]) == 1
    assert capsys.readouterr().err == "bardcast-generator: torch is not installed: pip install 'bardcast[generator]'\n"


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("kind", ["wav", "ogg"])
def test_the_shortest_sample_is_one(tmp_path: Path, kind: str) -> None:
    words = ["--mood", "sad", "--seconds", "0.000001", "--format", kind, "--out", str(tmp_path)]
    assert main(["sample", *words]) == 0
    with av.open(str(tmp_path / f"sad-0-0.{kind}")) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) > 0


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("kind", ["wav", "ogg"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        words = ["--mood", "sad", "--seconds", "1", "--format", kind, "--seed", "3", "--out", str(tmp_path / name)]
        assert main(["sample", *words]) == 0
        time.sleep(1.1 if kind == "ogg" else 0)  # an Ogg serial number from the clock would tell here
    first, second = (tmp_path / name / f"sad-3-0.{kind}" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.usefixtures("fake")
def test_an_ogg_clip_holds_the_sound(tmp_path: Path) -> None:
    assert main(["sample", "--mood", "sad", "--seconds", "2", "--format", "ogg", "--out", str(tmp_path)]) == 0
    with av.open(str(tmp_path / "sad-0-0.ogg")) as file:
        assert file.streams.audio[0].rate == 48_000
        sound = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
    assert abs(sound.shape[1] - 96_000) <= 960
    spectrum = np.abs(np.fft.rfft(sound[0, 24_000:72_000]))
    assert np.argmax(spectrum) == 50 * (1 + MOODS.index(Mood("sad")))


@given(st.integers(0, 2**32 - 1), st.integers(0, 1000), st.integers(0, 1000))
def test_clips_of_one_seed_differ_and_never_change(seed: int, one: int, two: int) -> None:
    assert 0 <= clip_seed(seed, one) < 2**32
    assert (clip_seed(seed, one) == clip_seed(seed, two)) == (one == two)
    assert clip_seed(7, 0) == 2083679832


def test_what_fails_half_way_leaves_no_half_file(tmp_path: Path) -> None:
    def draw(path: Path, audio: object, sample_rate: int, title: str) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    order = Order(Controls(Mood("sad")), 0.5, 1, 0, tmp_path)
    with pytest.raises(sample.OutputError, match="No space left"):
        list(sample.write_clips(FakeEngine(), order, draw))
    assert [path.name for path in tmp_path.iterdir()] == ["sad-0-0.wav"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--mood", "brawl"], ", ".join(MOODS)),
        (["--mood", "sad", "--seconds", "0"], "number of seconds"),
        (["--mood", "sad", "--seconds", "nan"], "number of seconds"),
        (["--mood", "sad", "--seconds", "1e9"], "number of seconds"),
        (["--mood", "sad", "--count", "0"], "whole number from 1"),
        (["--mood", "sad", "--seed", "-1"], "whole number from 0"),
        (["--mood", "sad", "--intensity", "6"], "from 1 to 5"),
    ],
)
def test_a_wrong_word_is_explained(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["sample", "--out", "unused", *words])
    assert end.value.code == 2
    assert sentence in last_line(capsys)
    assert not Path("unused").exists()


def test_help_and_wrong_words_need_nothing_heavy() -> None:
    program = (
        "import sys; from generator.__main__ import main\n"
        "for words in (['--help'], ['sample', '--mood', 'brawl', '--out', 'x'], ['serve', '--port', '-1']):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'fastapi', 'librosa', 'matplotlib', 'numpy', 'av'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("fake")
def test_a_folder_that_can_not_be_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["sample", "--mood", "sad", "--out", str(tmp_path / "file" / "in")]) == 1
    assert "--out" in last_line(capsys)


@pytest.mark.usefixtures("fake")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_mine_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    try:
        assert main(["sample", "--mood", "sad", "--out", str(tmp_path)]) == 1
    finally:
        tmp_path.chmod(0o700)
    assert "Permission denied" in last_line(capsys)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("command", [["sample", "--mood", "sad"], ["serve", "--port", "0"]])
def test_a_bad_checkpoint_is_one_sentence(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from generator.checkpoint import CheckpointError

    def load_engine(model: str) -> FakeEngine:
        raise CheckpointError(f"{model} is damaged")

    monkeypatch.setattr(sys.modules["generator.engine"], "load_engine", load_engine)
    words = [*command, "--model", "my.safetensors"]
    assert main([*words, "--out", str(tmp_path)] if command[0] == "sample" else words) == 1
    assert last_line(capsys) == "bardcast-generator: my.safetensors is damaged"


# serve


def test_listening_beyond_loopback_needs_a_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("BARDCAST_TOKEN", raising=False)
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 2  # noqa: S104
    assert "BARDCAST_TOKEN" in last_line(capsys)
    (tmp_path / "token").write_text("\n")
    assert main(["serve", "--token-file", str(tmp_path / "token")]) == 2
    assert "is empty" in last_line(capsys)
    assert main(["serve", "--token-file", str(tmp_path / "none")]) == 2
    assert "No such file" in last_line(capsys)


def test_the_token_comes_from_the_file_before_the_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    env = {"BARDCAST_TOKEN": " from-env "}
    assert load_settings(env, host="::", port=1).token == "from-env"
    assert load_settings(env, host="::", port=1, token_file=tmp_path / "token").token == "from-file"
    assert load_settings({"BARDCAST_TOKEN": " "}, host="::1", port=1).token is None
    with pytest.raises(SettingsError, match="ASCII"):
        load_settings({"BARDCAST_TOKEN": "sécret"}, host="::", port=1)
    with pytest.raises(SettingsError, match=r"'' is no address: give 0\.0\.0\.0"):
        load_settings(env, host="", port=1)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.168.0.2", "localhost.example", "127.example", ""],  # noqa: S104
)
def test_what_others_may_reach_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_what_only_this_machine_reaches_is_loopback(host: str) -> None:
    assert is_loopback(host)


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    line = last_line(capsys)
    assert f"127.0.0.1:{port}" in line
    assert "--port" in line


def test_an_address_that_is_not_here_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BARDCAST_TOKEN", "secret")
    assert main(["serve", "--host", "192.0.2.1"]) == 1  # TEST-NET-1, nobody's
    assert "192.0.2.1" in last_line(capsys)


@contextmanager
def running(*words: str, stdin: int = subprocess.PIPE) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A serving process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.generator.run_with_fake_engine", "serve", "--port", "0", *words],
        cwd=ROOT,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        match = re.fullmatch(r"listening on (127\.0\.0\.1:[1-9]\d*)\n", process.stdout.readline())
        assert match, process.stderr and process.stderr.read()
        yield process, match[1]
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize("model", ["quick", "busy"])
def test_sigterm_ends_it_promptly_and_tells_the_table(model: str) -> None:
    async def end(address: str, process: subprocess.Popen[str]) -> tuple[float, int | None]:
        async with connect(f"ws://{address}/v1/stream", compression=None, max_queue=None) as table:
            await table.send(encode(Open(Mood("sad"), 1)))
            await table.recv()
            await asyncio.sleep(0.3)  # in the middle of a window, where there is one
            process.send_signal(signal.SIGTERM)
            sent = time.monotonic()
            await table.wait_closed()
            return sent, table.close_code

    with running("--model", model) as (process, address):
        sent, close_code = asyncio.run(end(address, process))
        assert close_code == 1012
        assert process.wait(30) == 0
        assert time.monotonic() - sent < 15  # an idle machine takes one; a window under way is not waited for
        assert process.stdout is not None
        assert process.stdout.read() == ""  # the one line was all
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_told_again_while_it_ends_it_ends_all_the_same() -> None:
    with running() as (process, _):
        for number in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP][: 3 if hasattr(signal, "SIGHUP") else 2]:
            process.send_signal(number)
            time.sleep(0.05)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_while_it_loads_a_hangup_is_nothing_and_sigterm_its_end() -> None:
    command = [sys.executable, "-m", "tests.generator.run_with_fake_engine", "serve", "--port", "0", "--model", "slow"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        if hasattr(signal, "SIGHUP"):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_it_ends_when_its_parent_lets_go_of_stdin() -> None:
    with running("--exit-with-stdin") as (process, _):
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def until(process: subprocess.Popen[str], words: str) -> None:
    """Read the log up to a line with these words."""
    assert process.stderr is not None
    while words not in (line := process.stderr.readline()):
        assert line, f"the log ended without: {words}"


hangups = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")


@hangups
def test_a_hangup_reads_the_model_again_and_a_bad_one_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    path.write_text("young")

    async def playing(address: str, process: subprocess.Popen[str]) -> None:
        async with connect(f"ws://{address}/v1/stream", compression=None, max_queue=None) as table:
            await table.send(encode(Open(Mood("sad"), 1)))
            assert '"young"' in str(await table.recv())
            path.write_text("grown")
            process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(until, process, f"grown plays now, as read from {path}")
            path.unlink()
            process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(until, process, "no such model; grown plays on")
            frames = 0
            while frames < AHEAD_FRAMES:  # it was served all the while
                frames += isinstance(await table.recv(), bytes)

    with running("--model", str(path)) as (process, address):
        asyncio.run(playing(address, process))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@hangups
def test_a_terminal_that_is_closed_takes_the_service_along() -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with running("--model", "quick", stdin=theirs) as (process, _):
        os.close(theirs)
        process.send_signal(signal.SIGHUP)
        until(process, "quick plays now")
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 0


def test_the_first_windows_are_made_before_the_service_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    modules = fake_modules()
    monkeypatch.setattr(modules["generator.engine"], "load_engine", lambda _: engine)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    made: list[int] = []
    monkeypatch.setattr("generator.server.serve", lambda *_, **__: made.append(len(engine.calls)))
    assert main(["serve", "--port", "0"]) == 0
    assert made == [2]  # the second tells how fast this machine is
