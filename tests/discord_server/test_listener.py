"""Packets and listeners, without a network."""

import socket
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.secret import Aead

from tests.discord_server import SILENCE, Listener, Packet, voice
from tests.discord_server.changes import Changes
from tests.discord_server.rtp import BadPacket, decode, open_packet
from tests.discord_server.tone import pitch, sine_as_opus

KEY = bytes(range(32))


def seal(payload: bytes, *, sequence: int = 0, timestamp: int = 0, ssrc: int = 1, nonce: int = 0) -> bytes:
    header = b"\x80\x78" + sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big") + ssrc.to_bytes(4, "big")
    tail = nonce.to_bytes(4, "big")
    return header + Aead(KEY).encrypt(payload, header, tail.ljust(24, b"\0")).ciphertext + tail


@given(
    payload=st.binary(max_size=200),
    sequence=st.integers(0, 2**16 - 1),
    timestamp=st.integers(0, 2**32 - 1),
    nonce=st.integers(0, 2**32 - 1),
)
def test_a_sealed_packet_opens(payload: bytes, sequence: int, timestamp: int, nonce: int) -> None:
    datagram = seal(payload, sequence=sequence, timestamp=timestamp, nonce=nonce)
    assert open_packet(datagram, key=KEY, ssrc=1, arrival=2.0) == Packet(2.0, sequence, timestamp, payload)


@given(data=st.data())
def test_a_changed_packet_does_not(data: st.DataObject) -> None:
    datagram = bytearray(seal(b"music"))
    at = data.draw(st.integers(0, len(datagram) - 1))
    datagram[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadPacket):
        open_packet(bytes(datagram), key=KEY, ssrc=1, arrival=0.0)
    with pytest.raises(BadPacket):
        open_packet(bytes(datagram[:at]), key=KEY, ssrc=1, arrival=0.0)


@pytest.fixture(scope="module")
def tone() -> list[bytes]:
    return sine_as_opus(1.0, hertz=440)


async def listen(schedule: Iterator[tuple[float, int, bytes]]) -> Listener:
    """A listener that got packets (arrival, number, payload), numbered from just before both counters wrap."""
    listener = Listener(KEY, 1, Changes())
    for arrival, number, payload in schedule:
        sequence, timestamp = (65_530 + number) % 2**16, (2**32 - 4_800 + number * 960) % 2**32
        listener.receive(seal(payload, sequence=sequence, timestamp=timestamp), arrival)
    return listener


async def test_missing_packets_are_gaps_and_silence(tone: list[bytes]) -> None:
    lost = {4, 20, 21, 22, 23, 24}
    listener = await listen((n * 0.02, n, packet) for n, packet in enumerate(tone) if n not in lost)
    assert listener.gaps() == sorted(65_530 + n for n in lost)
    sound = listener.audio().reshape(-1, 960, 2)
    assert len(sound) == 50
    assert {n for n, frame in enumerate(sound) if not frame.any()} == lost


async def test_a_stall_is_heard_and_its_burst_is_not(tone: list[bytes]) -> None:
    def stalled() -> Iterator[tuple[float, int, bytes]]:
        for n, packet in enumerate(tone * 2):
            yield (max(n * 0.02, 1.5) if 50 <= n < 75 else n * 0.02), n, packet

    listener = await listen(stalled())
    silent = np.logical_not(listener.heard(0.0, 2.2).reshape(-1, 1_920).any(axis=1))
    # 60 ms of jitter buffer, 500 ms of stall; afterwards it plays on at once, at most 200 ms behind.
    assert np.flatnonzero(silent)[:28].tolist() == [0, 1, 2, *range(53, 78)]
    assert not silent[78:100].any()
    assert listener.inter_arrival().max() == pytest.approx(0.52)


async def test_a_part_sounds_as_in_the_whole(tone: list[bytes]) -> None:
    listener = await listen((n * 0.02, n, packet) for n, packet in enumerate(tone))
    part = listener.audio(0.39, 0.79)
    assert len(part) == 20 * 960
    np.testing.assert_allclose(part, listener.audio()[20 * 960 : 40 * 960], atol=1e-4)
    assert pitch(part) == pytest.approx(440, abs=3)
    assert listener.audio(5.0, 6.0).shape == (0, 2)


async def test_silence_at_the_end_is_counted(tone: list[bytes]) -> None:
    listener = await listen((n * 0.02, n, packet) for n, packet in enumerate([SILENCE, *tone, *[SILENCE] * 5]))
    assert listener.trailing_silence() == 5
    assert not decode([SILENCE] * 3).any()


async def test_strangers_packets_do_not_count(tone: list[bytes]) -> None:
    listener = Listener(KEY, 1, Changes())
    listener.receive(seal(tone[0], ssrc=2), 0.0)
    listener.receive(b"", 0.0)
    assert (listener.packets, listener.rejected) == ([], 2)


async def test_a_wait_that_is_in_vain_says_for_what() -> None:
    with pytest.raises(TimeoutError, match=r"waited 0\.05 s for a miracle"):
        await Changes().until(lambda: False, timeout=0.05, what="a miracle")


def test_kernel_time_is_monotonic_time() -> None:
    # The arrival comes from the kernel's clock of the day; it must fall between two looks at the monotonic clock.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox, socket.socket(type=socket.SOCK_DGRAM) as outbox:
        inbox.setblocking(False)
        if sys.platform == "linux":
            inbox.setsockopt(socket.SOL_SOCKET, voice._SO_TIMESTAMPNS, 1)
        inbox.bind(("127.0.0.1", 0))

        def stamped() -> bool:
            before = time.monotonic()
            outbox.sendto(b"now", inbox.getsockname())
            after = time.monotonic()
            time.sleep(0.05)
            ((datagram, arrival, _),) = voice._drain(inbox)
            assert datagram == b"now"
            return before - 0.005 < arrival < after + 0.005

        # Linux begins to stamp a moment after the first socket of all has asked for it; until then it tells when it was
        # looked.
        assert any(stamped() for _ in range(40)) or sys.platform != "linux"
