"""One device, many tables: windows of several streams in one forward pass.

A window joins at the next denoising step, not at the next window: each row of a pass has a noise level of its own (in
serving language models, iteration-level scheduling: Yu et al. 2022, "Orca"). At each step the most urgent windows are
taken, by the earliest deadline (Liu & Layland 1973); the others pause where they are. A change of mood is overdue when
it is asked for, so it goes first; a window is due when its table's buffer has run low. Nobody starves: a deadline stays
where it is while those of newer requests move on.
"""

import math
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

from torch import OutOfMemoryError, Tensor

from generator.denoiser import Question
from generator.device import finish
from generator.engine import Engine, State, Wanted, Window
from generator.moods import MOODS
from generator.player import Player
from generator.protocol import FRAME_SECONDS, Controls
from generator.section import Section
from generator.stream import Stream

MOST_ROWS: Final = 256
#: A step of twice as many rows must be worth so much more throughput; else it only makes everybody wait longer.
WORTH: Final = 1.2


@dataclass(slots=True)
class _Making:
    """A window on its way."""

    due: float
    arrival: int
    engine: Engine
    steps: Generator[Question, Tensor, Window]
    wanted: Wanted
    question: Question | None = None  # none before the first step
    seconds: float = 0.0
    future: Future[Window] = field(default_factory=Future)


class Batcher:
    """The one thread that computes windows. Any thread may ask it for one, and waits."""

    def __init__(self, rows: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing to do yet.

        Args:
            rows: windows in one forward pass at most; see :func:`best_rows`.
            clock: seconds.
        """
        self.rows = rows
        self._clock = clock
        self._makings: list[_Making] = []
        self._arrivals = 0
        self._stopped = False
        self._news = threading.Condition()
        # A daemon: a step that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._loop, name="batcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """Drop the windows that are on their way, and wait up to ``timeout`` seconds for the step in hand."""
        with self._news:
            self._stopped = True
            self._news.notify()
        self._thread.join(timeout)

    def window(self, engine: Engine, state: State, section: Section, seed: int, slack: float, wanted: Wanted) -> Window:
        """Make a window, beside whatever others there are.

        Alone in its passes it is :meth:`Engine.window`'s to the bit; in company, to within bfloat16's rounding.

        Args:
            engine: whose.
            state: what was heard.
            section: what to play.
            seed: of all randomness.
            slack: seconds for which it can wait; below 0, somebody waits for it already.
            wanted: asked before each step; once it says no, the window is dropped.

        Raises:
            CancelledError: the window was dropped, or the batcher stopped.
            GenerationError: the model's output is not finite.
        """
        steps = engine.making(state, section, seed)
        with self._news:
            making = _Making(self._clock() + slack, self._arrivals, engine, steps, wanted)
            self._arrivals += 1
            self._makings.append(making)
            self._news.notify()
            if self._stopped:
                making.future.cancel()
        return making.future.result()

    def _loop(self) -> None:
        while chosen := self._wait():
            self._step(chosen)

    def _wait(self) -> list[_Making]:
        """The next step's windows; none when it is time to end."""
        with self._news:
            while not self._stopped:
                self._drop(lambda making: not making.wanted())
                if self._makings:
                    return self._choose()
                self._news.wait()
            self._drop(lambda _: True)
            return []

    def _drop(self, condition: Callable[[_Making], bool]) -> None:
        for making in [making for making in self._makings if condition(making)]:
            self._makings.remove(making)
            making.future.cancel()

    def _choose(self) -> list[_Making]:
        """The most urgent, and the most urgent of those that the same network can make beside it."""
        by_urgency = sorted(self._makings, key=lambda making: (making.due, making.arrival))
        return [making for making in by_urgency if making.engine is by_urgency[0].engine][: self.rows]

    def _step(self, chosen: list[_Making]) -> None:
        """One denoising step of each; whoever needs no other is done."""
        begun = [making for making in chosen if making.question is not None or self._go_on(making, None)]
        if not begun:
            return
        questions = [making.question for making in begun if making.question is not None]
        start = self._clock()
        engine = begun[0].engine
        try:
            answers = engine.answer(questions)
            finish(engine.device)
        except OutOfMemoryError as error:
            if len(begun) == 1:
                self._give_up(begun, error)
            self.rows = max(1, len(begun) // 2)  # and all are asked again, fewer at a time
            return
        except Exception as error:  # each caller's to handle; the thread lives on
            self._give_up(begun, error)
            return
        share = (self._clock() - start) / len(begun)
        for making, answer in zip(begun, answers, strict=True):
            making.seconds += share
            self._go_on(making, answer)

    def _go_on(self, making: _Making, answer: Tensor | None) -> bool:
        """Take a window to its next question; False once it has none."""
        start = self._clock()
        try:
            making.question = next(making.steps) if answer is None else making.steps.send(answer)
        except StopIteration as end:
            self._end(making)
            making.future.set_result(replace(end.value, seconds=making.seconds + self._clock() - start))
            return False
        except Exception as error:  # the caller's to handle
            self._give_up([making], error)
            return False
        making.seconds += self._clock() - start
        return True

    def _give_up(self, makings: list[_Making], error: Exception) -> None:
        for making in makings:
            self._end(making)
            making.future.set_exception(error)

    def _end(self, making: _Making) -> None:
        with self._news:
            self._makings.remove(making)


def best_rows(engine: Engine, most: int = MOST_ROWS, clock: Callable[[], float] = time.perf_counter) -> int:
    """Windows in a pass: as many as make the device faster, doubled for as long as that pays.

    A CPU is as busy with one window as with two, and then one at a time is soonest done; a GPU is not.
    """
    steps = engine.making(engine.beginning(), Section(Controls(MOODS[0]), 0, 0), 0)
    question = next(steps)
    steps.close()
    rows, best = 1, math.inf
    while rows <= most:
        try:
            seconds = _seconds(engine, [question] * rows, clock) / rows
        except OutOfMemoryError:
            break
        if seconds * WORTH > best:
            break
        best, rows = seconds, 2 * rows
    return max(1, rows // 2)


def _seconds(engine: Engine, questions: list[Question], clock: Callable[[], float]) -> float:
    """What a pass takes that is not the first of its kind."""
    for _ in range(2):
        begun = clock()
        engine.answer(questions)
        finish(engine.device)
        took = clock() - begun
    return took


def real_time_factor(player: Player, rows: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """How much faster than it is heard music is made, ``rows`` windows at a time.

    Of second windows: the first are the slowest, and nobody shall have to wait for them.
    """
    streams = [player.stream(seed, Controls(MOODS[seed % len(MOODS)])) for seed in range(rows)]
    with ThreadPoolExecutor(rows) as threads:
        for _ in range(2):
            begun = clock()
            chunks = list(threads.map(Stream.advance, streams))
            took = clock() - begun
    return sum(len(chunk.frames) for chunk in chunks) * FRAME_SECONDS / max(took, 1e-6)
