import heapq
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import discord
import pytest
from hypothesis import given, strategies

from bot.attendance import Attendance, Patience, Presence, listeners

HERE, AWAY, GONE = Presence.HERE, Presence.AWAY, Presence.GONE
PATIENCE = Patience(60, 600)


class Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Timer:
        timer = Timer(lambda: callback(*args))
        # Of two that are due at once asyncio may call either first: the later made is the harder case.
        heapq.heappush(self._timers, (when, -next(self._order), timer))
        return timer

    def pass_by(self, seconds: float) -> None:
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if not timer.cancelled:
                timer.callback()
        self._now = end

    @property
    def pending(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self._timers)


class Scene:
    def __init__(self, patience: Patience = PATIENCE, presence: Presence = HERE) -> None:
        self.clock = FakeClock()
        self.seen: list[Presence] = []
        self.attendance = Attendance(patience, self.changed, self.clock, presence)

    def changed(self) -> None:
        self.seen.append(self.attendance.presence)


def test_an_empty_table_pauses_after_a_minute_and_ends_after_ten() -> None:
    scene = Scene()
    scene.attendance.count(2)
    scene.clock.pass_by(10_000)
    scene.attendance.count(0)
    scene.clock.pass_by(59.9)
    assert scene.seen == []
    scene.clock.pass_by(0.2)
    assert scene.seen == [AWAY]
    scene.clock.pass_by(539.8)
    assert scene.seen == [AWAY]
    scene.clock.pass_by(0.2)
    assert scene.seen == [AWAY, GONE]
    assert scene.clock.pending == 0


def test_the_first_to_return_is_met_at_once() -> None:
    scene = Scene()
    scene.attendance.count(0)
    scene.clock.pass_by(300)
    scene.attendance.count(1)
    assert scene.seen == [AWAY, HERE]
    assert scene.clock.pending == 0


def test_comings_and_goings_among_nobody_do_not_prolong_it() -> None:
    scene = Scene()
    for _ in range(601):
        scene.attendance.count(0)  # e.g. a bot that comes and goes
        scene.clock.pass_by(1)
    assert scene.seen == [AWAY, GONE]


def test_whoever_comes_back_in_time_begins_it_anew() -> None:
    scene = Scene()
    for _ in range(20):
        scene.attendance.count(0)
        scene.clock.pass_by(59)
        scene.attendance.count(1)
    assert scene.seen == []


def test_after_a_restart_nobody_is_waited_for_until_the_end() -> None:
    scene = Scene(presence=AWAY)
    scene.attendance.count(0)
    scene.clock.pass_by(599)
    assert scene.seen == []
    scene.clock.pass_by(2)
    assert scene.seen == [GONE]


def test_other_patience_counts_from_when_the_table_became_empty() -> None:
    scene = Scene()
    scene.attendance.count(0)
    scene.clock.pass_by(30)
    scene.attendance.set_patience(Patience(20, 40))
    scene.clock.pass_by(0)
    assert scene.seen == [AWAY]
    scene.clock.pass_by(10)
    assert scene.seen == [AWAY, GONE]


def test_closed_it_says_nothing_more() -> None:
    scene = Scene()
    scene.attendance.count(0)
    scene.attendance.close()
    scene.clock.pass_by(10_000)
    assert scene.seen == []


seconds = strategies.integers(0, 20)
steps = strategies.lists(
    strategies.tuples(strategies.just("count"), strategies.integers(0, 2))
    | strategies.tuples(strategies.just("wait"), seconds)
    | strategies.tuples(strategies.just("patience"), strategies.tuples(seconds, seconds))
)


@given(steps)
def test_it_is_as_the_seconds_without_a_listener_say(todo: list[tuple[str, Any]]) -> None:
    """Against the rule in its own words, second by second."""
    scene = Scene(Patience(5, 10))
    patience, empty, expected = Patience(5, 10), None, HERE
    rank = [HERE, AWAY, GONE]
    for kind, value in todo:
        if kind == "count":
            scene.attendance.count(value)
            if value:
                empty, expected = None, HERE
            elif empty is None:
                empty = 0
        elif kind == "patience":
            patience = Patience(*value)
            scene.attendance.set_patience(patience)
        for _ in range(value if kind == "wait" else 0):
            scene.clock.pass_by(1)
            empty = None if empty is None else empty + 1
            expected = max(expected, reached(empty, patience), key=rank.index)
        scene.clock.pass_by(0)
        expected = max(expected, reached(empty, patience), key=rank.index)
        assert scene.attendance.presence is expected
    assert all(one is not other for one, other in itertools.pairwise(scene.seen))


def reached(empty: int | None, patience: Patience) -> Presence:
    if empty is None:
        return HERE
    if empty >= patience.leave_after:
        return GONE
    return AWAY if empty >= patience.pause_after else HERE


# Who listens


def channel(*present: tuple[str, bool, bool]) -> discord.VoiceChannel:
    """A channel with these in it: a person, a bot, the bot itself or a stranger; deafened by the server, by himself."""
    kinds = dict(enumerate(kind for kind, _, _ in present))
    states = {place: SimpleNamespace(deaf=deaf, self_deaf=own) for place, (_, deaf, own) in enumerate(present)}
    me = next((place for place, kind in kinds.items() if kind == "me"), -1)

    def get_member(user: int) -> Any:
        return None if kinds[user] == "stranger" else SimpleNamespace(bot=kinds[user] != "person")

    guild = SimpleNamespace(me=SimpleNamespace(id=me), get_member=get_member)
    return cast("discord.VoiceChannel", SimpleNamespace(voice_states=states, guild=guild))


@pytest.mark.parametrize(
    ("present", "count"),
    [
        ([], 0),
        ([("me", False, True)], 0),
        ([("me", False, False), ("bot", False, False)], 0),
        ([("me", False, True), ("person", False, False)], 1),
        ([("person", True, False), ("person", False, True), ("person", True, True)], 0),
        ([("stranger", False, False), ("person", False, False), ("stranger", False, True)], 2),
    ],
)
def test_bots_and_the_deafened_do_not_listen(present: list[tuple[str, bool, bool]], count: int) -> None:
    assert listeners(channel(*present)) == count
