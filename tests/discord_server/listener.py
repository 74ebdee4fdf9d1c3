"""What one voice connection heard: every packet with its time, and the sound that it makes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.discord_server.changes import Changes
from tests.discord_server.rtp import (
    FRAME_SAMPLES,
    FRAME_SECONDS,
    SAMPLE_RATE,
    SILENCE,
    BadPacket,
    Packet,
    decode,
    open_packet,
)

#: Packets decoded before those asked for, since Opus predicts from the past. RFC 7845 asks for 80 ms; a steady tone
#: was then 0.04 off, and after 300 ms equal to the last bit.
PRE_ROLL: Final = 15


@dataclass(frozen=True, slots=True)
class Speaking:
    """An op 5 from the client: at ``time`` (monotonic) it set the flags to ``flags``."""

    time: float
    flags: int


class Listener:
    """Records one stream of RTP. Decoding waits until it is asked for, so that recording stays light.

    Attributes:
        packets: in the order of arrival.
        speaking: the speaking flags seen.
        rejected: datagrams that were no packet of this stream.
        unheard: packets that were sealed so that nobody in the channel could open them.
        unseal: what is heard of a payload, where there is end-to-end encryption.
        started: when the connection was made, monotonic.
        ended: when it was closed, or None.
    """

    def __init__(self, key: bytes, ssrc: int, changes: Changes) -> None:
        self.packets: list[Packet] = []
        self.speaking: list[Speaking] = []
        self.rejected = 0
        self.unheard = 0
        self.unseal: Callable[[bytes], bytes | None] = lambda payload: payload
        self.started = time.monotonic()
        self.ended: float | None = None
        self._key = key
        self._ssrc = ssrc
        self._changes = changes

    def receive(self, datagram: bytes, arrival: float) -> None:
        """Record one datagram."""
        try:
            packet = open_packet(datagram, key=self._key, ssrc=self._ssrc, arrival=arrival)
        except BadPacket:
            self.rejected += 1
        else:
            if (payload := self.unseal(packet.payload)) is None:
                self.unheard += 1
            else:
                self.packets.append(replace(packet, payload=payload))
        self._changes.notify()

    async def wait_packets(self, count: int, *, timeout: float = 10.0) -> None:  # noqa: ASYNC109
        """Return when ``count`` packets more than now have come."""
        goal = len(self.packets) + count
        await self._changes.until(lambda: len(self.packets) >= goal, timeout=timeout, what=f"{count} voice packets")

    # Transport

    def sequences(self) -> NDArray[np.int64]:
        """Sequence numbers in order of arrival, counted on past 65535."""
        raw = np.array([packet.sequence for packet in self.packets], np.int64)
        return _unwrap(raw, 1 << 16)

    def gaps(self) -> list[int]:
        """Sequence numbers (counted on past 65535) between the first and the last that never came."""
        seen = self.sequences()
        return [] if len(seen) == 0 else sorted(set(range(seen.min(), seen.max() + 1)) - set(seen.tolist()))

    def inter_arrival(self, start: float = -np.inf, end: float = np.inf) -> NDArray[np.float64]:
        """Seconds from each packet to the next, of those that arrived from ``start`` to ``end`` (monotonic)."""
        return np.diff([packet.arrival for packet in self._between(start, end)])

    def trailing_silence(self) -> int:
        """How many frames of silence came last, one after the other."""
        sounding = [index for index, packet in enumerate(self.packets) if packet.payload != SILENCE]
        return len(self.packets) - 1 - (sounding[-1] if sounding else -1)

    # Sound

    def audio(self, start: float = -np.inf, end: float = np.inf) -> NDArray[np.float32]:
        """The sound by RTP timestamp of what arrived from ``start`` to ``end`` (monotonic).

        Returns:
            Shape (samples, 2), full scale ±1, 48 kHz; zeros stand for what is missing.
        """
        chosen = range(len(self.packets))[self._slice(start, end)]
        if not chosen:
            return np.zeros((0, 2), np.float32)
        stamps = _unwrap(np.array([self.packets[i].timestamp for i in chosen], np.int64), 1 << 32)
        stamps -= stamps.min()
        sound = np.zeros((int(stamps.max()) + FRAME_SAMPLES, 2), np.float32)
        for stamp, frame in zip(stamps, self._decode(chosen), strict=True):
            sound[stamp : stamp + FRAME_SAMPLES] = frame
        return sound

    def heard(self, start: float, end: float, *, jitter: float = 0.06, lag: float = 0.2) -> NDArray[np.float32]:
        """The sound as an ear has it from ``start`` to ``end`` (monotonic): by time of arrival.

        A packet plays ``jitter`` seconds after it came, or when the one before it ends if that is later; one that
        would play more than ``lag`` late (the burst after a stall) is dropped. Where nothing plays there are zeros.

        Returns:
            Shape ((end − start) × 48,000, 2), full scale ±1.
        """
        sound = np.zeros((round((end - start) * SAMPLE_RATE), 2), np.float32)
        plays: list[tuple[int, int]] = []
        free = -np.inf
        for index, packet in enumerate(self.packets):
            due = max(packet.arrival + jitter, free)
            if due - packet.arrival > jitter + lag:
                continue
            free = due + FRAME_SECONDS
            at = round((due - start) * SAMPLE_RATE)
            if -FRAME_SAMPLES < at < len(sound):
                plays.append((index, at))
        for (_, at), frame in zip(plays, self._decode([index for index, _ in plays]), strict=True):
            low, high = max(at, 0), min(at + FRAME_SAMPLES, len(sound))
            sound[low:high] = frame[low - at : high - at]
        return sound

    def _between(self, start: float, end: float) -> list[Packet]:
        return self.packets[self._slice(start, end)]

    def _slice(self, start: float, end: float) -> slice:
        arrivals = np.array([packet.arrival for packet in self.packets])
        low, high = np.searchsorted(arrivals, [start, end])
        return slice(int(low), int(high))

    def _decode(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """The frames of these packets (ascending), each decoded after those that came before it: (packets, 960, 2)."""
        if not indices:
            return np.zeros((0, FRAME_SAMPLES, 2), np.float32)
        first = max(0, indices[0] - PRE_ROLL)
        frames = decode(packet.payload for packet in self.packets[first : indices[-1] + 1])
        return np.take(frames, np.array(indices) - first, axis=0)


def _unwrap(counter: NDArray[np.int64], period: int) -> NDArray[np.int64]:
    """Go on counting where a counter of ``period`` wraps; a small step back stays one."""
    if len(counter) == 0:
        return counter
    steps = (np.diff(counter) + period // 2) % period - period // 2
    return np.concatenate([counter[:1], counter[0] + np.cumsum(steps)])
