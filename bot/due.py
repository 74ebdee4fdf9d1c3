"""How many packets of sound were due: one every 20 ms while there should be music."""

from collections.abc import Callable

from generator.protocol import FRAME_SECONDS


class Due:
    """A clock that only runs while packets are due."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """A clock that stands.

        Args:
            clock: seconds, of which only differences mean something.
        """
        self._clock = clock
        self._since: float | None = None
        self._seconds = 0.0

    @property
    def packets(self) -> int:
        """Packets so far."""
        since = self._clock() - self._since if self._since is not None else 0.0
        return round((self._seconds + since) / FRAME_SECONDS)

    def follow(self, due: bool) -> None:
        """Whether they are due from now on."""
        now = self._clock()
        if self._since is not None:
            self._seconds += now - self._since
        self._since = now if due else None
