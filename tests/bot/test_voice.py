import asyncio
import select
import socket
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from discord.voice_state import ConnectionFlowState

from bot.handshake import STUCK_SECONDS, WORTH_A_WORD_SECONDS, Handshake
from bot.opus import SILENCE
from bot.voice import HopelessVoiceError, refusal
from bot.voice_connection import TableVoice, _Connection, _WakingSocket
from generator.protocol import FRAME_SAMPLES


def voice(version: int, ready: bool) -> TableVoice:
    """A voice client whose server announced that version of DAVE; nothing goes further than this process."""
    made = TableVoice.__new__(TableVoice)
    sent: list[bytes] = []
    made._connection = cast(
        "Any",
        SimpleNamespace(
            dave_protocol_version=version,
            can_encrypt=ready,
            dave_session=SimpleNamespace(encrypt_opus=lambda data: b"sealed " + data) if ready else None,
            secret_key=list(range(32)),
            mode="aead_xchacha20_poly1305_rtpsize",
            ssrc=1,
            send_packet=sent.append,
            sent=sent,
        ),
    )
    made.sequence = made.timestamp = made.sent = made._incr_nonce = 0
    return made


@pytest.mark.parametrize(
    ("version", "ready", "heard"),
    [(0, False, True), (1, False, False), (1, True, True)],
    ids=["none", "not yet", "yes"],
)
def test_what_nobody_could_hear_is_not_sent_and_time_goes_on(version: int, ready: bool, heard: bool) -> None:
    made = voice(version, ready)
    assert made.encrypted is heard
    for _ in range(3):
        made.send_audio_packet(b"music", encode=False)
    made.send_audio_packet(SILENCE, encode=False)
    datagrams = cast("Any", made._connection).sent
    assert len(datagrams) == (4 if heard else 0)
    assert made.sent == (3 if heard else 0)  # what is silence does not count as sound
    assert made.timestamp == 4 * FRAME_SAMPLES


def test_closing_the_socket_wakes_who_waits_for_it() -> None:
    """Else discord.py's reader thread, and with it the next connection, waits out a select of half a minute."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        waited = _WakingSocket(socket.AF_INET, socket.SOCK_DGRAM)
        waited.connect(server.getsockname())
        begun = threading.Event()

        def wait() -> None:
            begun.set()
            select.select([waited], [], [], 30)

        reader = threading.Thread(target=wait, daemon=True)
        reader.start()
        begun.wait()
        reader.join(0.2)
        assert reader.is_alive()
        waited.close()
        reader.join(5)
        assert not reader.is_alive()


@pytest.mark.parametrize(
    ("code", "hopeless"), [(4006, False), (4014, False), (None, False), (4017, True), (4004, True)]
)
def test_what_a_close_code_means(code: int | None, hopeless: bool) -> None:
    error = refusal("table", code)
    assert isinstance(error, HopelessVoiceError) == hopeless
    assert ("davey" in str(error)) == (code == 4017)


class TestHandshake:
    @staticmethod
    def connection(*, encrypted: bool, others: int) -> TableVoice:
        me = SimpleNamespace(id=0)
        channel = SimpleNamespace(name="table", voice_states=range(others + 1))
        return cast("TableVoice", SimpleNamespace(encrypted=encrypted, user=me, channel=channel))

    def test_it_is_told_late_and_begun_anew_later(self) -> None:
        now = [0.0]
        handshake = Handshake(lambda: now[0])
        waiting = self.connection(encrypted=False, others=1)
        for moment, told, stuck in [
            (0.0, False, False),
            (WORTH_A_WORD_SECONDS - 1, False, False),
            (WORTH_A_WORD_SECONDS + 1, True, False),
            (STUCK_SECONDS + 1, True, True),
        ]:
            now[0] = moment
            assert (handshake.follow(waiting) is not None) == told
            assert handshake.stuck == stuck

    @pytest.mark.parametrize(("encrypted", "others"), [(True, 1), (False, 0)], ids=["ready", "alone"])
    def test_each_wait_is_counted_from_its_own_beginning(self, encrypted: bool, others: int) -> None:
        now = [0.0]
        handshake = Handshake(lambda: now[0])
        waiting = self.connection(encrypted=False, others=1)
        handshake.follow(waiting)
        now[0] = STUCK_SECONDS + 1
        assert handshake.follow(self.connection(encrypted=encrypted, others=others)) is None
        assert handshake.follow(waiting) is None
        assert not handshake.stuck


@pytest.mark.parametrize("turns", range(6))
async def test_two_answers_that_come_close_together_are_both_heard(turns: int) -> None:
    """However many turns of the loop lie between them."""
    connection = _Connection.__new__(_Connection)
    connection._state = ConnectionFlowState.set_guild_voice_state
    connection._state_event, connection._connected = asyncio.Event(), threading.Event()
    waiting = asyncio.create_task(connection._wait_for_state(ConnectionFlowState.got_both_voice_updates))
    for _ in range(6):
        await asyncio.sleep(0)
    connection.state = ConnectionFlowState.got_voice_state_update
    for _ in range(turns):
        await asyncio.sleep(0)
    connection.state = ConnectionFlowState.got_both_voice_updates
    async with asyncio.timeout(10.0):
        await waiting
