"""From the buffer to Discord's player thread: Opus packets, made a little ahead of need."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import discord
import numpy as np

from bot.jitter_buffer import Frame, JitterBuffer
from bot.opus import SILENCE, OpusEncoder
from generator.protocol import FRAME_SAMPLES, FRAME_SECONDS

AHEAD_PACKETS: Final = 10  #: 200 ms: what a busy event loop may be late by for free, and what a change waits for
PUMP_SECONDS: Final = 2 * FRAME_SECONDS
DEFAULT_BITRATE: Final = 64_000  #: of a channel that nobody has changed
FADE_PACKETS: Final = 5  #: in at each beginning, out at each end; a cut would click

_RISE: Final = np.sin(np.linspace(0, np.pi / 2, FADE_PACKETS * FRAME_SAMPLES, dtype=np.float32)) ** 2


class Playout(discord.AudioSource):
    """The table's sound as Discord's player thread reads it, and the pump that keeps it supplied.

    It plays from :meth:`begin` until :meth:`finish`, as often as need be: a pause, a lost connection and the end are
    all the same to it. Between them the buffer's playhead stands still. The thread pops finished packets. What takes
    time happens in :meth:`pump`, on the event loop: encoding costs 0.3 ms a frame, and a thread of its own would
    contend with the player thread for the interpreter's lock. Only where the event loop is too late, or the whole
    machine stood still and all that was missed is due at once, does the player thread encode for itself.

    Attributes:
        lock: whoever uses the buffer holds it, for the player thread may use it too.
    """

    def __init__(
        self,
        buffer: JitterBuffer,
        advanced: Callable[[int], None],
        on_packet: Callable[[bytes], None] | None = None,
    ) -> None:
        """Reads ``buffer``.

        Args:
            buffer: where the frames come from.
            advanced: told the playhead after each piece of work.
            on_packet: given each packet as the player thread takes it, on that thread: it must not wait.
        """
        self.taken = 0  #: packets that the player thread was given
        self.underruns = 0  #: how many of them were silence, for want of anything else
        self.music = asyncio.Event()  #: set once there is something to hear
        self.lock = threading.RLock()
        self._encoder = OpusEncoder(DEFAULT_BITRATE)
        self._buffer = buffer
        self._advanced = advanced
        self._on_packet = on_packet
        self._packets: deque[bytes] = deque()  # an empty one is the end
        self._playing = False
        self._fade = 0  # packets of the fade-in that are made
        self._last: Frame | None = None

    def is_opus(self) -> bool:
        """Yes: discord.py encodes nothing."""
        return True

    def read(self) -> bytes:
        """The next packet: called by the player thread every 20 ms, waits for no more than an encoder.

        Silence when there is no music: an empty answer would end playback, and is given after :meth:`finish` alone.
        """
        try:
            packet = self._packets.popleft()
        except IndexError:
            packet = self._late()
        if packet:
            self.taken += 1
            if self._on_packet is not None:
                self._on_packet(packet)
        return packet

    def begin(self) -> None:
        """Fades in: from now on :meth:`read` has packets."""
        with self.lock:
            self._packets.clear()
            self._playing, self._fade = True, 0
        self.fill()

    def finish(self) -> None:
        """Fades out within 0.3 s; then :meth:`read` says that there is no more, and Discord's thread ends."""
        with self.lock:
            if not self._playing:
                return
            self._playing = False
            if self._has_music:
                for step in reversed(range(min(FADE_PACKETS, self._fade))):
                    self._packets.append(self._encode(step, backwards=True))
            self._packets.append(b"")

    def set_bitrate(self, bitrate: int) -> None:
        """Goes on at the channel's bitrate."""
        if bitrate == self._encoder.bitrate:
            return
        with self.lock:
            self._encoder = OpusEncoder(bitrate)
            if self._last is not None:
                self._encoder.encode(self._last)  # so that it knows the sound which it is to continue

    def fill(self) -> None:
        """Tops the packets up, once there is music at all."""
        with self.lock:
            if not self._has_music:
                return
            self.music.set()
            if not self._playing:
                return
            while len(self._packets) < AHEAD_PACKETS:
                self._packets.append(self._continue())
            playhead = self._buffer.playhead
        self._advanced(playhead)

    async def pump(self) -> None:
        """Keeps :meth:`read` supplied until cancelled."""
        while True:
            self.fill()
            await asyncio.sleep(PUMP_SECONDS)

    @property
    def _has_music(self) -> bool:
        return self._buffer.started or self._buffer.can_start

    def _late(self) -> bytes:
        """What is due when nothing is finished."""
        with self.lock:
            if self._packets:  # finished while this thread waited
                return self._packets.popleft()
            if self._playing and self._has_music:
                return self._continue()
        self.underruns += 1
        return SILENCE

    def _continue(self) -> bytes:
        """The next frame as a packet."""
        packet = self._encode(self._fade)
        self._fade = min(self._fade + 1, FADE_PACKETS)
        return packet

    def _encode(self, step: int, *, backwards: bool = False) -> bytes:
        """The next frame as a packet, at that step of the fade in (or, backwards, of the fade out)."""
        frame = self._buffer.next()
        if step < FADE_PACKETS:
            gain = _RISE[step * FRAME_SAMPLES : (step + 1) * FRAME_SAMPLES]
            frame = np.rint(frame * (gain[::-1] if backwards else gain)[:, None]).astype(np.int16)
        self._last = frame
        return self._encoder.encode(frame)
