"""How many streams the machine carries, as measured: one more would leave all of them without music. Torch-free."""

import math
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Final

from generator.metrics import Metrics

REMEMBERED: Final = 32  #: windows whose pace is believed in; the median of so many forgives a hiccup
#: Of the computing time, what listeners may claim by listening. The rest is for their changes, each of which costs a
#: window and throws away what lay ready, and for the machine's other work: at 0.7, four who changed the mood every ten
#: seconds were without new music for up to 7 s of 16 (benchmarks.room).
SHARE: Final = 0.5


class Capacity:
    """Counts the streams that are open, and lets in as many as music is made for while they listen."""

    def __init__(
        self,
        most: int | None,
        metrics: Metrics,
        factor: float | None = None,
        devices: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Nobody listens yet.

        Args:
            most: streams at once, whatever the machine could carry; ``None`` for no bound but the measured one.
            metrics: told of who listens and who is turned away.
            factor: real-time factor to begin with; without one nobody is refused for the machine's sake until a
                window was measured.
            devices: how many such devices make windows for these streams.
        """
        self.open = 0
        self._most = math.inf if most is None else most
        self._metrics = metrics
        self._devices = devices
        self._factors = deque([] if factor is None else [factor], maxlen=REMEMBERED)

    @property
    def factor(self) -> float:
        """How much faster than it is heard music is made."""
        return self._devices() * median(self._factors) if self._factors else math.inf

    @property
    def carried(self) -> float:
        """Streams that the machine makes music for; never less than one."""
        return max(1.0, float(math.floor(SHARE * self.factor))) if math.isfinite(self.factor) else math.inf

    def measure(self, audio_seconds: float, compute_seconds: float) -> None:
        """Learn what a window took."""
        self._factors.append(audio_seconds / max(compute_seconds, 1e-6))

    def claim(self) -> str | None:
        """Take a stream's place; or else the sentence that says why there is none."""
        if self.open >= self._most:
            refusal = (
                f"all {self._most} streams are taken: stop the music at another table, "
                "or start the generator with a higher --max-streams"
            )
        elif self.open >= self.carried:
            refusal = (
                f"this machine makes music {self.factor:.1f} times as fast as it is heard, and {self.open} listen "
                "already: one more would make all of them stutter; stop the music at another table, or wait for one"
            )
        else:
            self._count(1)
            return None
        self._metrics.refused.labels("full").inc()
        return refusal

    def release(self) -> None:
        """Give a place back."""
        self._count(-1)

    def _count(self, change: int) -> None:
        self.open += change
        self._metrics.streams.set(self.open)
