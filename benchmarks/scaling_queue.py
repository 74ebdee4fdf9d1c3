"""The queue between tables and workers, as events: ``generator.batching`` on many machines at once. Torch-free.

A table asks for a window whenever less than ``AHEAD_FRAMES`` lie ready, and for another mood now and then. Each window
goes to the less busy of two workers drawn at random (Mitzenmacher 2001, "The power of two choices in randomized load
balancing"; Ray Serve's router does so by default). A worker makes its most urgent windows together, a pass through the
network at a time. It fails now and then; what it had in hand is called again elsewhere once that was noticed.
"""

import itertools
import math
import random
from bisect import insort
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import simpy

from benchmarks.service_curve import Curve
from generator.protocol import AHEAD_FRAMES, FRAME_SECONDS, FRAMES_PER_SECOND

Process = Generator[simpy.Event, Any, None]

AHEAD_SECONDS: Final = AHEAD_FRAMES * FRAME_SECONDS
#: As in ``generator.session``, ``generator.stream``: when a window is due, and where a change lands.
HUNGRY_SECONDS: Final = 2.0
URGENT_SECONDS: Final = -1.0
HANDOVER_SECONDS: Final = 15 / FRAMES_PER_SECOND
WARM_UP_SECONDS: Final = 60.0  #: that don't count: the tables begin with unlikely buffers


@dataclass(frozen=True, slots=True)
class Load:
    """What the tables do.

    Attributes:
        tables: at once, on average, and at the beginning.
        hours: that a table plays, on average; log-normal.
        spread: of the logarithm of those.
        change_seconds: between two changes of mood, on average; exponential.
    """

    tables: int
    hours: float = 3.5
    spread: float = 0.4
    change_seconds: float = 150.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """What makes the music.

    Attributes:
        workers: a GPU or a CPU each.
        failure_hours: between two failures of one worker, on average; exponential.
        repair_seconds: from a failure until another worker stands in its place.
        notice_seconds: from a failure until its windows are called again; so long the lost worker gets new ones too.
        overtaking: whether a change of mood drops its own table's window in hand, as in ``generator.session``; else it
            waits for that one.
    """

    workers: int
    failure_hours: float = 168.0
    repair_seconds: float = 120.0
    notice_seconds: float = 1.0
    overtaking: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it, after the first minute.

    Attributes:
        table_seconds: that tables played.
        held: share of those without new music.
        change_seconds: from each wish to its window, sorted.
        busy: share of the workers' time in which they computed.
        asked: windows, from the beginning.
        made: of those.
        dropped: of those, overtaken by a change.
        in_hand: of those, at the end.
        failures: of workers.
        called_again: windows lost with a worker.
    """

    table_seconds: float
    held: float
    change_seconds: tuple[float, ...]
    busy: float
    asked: int
    made: int
    dropped: int
    in_hand: int
    failures: int
    called_again: int

    def change(self, share: float) -> float:
        """Seconds within which that share of the changes was made; infinite if none was."""
        return float(np.quantile(self.change_seconds, share)) if self.change_seconds else math.inf


class _Window:
    __slots__ = ("dropped", "due", "left", "made", "number")

    def __init__(self, due: float, number: int, left: int, made: simpy.Event) -> None:
        self.due, self.number, self.left, self.made, self.dropped = due, number, left, made, False

    def __lt__(self, other: "_Window") -> bool:
        return (self.due, self.number) < (other.due, other.number)


class _Worker:
    """One device, as :class:`generator.batching.Batcher` uses it."""

    def __init__(self, queue: "Queue") -> None:
        self._queue, self._env = queue, queue.env
        self.windows: list[_Window] = []  # the most urgent first
        self.listed = True
        self._news = self._env.event()
        self.process = self._env.process(self._live())

    def take(self, window: _Window) -> None:
        insort(self.windows, window)
        if not self._news.triggered:
            self._news.succeed()

    def _live(self) -> Process:
        queue, fleet = self._queue, self._queue.fleet
        while True:
            try:
                yield from self._work()
            except simpy.Interrupt:
                queue.failures += 1
                yield self._env.timeout(min(fleet.notice_seconds, fleet.repair_seconds))
                self.listed = False
                lost, self.windows = self.windows, []
                for window in lost:
                    window.left = queue.curve.steps
                    queue.called_again += 1
                    queue.dispatch(window)
                yield self._env.timeout(max(0.0, fleet.repair_seconds - fleet.notice_seconds))
                self.listed = True
                queue.take_stranded()

    def _work(self) -> Process:
        queue, rows = self._queue, self._queue.curve.rows
        while True:
            self.windows = [window for window in self.windows if not window.dropped]
            if not self.windows:
                self._news = self._env.event()
                yield self._news
                continue
            chosen = self.windows[:rows]
            yield from self._spend(queue.steps[len(chosen)])
            for window in chosen:
                window.left -= 1
                if not (window.left or window.dropped):
                    yield from self._spend(queue.curve.finish_seconds)
                    self.windows.remove(window)
                    if not window.dropped:
                        queue.made += 1
                        window.made.succeed()

    def _spend(self, seconds: float) -> Process:
        seconds *= self._queue.random.choice(self._queue.curve.jitter)
        begun = self._env.now
        yield self._env.timeout(seconds)
        self._queue.busy += max(0.0, self._env.now - max(begun, WARM_UP_SECONDS))


class Queue:
    """All tables and all workers."""

    def __init__(self, curve: Curve, load: Load, fleet: Fleet, seed: int) -> None:
        """Nothing happens yet.

        Args:
            curve: the pace of every worker.
            load: of the tables.
            fleet: the workers.
            seed: of all that is drawn.
        """
        self.curve, self.load, self.fleet = curve, load, fleet
        self.env, self.random = simpy.Environment(), random.Random(seed)  # noqa: S311 - a simulation
        self.steps = [0.0, *(curve.step(rows) for rows in range(1, curve.rows + 1))]
        self.busy = self.held = self.played = 0.0
        self.asked = self.made = self.dropped = self.failures = self.called_again = 0
        self._changes: list[float] = []
        self._numbers = itertools.count()
        self._stranded: list[_Window] = []  # while no worker is there at all
        self._playing: dict[int, tuple[float, float]] = {}  # by table: since when it counts, where its music ends
        self.workers = [_Worker(self) for _ in range(fleet.workers)]

    def run(self, seconds: float) -> Outcome:
        """Play for so long after the first minute."""
        mean = 3600 * self.load.hours
        self._mu = math.log(mean) - self.load.spread**2 / 2
        for _ in range(self.load.tables):
            # Who is met playing is met the likelier the longer they play, and anywhere in their evening.
            whole = self.random.lognormvariate(self._mu + self.load.spread**2, self.load.spread)
            self.env.process(self._table(whole * self.random.random(), self.random.uniform(0, AHEAD_SECONDS)))
        self.env.process(self._arrive(self.load.tables / mean))
        if math.isfinite(self.fleet.failure_hours):
            for worker in self.workers:
                self.env.process(self._fail(worker))
        end = WARM_UP_SECONDS + seconds
        self.env.run(until=end)
        for since, runs_out in self._playing.values():
            self.played += end - since
            self.held += max(0.0, end - max(runs_out, since))
        return Outcome(
            self.played,
            self.held / self.played if self.played else 0.0,
            tuple(sorted(self._changes)),
            self.busy / (seconds * self.fleet.workers),
            self.asked,
            self.made,
            self.dropped,
            len(self._stranded) + sum(not each.dropped for worker in self.workers for each in worker.windows),
            self.failures,
            self.called_again,
        )

    def dispatch(self, window: _Window) -> None:
        """Hand a window to the less busy of two workers."""
        there = self.workers if self.failures == 0 else [worker for worker in self.workers if worker.listed]
        if not there:
            self._stranded.append(window)
            return
        one, other = self.random.choice(there), self.random.choice(there)
        (one if len(one.windows) <= len(other.windows) else other).take(window)

    def take_stranded(self) -> None:
        """Hand out what came while nobody was there."""
        stranded, self._stranded = self._stranded, []
        for window in stranded:
            self.dispatch(window)

    def _ask(self, slack: float) -> _Window:
        window = _Window(self.env.now + slack, self.asked, self.curve.steps, self.env.event())
        self.asked += 1
        self.dispatch(window)
        return window

    def _arrive(self, rate: float) -> Process:
        while rate:
            yield self.env.timeout(self.random.expovariate(rate))
            self.env.process(self._table(self.random.lognormvariate(self._mu, self.load.spread), None))

    def _fail(self, worker: _Worker) -> Process:
        while True:
            yield self.env.timeout(self.random.expovariate(1 / (3600 * self.fleet.failure_hours)))
            if worker.listed:
                worker.process.interrupt()
            yield self.env.timeout(self.fleet.repair_seconds)

    def _table(self, seconds: float, ready: float | None) -> Process:
        """One table, as ``generator.session.Session`` serves it; ``None`` has yet to hear its first sound."""
        env, ends = self.env, self.env.now + seconds
        number = next(self._numbers)
        if ready is None:
            yield self._ask(URGENT_SECONDS).made
        runs_out = env.now + (self.curve.new_seconds if ready is None else ready)
        since = max(env.now, WARM_UP_SECONDS)
        wish = env.now + self._until_wish()
        while env.now < ends:
            self._playing[number] = since, runs_out
            room = runs_out - AHEAD_SECONDS
            if min(wish, room) > env.now:
                yield env.timeout(min(wish, room, ends) - env.now)
            if env.now >= ends:
                break
            if wish <= env.now:
                asked, wish = wish, wish + self._until_wish()
                while wish <= env.now:  # the newest wins
                    asked, wish = wish, wish + self._until_wish()
                yield self._ask(URGENT_SECONDS).made
                if asked >= WARM_UP_SECONDS:
                    self._changes.append(env.now - asked)
                landing = max(env.now, min(runs_out, env.now + HANDOVER_SECONDS))
                self._hold(runs_out, landing)
                runs_out = landing + self.curve.new_seconds
            else:
                window = self._ask(max(0.0, runs_out - env.now - HUNGRY_SECONDS))
                if self.fleet.overtaking and wish > env.now:
                    yield window.made | env.timeout(wish - env.now)
                    if not window.made.triggered:
                        window.dropped = True
                        self.dropped += 1
                        continue
                else:
                    yield window.made
                self._hold(runs_out, env.now)
                runs_out = max(runs_out, env.now) + self.curve.new_seconds
        del self._playing[number]
        self.played += max(0.0, env.now - since)

    def _until_wish(self) -> float:
        return self.random.expovariate(1 / self.load.change_seconds)

    def _hold(self, runs_out: float, until: float) -> None:
        self.held += max(0.0, until - max(runs_out, WARM_UP_SECONDS))


def simulate(curve: Curve, load: Load, fleet: Fleet, seconds: float, seed: int) -> Outcome:
    """So many seconds of music at all tables; the same seed, the same outcome."""
    return Queue(curve, load, fleet, seed).run(seconds)
