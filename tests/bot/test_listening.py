import asyncio
import os
import signal
import sys
from unittest.mock import Mock

import pytest

from bot import listening
from bot.errors import GeneratorError
from bot.listening import has_window, listen, somebody_watches
from bot.settings import Settings

#: A generator as far as its parent knows: it says where it listens, and whether it was given a secret.
CHILD = (
    "import os, sys; print(os.environ['BARDCAST_TOKEN'] == '', file=sys.stderr, flush=True);"
    "print('listening on 127.0.0.1:' + sys.argv[1], flush=True); sys.stdin.read()"
)


def child(model: str | None, port: int) -> list[str]:
    assert port > 0  # one that stays over a restart
    return [sys.executable, "-c", CHILD, str(port)]


async def test_the_page_is_opened_and_printed_until_it_is_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening, "serve_command", child)
    caplog.set_level("INFO")
    shown = Mock()
    task = asyncio.create_task(listen(Settings(), {"DISPLAY": ":0"}, shown))
    async with asyncio.timeout(20):
        while not shown.called:  # noqa: ASYNC110 - a browser has no event for us
            await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(task, 10) == 0
    (address,) = shown.call_args.args
    assert address.startswith("http://127.0.0.1:")
    assert f"the listening room: {address}\n" in capsys.readouterr().out
    assert "True" in caplog.text  # on loopback, for whoever sits here


async def test_who_changes_their_mind_while_it_starts_need_not_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = [sys.executable, "-c", "import sys; sys.stdin.read()"]  # says nothing of where it listens
    monkeypatch.setattr(listening, "serve_command", lambda *_: slow)
    shown = Mock()
    task = asyncio.create_task(listen(Settings(), {"DISPLAY": ":0"}, shown))
    await asyncio.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(task, 10) == 0
    assert not shown.called
    assert "listening room" not in capsys.readouterr().out


async def test_a_generator_elsewhere_has_a_page_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Mock()
    assert await listen(Settings(generator_urls=("http://music.example:8765",)), {}, shown) == 0
    assert "http://music.example:8765/" in capsys.readouterr().out
    assert not shown.called  # no window here


async def test_a_generator_that_does_not_start_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('bardcast-generator: no such model')"]
    monkeypatch.setattr(listening, "serve_command", lambda *_: failing)
    with pytest.raises(GeneratorError, match="no such model"):
        await listen(Settings(), {}, Mock())


def test_a_machine_that_waits_for_the_end_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    assert somebody_watches({})
    assert not somebody_watches({"CI": "true"})
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert not somebody_watches({})


def test_a_browser_without_a_window_is_not_begun_in_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert has_window({"WAYLAND_DISPLAY": "wayland-0"})
    assert not has_window({"DISPLAY": ""})
    monkeypatch.setattr(sys, "platform", "darwin")
    assert has_window({})
