"""From the buffer to Discord's player thread: Opus packets, made a little ahead of need."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import discord

from bot.jitter_buffer import JitterBuffer
from bot.opus import SILENCE, OpusEncoder
from generator.protocol import FRAME_SECONDS

AHEAD_PACKETS: Final = 10  #: 200 ms: what a busy event loop may be late by, and what a change waits for
PUMP_SECONDS: Final = 2 * FRAME_SECONDS


class Playout(discord.AudioSource):
    """The table's sound as Discord's player thread reads it, and the pump that keeps it supplied.

    The thread only ever pops a finished packet. What takes time happens in :meth:`pump`, on the event loop: encoding
    costs 0.3 ms a frame, and a thread of its own would contend with the player thread for the interpreter's lock.
    """

    def __init__(self, buffer: JitterBuffer, encoder: OpusEncoder, advanced: Callable[[int], None]) -> None:
        """Reads ``buffer``.

        Args:
            buffer: where the frames come from.
            encoder: made for the channel's bitrate; see also ``encoder`` the attribute.
            advanced: told the playhead after each piece of work.
        """
        self.encoder = encoder  #: may be exchanged between two packets, for a channel of another bitrate
        self.underruns = 0
        self.music = asyncio.Event()  #: set once there is something to hear
        self._buffer = buffer
        self._advanced = advanced
        self._packets: deque[bytes] = deque()
        self._ended = False

    def is_opus(self) -> bool:
        """Yes: discord.py encodes nothing."""
        return True

    def read(self) -> bytes:
        """The next packet: called by the player thread every 20 ms, never waits.

        Silence when there is none: an empty answer would end playback for good, and is given after :meth:`end` alone.
        """
        if self._ended:
            return b""
        try:
            return self._packets.popleft()
        except IndexError:
            self.underruns += 1
            return SILENCE

    def end(self) -> None:
        """From now on :meth:`read` says that there is no more."""
        self._ended = True

    def fill(self) -> None:
        """Tops the packets up, once there is music at all."""
        if not (self._buffer.started or self._buffer.can_start):
            return
        while len(self._packets) < AHEAD_PACKETS:
            self._packets.append(self.encoder.encode(self._buffer.next()))
        self.music.set()
        self._advanced(self._buffer.playhead)

    async def pump(self) -> None:
        """Keeps :meth:`read` supplied until cancelled."""
        while True:
            self.fill()
            await asyncio.sleep(PUMP_SECONDS)
