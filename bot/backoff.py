"""When to try again, and where."""

import random
from collections.abc import Callable, Sequence


class Backoff:
    """Exponential, with full jitter (Brooker, AWS 2015): clients that fell together don't return together."""

    def __init__(self, rng: random.Random, first: float = 0.25, most: float = 10.0) -> None:
        self._rng = rng
        self._first = first
        self._most = most
        self._attempts = 0

    def reset(self) -> None:
        """The last attempt was a success."""
        self._attempts = 0

    def next(self, least: float = 0.0) -> float:
        """Seconds to wait before the next attempt."""
        ceiling = min(self._most, self._first * 2.0 ** min(self._attempts, 20))
        self._attempts += 1
        return max(least, self._rng.uniform(self._first / 2, ceiling))


class Stairs:
    """Pauses that grow attempt by attempt, up to a last that repeats; with a little jitter."""

    def __init__(self, pauses: Sequence[float], rng: random.Random, clock: Callable[[], float]) -> None:
        self._pauses = pauses
        self._rng = rng
        self._clock = clock
        self._next = 0.0
        self.attempts = 0  #: since the last success

    def wait(self) -> None:
        """The next attempt is due after the pause that so many attempts ask for."""
        pause = self._pauses[min(self.attempts, len(self._pauses) - 1)]
        self._next = self._clock() + pause * self._rng.uniform(0.8, 1.2)

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return self._clock() >= self._next


class Round:
    """Several addresses in turn: stays with one that works, and goes to the next when it fails."""

    def __init__(self, first: int) -> None:
        """Begin with the address of that number, of however many there are."""
        self._turn = first
        self._failures = 0
        self.addresses = 1  #: how many there were last

    def pick(self, addresses: Sequence[str]) -> str:
        """The one whose turn it is."""
        self.addresses = len(addresses)
        return addresses[self._turn % len(addresses)]

    def fail(self) -> bool:
        """The last one failed: on to the next. Whether that one has not failed yet."""
        self._turn += 1
        self._failures += 1
        return self._failures % self.addresses != 0

    def reset(self) -> None:
        """The last one worked: whichever fails next, all others are as good as new."""
        self._failures = 0
