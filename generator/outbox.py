"""What waits to be sent to one client: ordered, gated by the client's credit, and bounded. Torch-free."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from generator.protocol import AHEAD_FRAMES


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """An event that is true only together with the frames before ``frame``."""

    frame: int
    text: str


class Outbox:
    """Events, snapshots and frames in order. Frames beyond the client's credit stay; newer ones replace older.

    Attributes:
        start: the stream's first place.
        playhead: place of the next frame that the client plays, as it last said.
        sent_end: place after the furthest frame that was handed out.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.playhead = start
        self.sent_end = start
        self._problems: deque[str] = deque()
        self._items: deque[str | tuple[int, bytes] | _Snapshot] = deque()

    def __len__(self) -> int:
        return len(self._items) + len(self._problems)

    @property
    def limit(self) -> int:
        """The first place that the client has given no credit for."""
        return self.playhead + AHEAD_FRAMES

    @property
    def full(self) -> bool:
        """Whether the client is so slow to take what it has credit for that nothing more should be made."""
        return len(self) > AHEAD_FRAMES

    def put_problem(self, text: str) -> None:
        """Add an event that has nothing to do with the frames' order: it goes next."""
        self._problems.append(text)

    def put_event(self, text: str) -> None:
        """Add an event that belongs before the frames that come after it."""
        self._items.append(text)

    def put_frames(self, start: int, frames: Sequence[bytes]) -> None:
        """Add the frames of places ``start`` on."""
        self._items.extend(enumerate(frames, start))

    def put_snapshot(self, frame: int, text: str) -> None:
        """Add an event that tells of all frames before ``frame``, in place of what waits to tell the same."""
        self._items = deque(item for item in self._items if not (isinstance(item, _Snapshot) and item.frame == frame))
        self._items.append(_Snapshot(frame, text))

    def drop_from(self, start: int) -> None:
        """Forget unsent frames of places ``start`` on, because better ones follow, and snapshots that tell of them.

        Events stay.
        """
        self._items = deque(item for item in self._items if not _void(item, start))

    def take(self) -> str | tuple[int, bytes] | None:
        """The next item to send, or ``None`` while there is none that may go."""
        if self._problems:
            return self._problems.popleft()
        if not self._items:
            return None
        item = self._items[0]
        if isinstance(item, tuple):
            if item[0] >= self.limit:
                return None
            self.sent_end = max(self.sent_end, item[0] + 1)
        self._items.popleft()
        return item.text if isinstance(item, _Snapshot) else item


def _void(item: str | tuple[int, bytes] | _Snapshot, start: int) -> bool:
    match item:
        case _Snapshot(frame):
            return frame > start
        case (place, _):
            return place >= start
    return False
