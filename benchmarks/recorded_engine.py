"""The real service around an engine that has nothing to compute: what is measured is everything but the music.

Run by ``benchmarks.room`` as a process of its own. A change of mood is another place in the recording.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.recorded import LATENCY_FRAMES, WINDOW_FRAMES, record
from generator.bars import bars
from generator.errors import GeneratorError
from generator.moods import MOODS
from generator.protocol import Bar, Controls, ProtocolError, Transition
from generator.section import Section
from generator.server import bind, serve
from generator.service import create_app
from generator.settings import Settings

MANY: Final = 1_000


@dataclass(frozen=True)
class Piece:
    """Recorded frames in a row, as ``generator.stream.Chunk``."""

    start: int
    frames: tuple[bytes, ...]
    lands: int | None
    bars: tuple[Bar, ...]
    seconds: float = 0.0


class RecordedStream:
    """One listener's."""

    continues = False

    def __init__(self, recording: list[bytes], section: Section, start: int) -> None:
        self.end, self.volume = start, 1.0
        self._first = start
        self._recording, self._section = recording, section

    @property
    def controls(self) -> Controls:
        """What is played."""
        return self._section.controls

    def snapshot(self) -> bytes:
        """Nothing: a recording has no state."""
        return b""

    def advance(self, slack: float = 0.0, wanted: Callable[[], bool] = lambda: True) -> Piece:
        """The next window."""
        return self._piece(self.end, lands=self.end == self._first)

    def change(self, controls: Controls, playhead: Callable[[], int], transition: Transition = "sudden") -> Piece:
        """Another place in the recording, however it is asked for."""
        start = min(self.end, playhead() + LATENCY_FRAMES)
        self._section = self._section.turned(controls, start)
        return self._piece(start, lands=True)

    def set_volume(self, volume: float, playhead: int) -> Piece:
        """Nothing: what is recorded stays as it is."""
        return Piece(self.end, (), None, ())

    def close(self) -> None:
        """Nothing is in hand."""

    def _piece(self, start: int, *, lands: bool) -> Piece:
        self.end = start + WINDOW_FRAMES
        offset = MOODS.index(self._section.controls.mood) * len(self._recording) // len(MOODS)
        frames = (self._recording[(place + offset) % len(self._recording)] for place in range(start, self.end))
        told = tuple(bars(self._section, start, self.end, joined=lands))
        return Piece(start, tuple(frames), start if lands else None, told)


class RecordedPlayer:
    """Plays the same recording to everybody."""

    name = "recorded"

    def __init__(self) -> None:
        self._recording = record()

    def stream(
        self,
        seed: int,
        controls: Controls,
        volume: float = 1.0,
        start: int = 0,
        origin: int | None = None,
        home: int | None = None,
    ) -> RecordedStream:
        """Begin a stream; arguments as for ``generator.stream.Stream``."""
        return RecordedStream(
            self._recording, Section(controls, seed, start if origin is None else origin, home), start
        )

    def resume(self, state: bytes) -> RecordedStream:
        """Never: a recording has no state."""
        raise ProtocolError("a recording has no state")

    def take_over(self, other: "RecordedPlayer") -> None:
        """There is no other."""


def _no_other(model: str) -> RecordedPlayer:
    raise GeneratorError(f"{model}: there is only the recording")


def main() -> None:
    """Serve until stdin ends."""
    app = create_app(RecordedPlayer(), Settings(max_streams=MANY), "recorded", _no_other)
    with bind("127.0.0.1", 0) as bound:
        serve(app, bound, on_hangup=lambda: None, exit_with_stdin=True)


if __name__ == "__main__":
    main()
