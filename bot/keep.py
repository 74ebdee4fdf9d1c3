"""What the table heard last: a ring of the packets that were sent, and two minutes of it as a file to keep."""

import io
from collections import deque
from collections.abc import Sequence
from typing import Final

from bot.recording import write_packets
from generator.protocol import FRAMES_PER_SECOND

KEPT_SECONDS: Final = 120
#: What Ogg adds to the packets: a header of each page and a byte for each 255 of a packet. Measured: 1 to 2 %.
_OVERHEAD: Final = 1.03
_HEADERS: Final = 4_096


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


def ogg(packets: Sequence[bytes], limit: int) -> tuple[bytes, float]:
    """As many of the newest packets as fit into a file of ``limit`` bytes.

    Returns:
        The Ogg Opus file, and how many seconds it lasts; the packets are those that were sent, encoded no second time.
    """
    room = (limit - _HEADERS) / _OVERHEAD
    count = 0
    for packet in reversed(packets):
        room -= len(packet)
        if room < 0:
            break
        count += 1
    file = io.BytesIO()
    write_packets(file, packets[len(packets) - count :])
    return file.getvalue(), count / FRAMES_PER_SECOND
