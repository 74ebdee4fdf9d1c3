"""What a table heard last: a ring of the packets that were sent."""

from collections import deque
from typing import Final

from generator.protocol import FRAMES_PER_SECOND

KEPT_SECONDS: Final = 120


class Heard:
    """The packets of the last two minutes, as they went to Discord: pauses leave no trace.

    Discord's player thread adds, others read. Both are single operations on a deque, which the interpreter's lock
    makes whole.
    """

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque(maxlen=KEPT_SECONDS * FRAMES_PER_SECOND)

    def add(self, packet: bytes) -> None:
        """20 ms were sent."""
        self._packets.append(packet)

    def last(self, seconds: float) -> list[bytes]:
        """The newest packets, oldest first; fewer when so much was not heard yet."""
        return list(self._packets)[-max(1, round(seconds * FRAMES_PER_SECOND)) :]
