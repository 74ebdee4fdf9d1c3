import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bot.voice import TableVoice, wait_encrypted


class Handshake:
    """Stands in for a voice client whose encryption is ready once told."""

    encrypted = False
    channel = "table"


@pytest.mark.parametrize(
    ("version", "ready", "heard"),
    [(0, False, True), (1, False, False), (1, True, True)],
    ids=["none", "not yet", "yes"],
)
def test_what_is_sent_before_the_handshake_is_done_is_heard_by_nobody(version: int, ready: bool, heard: bool) -> None:
    voice = TableVoice.__new__(TableVoice)
    state: Any = SimpleNamespace(dave_protocol_version=version, can_encrypt=ready)
    voice._connection = state
    assert voice.encrypted is heard


async def test_the_first_frame_waits_for_the_encryption() -> None:
    voice = Handshake()
    waiting = asyncio.create_task(wait_encrypted(cast("TableVoice", voice)))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    voice.encrypted = True
    await asyncio.wait_for(waiting, 1)


async def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("bot.voice.ENCRYPTION_SECONDS", 0.1)
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(wait_encrypted(cast("TableVoice", Handshake())), 1)
    assert "no encryption in table" in caplog.text
