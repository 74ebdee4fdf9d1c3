"""What waits to be sent to one client: ordered, gated by the client's credit, and bounded. Torch-free."""

from collections import deque
from collections.abc import Sequence

from generator.protocol import AHEAD_FRAMES


class Outbox:
    """Events and frames in order. Frames beyond the client's credit stay; newer ones replace older.

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
        self._items: deque[str | tuple[int, bytes]] = deque()

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

    def drop_from(self, start: int) -> None:
        """Forget unsent frames of places ``start`` on, because better ones follow. Events stay."""
        self._items = deque(item for item in self._items if isinstance(item, str) or item[0] < start)

    def take(self) -> str | tuple[int, bytes] | None:
        """The next item to send, or ``None`` while there is none that may go."""
        if self._problems:
            return self._problems.popleft()
        if not self._items:
            return None
        item = self._items[0]
        if not isinstance(item, str):
            if item[0] >= self.limit:
                return None
            self.sent_end = max(self.sent_end, item[0] + 1)
        return self._items.popleft()
