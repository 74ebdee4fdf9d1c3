"""Many tables on one device: who goes first, who joins whom, and that the music is the same."""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from generator.batching import Batcher, best_rows, real_time_factor
from generator.denoiser import Question
from generator.engine import Engine, GenerationError, State, Window
from generator.moods import Mood
from generator.player import Player
from generator.protocol import Controls
from generator.section import Section
from generator.stream import URGENT
from tests.generator.tiny import CPU, TINY, tiny_checkpoint, tiny_engine

STEPS = 3
TAVERN, FIGHT = Controls(Mood("tavern")), Controls(Mood("fight"))
ANY = Section(TAVERN, 0, 0)


class Slate(Engine):
    """Windows without a model: ``STEPS`` questions each, told apart by their seed; notes which go together."""

    def __init__(self, most: int = 1_000, cost: Callable[[int], float] = lambda rows: 0.0) -> None:
        self.device, self.most, self.cost = CPU, most, cost
        self.config = TINY
        self.passes: list[list[int]] = []
        self.now = 0.0
        self.gate = threading.Semaphore(0)  #: a pass each
        self.gated = False
        self.entered = threading.Semaphore(0)
        self.broken: set[int] = set()

    def making(self, state: State, section: Section, seed: int) -> Generator[Question, Tensor, Window]:
        for step in range(STEPS):
            answer = yield self._question(seed)
            if seed in self.broken and step == 1:
                raise GenerationError("broken")
            assert answer.item() == seed  # one's own and nobody else's
        return Window(seed, np.zeros(0, np.float32), np.zeros((0, 0), np.float32))

    def answer(self, questions: Sequence[Question]) -> list[Tensor]:
        self.now += self.cost(len(questions))
        self.passes.append([int(question.level.item()) for question in questions])
        self.entered.release()
        if self.gated:
            assert self.gate.acquire(timeout=10)
        if len(questions) > self.most:
            raise torch.OutOfMemoryError
        return [question.level.clone() for question in questions]

    def beginning(self, position: int = 0) -> State:
        return State(position, None, np.zeros((0, 0), np.float32), np.zeros(0, np.float32))

    @staticmethod
    def _question(seed: int) -> Question:
        empty = torch.zeros(1, 0)
        return Question(empty, torch.tensor([float(seed)]), empty, empty, empty, empty)


class Party:
    """Tables that ask a batcher, each on a thread of its own; time stands still unless it is moved."""

    def __init__(self, rows: int, engine: Slate | None = None) -> None:
        self.now = 0.0
        self.engine = engine or Slate()
        self.batcher = Batcher(rows, clock=lambda: self.now)
        self.threads = ThreadPoolExecutor(64)
        self.gone: set[int] = set()

    def ask(self, seed: int, slack: float = 0.0, engine: Slate | None = None) -> Future[Window]:
        """Ask for a window, and return once the batcher knows of it."""
        before = len(self.batcher._makings)
        asked = self.threads.submit(
            self.batcher.window,
            engine or self.engine,
            self.engine.beginning(),
            ANY,
            seed,
            slack,
            lambda: seed not in self.gone,
        )
        until = time.monotonic() + 10
        while len(self.batcher._makings) == before and not asked.done():
            assert time.monotonic() < until
            time.sleep(0.001)
        return asked

    def play(self, *asked: Future[Window]) -> list[list[int]]:
        """Begin, wait until all are answered, and tell which windows shared which passes."""
        self.batcher.start()
        for each in asked:
            each.result(10)
        return self.engine.passes


@contextmanager
def party(rows: int, engine: Slate | None = None) -> Iterator[Party]:
    made = Party(rows, engine)
    try:
        yield made
    finally:
        made.engine.gate.release(1_000)
        if made.batcher._thread.ident is not None:
            made.batcher.stop(10)
            assert not made.batcher.alive
        made.threads.shutdown()


def test_windows_share_passes_up_to_the_rows_and_each_gets_its_own_answers() -> None:
    with party(rows=3) as tables:
        asked = [tables.ask(seed) for seed in range(5)]
        assert tables.play(*asked) == [[0, 1, 2]] * STEPS + [[3, 4]] * STEPS
        assert [each.result().begin for each in asked] == list(range(5))


def test_who_comes_meanwhile_joins_at_the_next_step() -> None:
    with party(rows=4) as tables:
        tables.engine.gated = True
        one = tables.ask(1)
        tables.batcher.start()
        assert tables.engine.entered.acquire(timeout=10)
        two = tables.ask(2)
        tables.engine.gate.release(1_000)
        assert [one.result(10).begin, two.result(10).begin] == [1, 2]
        assert tables.engine.passes == [[1], [1, 2], [1, 2], [2]]


def test_a_change_goes_first_and_then_the_emptiest_buffer() -> None:
    with party(rows=1) as tables:
        asked = [tables.ask(1, slack=3.0), tables.ask(2, slack=0.5), tables.ask(3, slack=URGENT), tables.ask(4, 0.0)]
        passes = tables.play(*asked)
        assert passes == [[seed] for seed in (3, 4, 2, 1) for _ in range(STEPS)]


def test_a_change_does_not_wait_for_the_window_in_hand() -> None:
    with party(rows=1) as tables:
        tables.engine.gated = True
        window = tables.ask(1, slack=2.0)
        tables.batcher.start()
        assert tables.engine.entered.acquire(timeout=10)
        change = tables.ask(2, slack=URGENT)
        tables.engine.gate.release(1_000)
        assert (change.result(10).begin, window.result(10).begin) == (2, 1)
        assert tables.engine.passes == [[1], [2], [2], [2], [1], [1]]


@given(
    whims=st.lists(st.floats(0.01, 0.5), min_size=40, max_size=60),
    slack=st.floats(0, 3),
)
def test_nobody_starves_however_many_change_their_mood(whims: list[float], slack: float) -> None:
    """One window, and changes without end: it is begun once those that come are younger than its slack and a second."""
    now = 0.0
    batcher = Batcher(1, clock=lambda: now)
    engine = Slate()

    def put(seed: int, slack: float) -> None:
        thread = threading.Thread(
            target=batcher.window, args=(engine, engine.beginning(), ANY, seed, slack, lambda: True), daemon=True
        )
        known = len(batcher._makings)
        thread.start()
        while len(batcher._makings) == known:
            time.sleep(0)

    put(0, slack)
    for number, whim in enumerate(whims, 1):
        if batcher._choose()[0].arrival == 0:
            break
        batcher._makings = batcher._makings[:1]  # whoever went before is served
        now += whim
        put(number, URGENT)
    assert now <= slack - URGENT + 0.5 + 1e-9


def test_two_models_take_turns_by_urgency_and_never_share_a_pass() -> None:
    with party(rows=4) as tables:
        other = Slate()
        other.passes = tables.engine.passes
        asked = [tables.ask(1, 0.0), tables.ask(2, 1.0, other), tables.ask(3, 2.0)]
        assert tables.play(*asked) == [[1, 3]] * STEPS + [[2]] * STEPS


def test_a_window_that_nobody_waits_for_is_dropped_wherever_it_is() -> None:
    with party(rows=1) as tables:
        tables.engine.gated = True
        begun, waiting, last = tables.ask(1), tables.ask(2, 1.0), tables.ask(3, 2.0)
        tables.batcher.start()
        assert tables.engine.entered.acquire(timeout=10)
        tables.gone |= {1, 2}
        tables.engine.gate.release(1_000)
        assert last.result(10).begin == 3
        for gone in (begun, waiting):
            with pytest.raises(CancelledError):
                gone.result(10)
        assert tables.engine.passes == [[1], [3], [3], [3]]


def test_a_broken_window_is_its_own_tables_trouble() -> None:
    with party(rows=3) as tables:
        tables.engine.broken = {2}
        asked = [tables.ask(seed) for seed in (1, 2, 3)]
        tables.batcher.start()
        assert [asked[0].result(10).begin, asked[2].result(10).begin] == [1, 3]
        with pytest.raises(GenerationError, match="broken"):
            asked[1].result(10)
        assert tables.ask(4).result(10).begin == 4


def test_too_many_for_the_memory_are_asked_again_fewer_at_a_time() -> None:
    with party(rows=8, engine=Slate(most=3)) as tables:
        asked = [tables.ask(seed) for seed in range(6)]
        passes = tables.play(*asked)
        assert [len(rows) for rows in passes[:3]] == [6, 3, 3]
        assert tables.batcher.rows == 3


def test_one_that_is_too_large_alone_is_refused() -> None:
    with party(rows=1, engine=Slate(most=0)) as tables:
        asked = tables.ask(1)
        tables.batcher.start()
        with pytest.raises(torch.OutOfMemoryError):
            asked.result(10)


def test_what_a_window_cost_is_its_share_of_the_passes() -> None:
    engine = Slate(cost=lambda rows: 0.1 + 0.02 * rows)
    with party(rows=4, engine=engine) as tables:
        tables.batcher._clock = lambda: engine.now
        asked = [tables.ask(seed) for seed in range(4)]
        tables.play(*asked)
        seconds = [each.result().seconds for each in asked]
        assert seconds == pytest.approx([STEPS * 0.18 / 4] * 4)
        assert sum(seconds) == pytest.approx(engine.now)


def test_whoever_waits_when_it_stops_is_told() -> None:
    with party(rows=1) as tables:
        tables.engine.gated = True
        asked = [tables.ask(1), tables.ask(2)]
        tables.batcher.start()
        assert tables.engine.entered.acquire(timeout=10)
        tables.engine.gate.release(1)
        threading.Timer(0.1, tables.engine.gate.release, [1_000]).start()
        tables.batcher.stop(10)
        for each in (*asked, tables.ask(3)):
            with pytest.raises(CancelledError):
                each.result(10)


# The music


def windows(engine: Engine, rows: int, count: int) -> list[Window]:
    batcher = Batcher(rows)
    states = [engine.beginning(4 * number) for number in range(count)]
    sections = [Section(FIGHT if number % 2 else TAVERN, number, 0) for number in range(count)]
    with ThreadPoolExecutor(count) as threads:
        asked = [
            threads.submit(batcher.window, engine, state, section, seed, 0.0, lambda: True)
            for seed, (state, section) in enumerate(zip(states, sections, strict=True))
        ]
        while len(batcher._makings) < count:
            time.sleep(0.001)
        batcher.start()
        made = [each.result(30) for each in asked]
    batcher.stop(10)
    return made


def test_alone_in_its_passes_a_window_is_the_engines_own_to_the_bit() -> None:
    engine = tiny_engine()
    for seed, made in enumerate(windows(engine, 1, 3)):
        own = engine.window(engine.beginning(4 * seed), Section(FIGHT if seed % 2 else TAVERN, seed, 0), seed)
        assert np.array_equal(made.mel, own.mel)
        assert np.array_equal(made.sound, own.sound)


def test_in_company_it_is_the_same_but_for_rounding() -> None:
    engine = Engine(tiny_checkpoint(), CPU)
    engine.bf16 = False
    engine.network.float()
    for one, many in zip(windows(engine, 1, 5), windows(engine, 5, 5), strict=True):
        assert many.begin == one.begin
        np.testing.assert_allclose(many.mel, one.mel, atol=1e-4)


def test_streams_through_a_batcher_play_what_they_play_alone() -> None:
    batcher = Batcher(1)
    batcher.start()
    shared, own = Player(tiny_engine(), batcher.window), Player(tiny_engine())

    def heard(player: Player, seed: int) -> bytes:
        stream = player.stream(seed, TAVERN)
        return b"".join(frame for _ in range(3) for frame in stream.advance(0.0).frames)

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda seed: heard(shared, seed), range(4)))
    batcher.stop(10)
    assert together == [heard(own, seed) for seed in range(4)]
    assert len(set(together)) == 4


# What is measured at the start


@pytest.mark.parametrize(
    ("cost", "most", "rows"),
    [
        (lambda rows: 0.06 * rows, 1_000, 1),  # a CPU: twice the rows, twice the time
        (lambda rows: max(0.01, 0.001 * rows), 1_000, 16),  # a GPU that is full with ten
        (lambda rows: 0.01, 8, 8),  # ... or out of memory beyond eight
        (lambda rows: 0.01, 1_000, 256),
    ],
    ids=["cpu", "gpu", "memory", "endless"],
)
def test_as_many_rows_as_make_it_faster(cost: Callable[[int], float], most: int, rows: int) -> None:
    engine = Slate(most, cost)
    assert best_rows(engine, clock=lambda: engine.now) == rows


def test_the_real_time_factor_is_that_of_second_windows_made_together() -> None:
    ticks = iter([0.0, 100.0, 200.0, 202.0])
    engine = tiny_engine()
    factor = real_time_factor(Player(engine), 2, clock=lambda: next(ticks))
    assert factor == pytest.approx(2 * engine.new_frames * 0.02 / 2.0)
