"""An engine as a service wants it: something that opens streams, and can be another while they play."""

from generator.engine import Engine
from generator.protocol import Controls
from generator.snapshot import decode_past
from generator.stream import Make, Stream, alone


class Player:
    """An engine as a service wants it: something that opens streams, and can be another while they play."""

    def __init__(self, engine: Engine, make: Make = alone) -> None:
        self.engine, self._make = engine, make

    @property
    def name(self) -> str:
        """The model that plays."""
        return self.engine.name

    def stream(
        self,
        seed: int,
        controls: Controls,
        volume: float = 1.0,
        start: int = 0,
        origin: int | None = None,
        home: int | None = None,
    ) -> Stream:
        """Begin a stream; arguments as for :class:`Stream`."""
        newest = lambda: self.engine  # noqa: E731
        return Stream(
            self.engine, seed, controls, volume, start, newest=newest, origin=origin, home=home, make=self._make
        )

    def resume(self, state: bytes) -> Stream:
        """Go on from a :meth:`Stream.snapshot`.

        Raises:
            ProtocolError: it is none, or none that can be used.
        """
        past = decode_past(state)
        stream = self.stream(past.seed, past.section.controls, past.volume, past.position)
        stream.remember(past)
        return stream

    def take_over(self, other: "Player") -> None:
        """Play what ``other`` plays, in open streams from their next window on. Any thread."""
        self.engine = other.engine
