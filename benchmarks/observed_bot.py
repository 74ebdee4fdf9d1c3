"""The bot, unchanged but for one thing: it writes down which packet is the first of each mood.

Run in place of ``bot`` by ``benchmarks.table``. A mood's first frame is told by the generator (``MoodLands``); this
follows that frame through the buffer to the packet that carries it, which nobody outside the bot can tell.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Final
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import bot.bard
import bot.table
from bot.__main__ import main
from bot.client import ClientEvent
from bot.jitter_buffer import JitterBuffer
from generator.protocol import MoodLands

FILE: Final = "BENCHMARK_LANDINGS"  #: the variable that names the file


class ObservedBuffer(JitterBuffer):
    """Counts what it hands out: the n-th frame is the n-th packet of music."""

    def __init__(self) -> None:
        super().__init__()
        self.handed_out = 0
        self.landing: MoodLands | None = None
        self._arrived = False

    def expect(self, landing: MoodLands) -> None:
        """A mood will begin: look out for its first frame."""
        self.landing, self._arrived = landing, False

    def put(self, index: int, pcm: bytes) -> None:
        """Takes a frame in."""
        super().put(index, pcm)
        if self.landing is not None and index >= self.landing.frame:
            self._arrived = True

    def next(self) -> NDArray[np.int16]:
        """The frame that is due now."""
        frame = super().next()
        self.handed_out += 1
        if self.landing is not None and self._arrived and not self.holding and self.playhead > self.landing.frame:
            line = {"mood": self.landing.mood, "packet": self.handed_out - 1, "time": time.monotonic()}
            with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self.landing = None
        return frame


class ObservedTable(bot.table.Table):
    """A table with such a buffer."""

    def event(self, event: ClientEvent) -> None:
        """Something happened on the line."""
        super().event(event)
        if isinstance(event, MoodLands) and isinstance(self._buffer, ObservedBuffer):
            self._buffer.expect(event)


if __name__ == "__main__":
    with (
        mock.patch.object(bot.table, "JitterBuffer", ObservedBuffer),
        mock.patch.object(bot.bard, "Table", ObservedTable),
    ):
        sys.exit(main())
