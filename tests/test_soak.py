"""The soak finds what is wrong, takes nothing right for wrong, and a short one passes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.soak import company as companies
from benchmarks.soak import play, troubles
from benchmarks.soak.__main__ import figures
from benchmarks.soak.company import Company
from benchmarks.soak.hearing import SILENT, Heard, gains
from benchmarks.soak.process import Census
from benchmarks.soak.scene import LATE, Scene
from bot.fake import AMPLITUDE, PITCHES, FakeGenerator
from generator.moods import MOODS, Mood
from generator.protocol import SAMPLE_RATE, Controls
from tests.discord_server import DiscordServer, Guild
from tests.discord_server.world import User

SAD, TOWN = Mood("sad"), Mood("town")
SCENE = Scene(volume=50, pause_after=4, leave_after=20)
PLAYING = SCENE.played(7, Controls(SAD))
EXACT = Heard(7, 1, dict.fromkeys(MOODS, 0.0) | {SAD: 0.25})

moods = st.sampled_from(MOODS)


@given(moods, st.none() | moods, st.sampled_from([0.04, 0.25, 1.0]))
def test_what_plays_is_told_from_its_sound(mood: Mood, blend: Mood | None, gain: float) -> None:
    seconds = np.arange(round(0.4 * SAMPLE_RATE)) / SAMPLE_RATE
    controls = Controls(mood, 3, blend if blend != mood else None)
    share = gain * AMPLITUDE / 32_768 / len(controls.moods)
    mono = sum((share * np.sin(2 * np.pi * PITCHES[each] * seconds) for each in controls.moods), np.zeros(len(seconds)))
    heard = Heard(1, 1, gains(np.stack([mono, mono], axis=1).astype(np.float32)))
    assert heard.plays(controls, gain)
    assert not heard.silent
    assert not heard.plays(controls, 2 * gain)
    assert not heard.plays(controls, gain / 2)
    assert not any(heard.plays(Controls(other), gain) for other in MOODS if other not in controls.moods)


async def a_company(scene: Scene) -> Company:
    return Company(DiscordServer(), Guild("guild", User("bot", bot=True)), scene, lambda _: None)


@pytest.mark.parametrize(
    ("scene", "heard", "agrees"),
    [
        (PLAYING, EXACT, True),
        (PLAYING, replace(EXACT, connections=2), False),
        (PLAYING, replace(EXACT, connections=0), False),
        (PLAYING, replace(EXACT, place=8), False),
        (PLAYING, replace(EXACT, gains=dict.fromkeys(MOODS, 0.0)), False),
        (PLAYING, replace(EXACT, gains=dict.fromkeys(MOODS, 0.0) | {TOWN: 0.25}), False),
        (PLAYING, replace(EXACT, gains=dict.fromkeys(MOODS, 0.0) | {SAD: 0.36}), False),
        (PLAYING, replace(EXACT, gains=EXACT.gains | {TOWN: 0.1}), False),
        (PLAYING.paused(), EXACT, False),
        (PLAYING.paused(), replace(EXACT, gains=dict.fromkeys(MOODS, SILENT / 2)), True),
        (replace(PLAYING, volume=0), EXACT, False),
        (SCENE, Heard(None, 0, dict.fromkeys(MOODS, 0.0)), True),
        (SCENE, EXACT, False),
    ],
)
async def test_what_is_heard_is_held_against_what_should_be(scene: Scene, heard: Heard, agrees: bool) -> None:
    there = await a_company(scene)
    assert there._agrees(scene, heard, 0.0) == agrees


def test_an_empty_table_falls_silent_and_ends() -> None:
    empty = PLAYING.counted(0, 100.0).seen(100.2)
    assert empty.pass_by(110.0) == {empty}
    assert empty.pass_by(121.0) == {empty, SCENE}
    assert empty.pass_by(121.0 + LATE) == {SCENE}
    assert (empty.may_sound(101.0), empty.may_be_silent(101.0)) == (True, False)
    assert (empty.may_sound(105.0), empty.may_be_silent(105.0)) == (True, True)
    assert (empty.may_sound(111.0), empty.may_be_silent(111.0)) == (False, True)
    assert empty.counted(1, 111.0) == PLAYING
    asleep = PLAYING.restarted().counted(0, 100.0)
    assert asleep.place is None
    assert asleep.counted(2, 101.0).place == 7


def test_what_is_left_over_is_a_leak_and_what_waits_for_work_is_none() -> None:
    before = Census(Counter({"task discord: Client.start": 1, "TCP": 2, "asyncio thread": 1}), 90.0)
    assert Census(before.held + Counter({"TCP": 3, "asyncio thread": 4}), 95.0).leaks(before) == {}
    assert Census(before.held + Counter({"thread voice-player": 1}), 95.0).leaks(before) == {"thread voice-player": 1}
    assert Census(before.held + Counter({"TCP": 50}), 95.0).leaks(before) == {"TCP": 50}


@pytest.mark.timeout(240)
async def test_a_short_soak() -> None:
    soak = await play.play(seed=1, tables=1, steps=range(3), minutes=2.0)
    assert soak.violation is None, "\n".join([soak.violation, *soak.trail, soak.log])
    assert soak.steps == soak.acts.total() == 3
    assert figures(soak)["violation"] is None


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [11, 12])
async def test_a_longer_soak(seed: int) -> None:
    soak = await play.play(seed=seed, tables=3, steps=range(100), minutes=8.0)
    assert soak.violation is None, "\n".join([soak.violation, *soak.trail, soak.log])


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_change_that_never_comes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companies, "SETTLE_SECONDS", 5.0)
    monkeypatch.setattr(FakeGenerator, "deaf", property(lambda _: True, lambda *_: None), raising=False)
    monkeypatch.setattr(troubles, "draw", lambda _: troubles.TROUBLES[0])
    soak = await play.play(seed=1, tables=1, steps=range(20), minutes=2.0)
    assert soak.violation is not None
    assert "due:" in soak.violation
