"""How long changes of the music take, from the wish to the ear."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from generator.protocol import FRAME_SECONDS, MoodLands


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the changes that were heard so far, the first music among them.

    Attributes:
        changes: how many.
        seconds: altogether, from the wish to the ear.
    """

    changes: int = 0
    seconds: float = 0.0


class LatencyMeter:
    """Follows one wish at a time, the newest, from the moment it is made until its first frame is played."""

    def __init__(self, ahead_frames: int, clock: Callable[[], float] = time.monotonic) -> None:
        """A meter that follows nothing yet.

        Args:
            ahead_frames: how many frames lie between the playhead and the ear.
            clock: seconds, of which only differences mean something.
        """
        self.latency = Latency()
        self._ahead = ahead_frames * FRAME_SECONDS
        self._clock = clock
        self._asked: float | None = None
        self._lands: MoodLands | None = None

    def ask(self) -> None:
        """Something else is to be heard, from now on."""
        self._asked, self._lands = self._clock(), None

    def forget(self) -> None:
        """The wish is not to be heard at present: the music is paused."""
        self._asked = None

    def lands(self, landing: MoodLands) -> None:
        """The generator says where in the stream the newest wish begins."""
        self._lands = landing

    def advance(self, playhead: int) -> None:
        """The frames up to this place are on their way to the ear."""
        if self._asked is None or self._lands is None or playhead <= self._lands.frame:
            return
        seconds = self._clock() - self._asked + self._ahead
        self.latency = Latency(self.latency.changes + 1, self.latency.seconds + seconds)
        self._asked = None
