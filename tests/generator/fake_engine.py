"""An engine that costs nothing: one sine a mood, and levers for the tests."""

import json
import math
import threading
import time
from array import array
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass, field, replace
from functools import cache

from generator.bars import bars
from generator.moods import MOODS
from generator.protocol import FRAME_SAMPLES, SAMPLE_RATE, Bar, Controls, ProtocolError, Transition
from generator.section import Section

WINDOW = 50  #: frames


@dataclass(frozen=True)
class FakeChunk:
    start: int
    frames: tuple[bytes, ...]
    lands: int | None
    bars: tuple[Bar, ...] = ()
    seconds: float = 0.001


@dataclass
class FakeEngine:
    """Counts its work in ``calls``; ``gate`` holds every window after ``free_windows``; ``broken`` moods raise.

    Another's name, level and broken moods can be taken over, as a player takes over a model.
    """

    name: str = "fake"
    gate: threading.Event = field(default_factory=threading.Event)
    free_windows: int = 1_000_000
    broken: frozenset[str] = frozenset()
    level: float = 1.0
    calls: list[str] = field(default_factory=list)
    closed: int = 0
    slacks: list[float] = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    threads: set[str] = field(default_factory=set)

    def stream(
        self,
        seed: int,
        controls: Controls,
        volume: float = 1.0,
        start: int = 0,
        origin: int | None = None,
        home: int | None = None,
    ) -> "FakeStream":
        return FakeStream(self, seed, controls, volume, start, origin, home)

    def resume(self, state: bytes) -> "FakeStream":
        try:
            body = json.loads(state)
        except ValueError:
            raise ProtocolError("this is not the state of a stream") from None
        stream = self.stream(body["seed"], Controls(**body["controls"]), body["volume"], body["end"])
        stream.continues = body["model"] == self.name
        return stream

    def take_over(self, other: "FakeEngine") -> None:
        self.name, self.level, self.broken = other.name, other.level, other.broken

    def work(self, call: str, wanted: Callable[[], bool] = lambda: True) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)
        self.started.release()
        if len(self.calls) > self.free_windows:
            until = time.monotonic() + 20
            while not self.gate.wait(0.01):
                assert time.monotonic() < until
                if not wanted():
                    self.free_windows += 1
                    raise CancelledError


class FakeStream:
    margin = 10  #: frames between the ear and a change

    def __init__(
        self,
        engine: FakeEngine,
        seed: int,
        controls: Controls,
        volume: float,
        start: int,
        origin: int | None = None,
        home: int | None = None,
    ) -> None:
        self.engine, self.seed, self.controls, self.volume, self.end = engine, seed, controls, volume, start
        self.section = Section(controls, seed, start if origin is None else origin, home)
        self.begun = self.continues = False

    def snapshot(self) -> bytes:
        body = {"seed": self.seed, "controls": asdict(self.controls), "volume": self.volume, "end": self.end}
        return json.dumps({**body, "model": self.engine.name}).encode()

    def advance(self, slack: float = -1.0, wanted: Callable[[], bool] = lambda: True) -> FakeChunk:
        start = self.end
        self.engine.work(f"advance {self.controls.mood}", wanted)
        self.engine.slacks.append(slack)
        chunk = self._frames(start, start + WINDOW, None)
        chunk = replace(chunk, bars=tuple(bars(self.section, start, self.end, joined=not self.begun)))
        self.begun = True
        return chunk

    def change(self, controls: Controls, playhead: Callable[[], int], transition: Transition = "sudden") -> FakeChunk:
        playhead()
        self.engine.work(" ".join(["change" if transition == "sudden" else "turn", *controls.moods]))
        start = min(playhead() + self.margin, self.end)
        self.controls = controls
        turn = self.section.turned if transition == "sudden" else self.section.turning
        self.section = turn(controls, start)
        chunk = self._frames(start, start + WINDOW, start)
        return replace(chunk, bars=tuple(bars(self.section, start, self.end, joined=True)))

    def close(self) -> None:
        self.engine.closed += 1

    def set_volume(self, volume: float, playhead: int) -> FakeChunk:
        self.engine.work(f"volume {volume:g}")
        self.volume = volume
        return self._frames(min(playhead + self.margin, self.end), self.end, None)

    def _frames(self, start: int, end: int, lands: int | None) -> FakeChunk:
        if self.controls.mood in self.engine.broken:
            raise FloatingPointError("not a number")
        self.end = end
        return FakeChunk(
            start, tuple(sine(self.controls.mood, self.volume * self.engine.level) for _ in range(start, end)), lands
        )


@cache
def sine(mood: str, volume: float = 1.0) -> bytes:
    """One frame: whole periods, so that frames join."""
    step = 2 * math.pi * 50 * (1 + [str(each) for each in MOODS].index(mood)) / SAMPLE_RATE
    mono = [round(8000 * volume * math.sin(step * n)) for n in range(FRAME_SAMPLES)]
    return array("h", [sample for one in mono for sample in (one, one)]).tobytes()
