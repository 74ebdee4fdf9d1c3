import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.composer import COLUMN_FRAMES
from generator.engine import Engine, Sound, State, Wanted, Window
from generator.leveller import Leveller
from generator.mixing import CEILING, KNEE, LOUDEST, limit, tame, to_pcm
from generator.moods import MOODS, Mood
from generator.player import Player
from generator.protocol import (
    AHEAD_FRAMES,
    CHANNELS,
    FRAME_BYTES,
    FRAME_SAMPLES,
    MAX_FRAME_INDEX,
    TRANSITIONS,
    Controls,
    Transition,
)
from generator.section import Section
from generator.stream import ATTACK, HANDOVER, RAMP, Chunk, Stream
from tests.generator.tone_engine import LEVEL, ToneEngine

TOWN, FIGHT, SAD = (Controls(Mood(name)) for name in ("town", "fight", "sad"))
BLIND = pytest.mark.parametrize("blind", [False, True], ids=["continued", "blind"])


def still(frame: int) -> Callable[[], int]:
    return lambda: frame


def passing(*frames: int) -> Callable[[], int]:
    """An ear that is elsewhere each time it is asked."""
    places = iter(frames)
    return lambda: next(places)


def mono(frames: tuple[bytes, ...]) -> Sound:
    """Both channels' mean, full scale ±1."""
    pcm = np.frombuffer(b"".join(frames), "<i2").reshape(-1, CHANNELS)
    sound: Sound = (pcm.mean(1) / 32_767).astype(np.float32)
    return sound


def near(one: Sound, two: Sound | float, tolerance: float = 1e-3) -> bool:
    return bool(np.abs(one - two).max(initial=0) < tolerance)


class Client:
    """What a listener has: frames by place, later ones in place of earlier."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.frames, self.first = stream, dict[int, bytes](), stream.end

    def take(self, chunk: Chunk) -> Chunk:
        self.frames = {place: frame for place, frame in self.frames.items() if place < chunk.start}
        self.frames |= {chunk.start + at: frame for at, frame in enumerate(chunk.frames)}
        return chunk

    def fill(self, end: int) -> None:
        while self.stream.end < end:
            self.take(self.stream.advance())

    def sound(self, begin: int | None = None, end: int | None = None) -> Sound:
        places = range(self.first if begin is None else begin, self.stream.end if end is None else end)
        return mono(tuple(self.frames[place] for place in places))


ASLEEP = Leveller(reach=0.0)  #: leaves the engine's tones as they are


def begin(
    engine: ToneEngine,
    controls: Controls = TOWN,
    volume: float = 1.0,
    start: int = 0,
    seed: int = 5,
    leveller: Leveller = ASLEEP,
) -> Client:
    return Client(Stream(engine, seed, controls, volume, start, engine.clock, leveller))


moods = st.builds(
    Controls, st.sampled_from(MOODS), st.sampled_from((1, 3, 5)), st.none() | st.sampled_from((TOWN.mood, SAD.mood))
)
transitions = st.sampled_from(TRANSITIONS)
#: Where the ear is, seen from the end of what was made; and how far it runs while a window is computed.
places, runs = st.integers(-1_000, 900), st.integers(0, 400)
steps = st.one_of(
    st.tuples(st.just("advance")),
    st.tuples(st.just("change"), moods, places, runs, transitions),
    st.tuples(st.just("volume"), st.floats(0, 1), places),
)


@BLIND
@given(script=st.lists(steps, max_size=12), start=st.sampled_from([0, 123, MAX_FRAME_INDEX]), volume=st.floats(0, 1))
@settings(max_examples=40)
def test_whatever_is_asked_frames_are_whole_in_a_row_and_never_clipped(
    blind: bool, script: list[tuple[object, ...]], start: int, volume: float
) -> None:
    engine = ToneEngine(blind, level=2.0)
    client = begin(engine, volume=volume, start=start, leveller=Leveller())
    stream = client.stream
    for step in script:
        before, section = stream.end, stream.section
        match step:
            case ("change", Controls() as controls, int() as place, int() as run, ("sudden" | "slow") as way):
                ear = max(0, before + place)
                chunk = client.take(stream.change(controls, passing(ear, ear + run), way))
                assert stream.section.controls == controls
                assert chunk.lands == chunk.start
            case ("volume", float() as wanted, int() as place):
                chunk = client.take(stream.set_volume(wanted, max(0, before + place)))
                assert (stream.end, stream.section, chunk.lands) == (before, section, None)
            case _:
                chunk = client.take(stream.advance())
                assert chunk.start == before
                assert stream.end > before
                assert chunk.lands == (start if before == start else None)
        assert start <= chunk.start <= before
        assert chunk.start + len(chunk.frames) == stream.end
        assert all(len(frame) == FRAME_BYTES for frame in chunk.frames)
        assert sorted(client.frames) == list(range(start, stream.end))
    if client.frames:
        pcm = np.frombuffer(b"".join(client.frames.values()), "<i2")
        assert np.abs(pcm.astype(int)).max() <= round(CEILING * 32_767)
        # What the listener has is what the stream takes as heard when it splices.
        first = min(stream.end, stream._base + 2)  # what was wide before that is forgotten
        kept = mono(stream._render(first, stream.end))
        assert near(kept, client.sound(first), 2.1 / 32_767)


def test_a_change_that_comes_too_late_for_its_window_leaves_the_level_as_it_was() -> None:
    """Twice within a first window of a model without a prefix; the second is heard at the end of the first."""
    engine = ToneEngine(blind=True, level=2.0)
    client = begin(engine, start=123, leveller=Leveller())
    client.take(client.stream.advance())
    for run in (0, 55):
        ear = client.stream.end - 70
        client.take(client.stream.change(SAD, passing(ear, ear + run)))
    first = client.stream._base + 2
    assert near(mono(client.stream._render(first, client.stream.end)), client.sound(first), 2.1 / 32_767)


@given(script=st.lists(steps, max_size=8), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_same_requests_get_the_same_stream(script: list[tuple[object, ...]], seed: int) -> None:
    def play() -> tuple[list[Chunk], list[int]]:
        engine, chunks = ToneEngine(), []
        stream = Stream(engine, seed, TOWN, clock=engine.clock)
        for step in script:
            match step:
                case ("change", Controls() as controls, int() as place, int() as run, ("sudden" | "slow") as way):
                    ear = max(0, stream.end + place)
                    chunks.append(stream.change(controls, passing(ear, ear + run), way))
                case ("volume", float() as wanted, int() as place):
                    chunks.append(stream.set_volume(wanted, max(0, stream.end + place)))
                case _:
                    chunks.append(stream.advance())
        return chunks, [call.seed for call in engine.calls]

    assert play() == play()


def test_every_window_has_a_seed_of_its_own_and_another_stream_others() -> None:
    seeds = []
    for seed in (1, 2):
        engine = ToneEngine()
        begin(engine, seed=seed).fill(500)
        seeds += [call.seed for call in engine.calls]
    assert len(set(seeds)) == len(seeds)


# What the engine is told


@given(ear=st.integers(0, 300), ahead=st.integers(1, 400))
@settings(max_examples=15)
def test_a_state_is_what_was_heard_in_whole_columns(ear: int, ahead: int) -> None:
    engine = ToneEngine(prefix=40)
    client = begin(engine)
    client.fill(ear + ahead)
    heard, old = client.sound(), client.stream.section
    client.take(client.stream.change(FIGHT, still(ear)))
    assert engine.calls[-1].state.section == old
    client.fill(client.stream.end + 1)
    for call in engine.calls[1:]:
        state, lead = call.state, len(call.state.sound) // FRAME_SAMPLES
        assert state.mel.shape[1] <= engine.config.prefix
        assert state.mel.shape[1] % (COLUMN_FRAMES * engine.mels_a_frame) == 0
        grows = call.section.origin != state.position
        assert state.mel.shape[1] == engine.mels_a_frame * (lead + (engine.overlap if grows else 0))
        if not grows:
            there = heard[(state.position - lead) * FRAME_SAMPLES : state.position * FRAME_SAMPLES]
            assert near(state.sound, there)


def test_a_stream_that_goes_on_always_has_its_whole_prefix() -> None:
    engine = ToneEngine()
    begin(engine).fill(600)
    assert all(call.state.mel.shape[1] == engine.config.prefix for call in engine.calls[1:])
    assert all(len(call.state.sound) == engine.lead * FRAME_SAMPLES for call in engine.calls[1:])
    assert [call.state.position for call in engine.calls] == [0, *itertools.accumulate([60, *[48] * 12])][
        : len(engine.calls)
    ]


def test_blind_windows_are_told_nothing() -> None:
    engine = ToneEngine(blind=True)
    begin(engine).fill(600)
    assert all(call.state.section is None and not call.state.sound.size for call in engine.calls)


# Changes of mood


@BLIND
@given(ear=st.integers(0, 800), intensity=st.integers(1, 5))
@settings(max_examples=15)
def test_a_change_lands_on_the_first_beat_that_can_be_reached(blind: bool, ear: int, intensity: int) -> None:
    engine = ToneEngine(blind)
    client = begin(engine, Controls(Mood("town"), intensity))
    client.fill(ear + AHEAD_FRAMES)
    old = client.stream.section
    chunk = client.take(client.stream.change(FIGHT, still(ear)))
    reach = ear + 5 + HANDOVER  # the engine takes 100 ms
    assert chunk.lands in (old.next_beat(reach), old.next_beat(reach + 1))  # the mean of costs rounds up at times
    new = client.stream.section
    assert new.origin == chunk.lands
    assert new.tonic(new.origin) == old.tonic(new.origin)


def test_the_newest_mood_governs_every_later_window() -> None:
    engine = ToneEngine()
    client = begin(engine)
    client.fill(400)
    client.take(client.stream.change(FIGHT, still(10)))
    client.take(client.stream.change(SAD, still(40)))
    client.fill(900)
    assert {call.section for call in engine.calls[-8:]} == {client.stream.section}
    assert client.stream.section.controls == SAD
    assert near(client.sound(client.stream.end - 10), engine.tone(client.stream.section, 0, 10))


@BLIND
def test_before_the_landing_all_stays_as_it_was_and_after_it_is_the_new_mood(blind: bool) -> None:
    engine = ToneEngine(blind)
    client = begin(engine)
    client.fill(400)
    before = client.sound()
    chunk = client.take(client.stream.change(FIGHT, still(50)))
    assert chunk.lands is not None
    fade = engine.overlap if blind else ATTACK
    lands = chunk.lands * FRAME_SAMPLES
    assert np.array_equal(client.sound()[:lands], before[:lands])
    after = engine.tone(client.stream.section, 0, len(chunk.frames))
    tail = slice(fade * FRAME_SAMPLES, None)
    assert near(mono(chunk.frames)[tail], after[tail])


def test_a_change_that_comes_late_joins_the_same_music_where_the_ear_can_be_reached() -> None:
    engine = ToneEngine()
    client = begin(engine)
    client.fill(400)
    before, old = client.sound(), client.stream.section
    chunk = client.take(client.stream.change(FIGHT, passing(50, 95)))
    new = client.stream.section
    assert chunk.start == chunk.lands == 95 + HANDOVER
    assert new.origin == old.next_beat(new.origin) < chunk.start
    assert np.array_equal(client.sound()[: chunk.start * FRAME_SAMPLES], before[: chunk.start * FRAME_SAMPLES])
    # Until the splice it is the old mood that was heard, whatever its beats say.
    assert client.stream._section_at(chunk.start - 1) == old
    assert client.stream._section_at(chunk.start) == new
    column = (chunk.start - client.stream._base) * engine.mels_a_frame
    moods = client.stream._mel[0]
    assert set(moods[:column]) == {MOODS.index(TOWN.mood)}
    assert set(moods[column:]) == {MOODS.index(FIGHT.mood)}


@BLIND
def test_a_change_that_comes_far_too_late_still_goes_on_from_the_end(blind: bool) -> None:
    client = begin(ToneEngine(blind))
    client.fill(300)
    chunk = client.take(client.stream.change(FIGHT, passing(20, 5_000)))
    assert chunk.frames == ()
    assert client.take(client.stream.advance()).start == chunk.start
    assert client.stream._section_at(client.stream.end).controls == FIGHT


def test_a_change_that_lands_before_an_earlier_one_takes_its_place() -> None:
    engine = ToneEngine()
    client = begin(engine)
    client.fill(500)
    town = client.stream.section
    first = client.take(client.stream.change(FIGHT, still(200)))
    second = client.take(client.stream.change(SAD, still(100)))
    assert engine.calls[-1].state.section == town
    assert first.start > second.start + 20
    sections = {client.stream._section_at(place) for place in range(client.stream.end + 500)}
    assert sections == {town, client.stream.section}
    client.fill(client.stream.end + 1)
    assert engine.calls[-1].state.section == client.stream.section


def test_a_change_before_the_first_sound_begins_in_the_new_mood() -> None:
    engine = ToneEngine()
    client = begin(engine, start=70)
    chunk = client.take(client.stream.change(FIGHT, still(0)))
    assert (chunk.start, chunk.lands) == (70, 70)
    assert near(client.sound(), engine.tone(client.stream.section, 70, len(chunk.frames)))


def test_a_slower_engine_is_asked_for_a_later_beat() -> None:
    lands = []
    for cost in (0.1, 2.0):
        client = begin(ToneEngine(cost=cost))
        client.fill(AHEAD_FRAMES)
        lands.append(client.stream.change(FIGHT, still(0)).start)
        assert lands[-1] >= cost * 50 + HANDOVER
    assert lands[0] < lands[1]


def test_a_new_mood_begins_in_the_key_that_was_heard() -> None:
    client = begin(ToneEngine(blind=True), seed=5)
    old = client.stream.section
    far = next(frame for frame in range(0, 60_000, 100) if old.tonic(frame) != old.tonic(0))
    client.fill(far + AHEAD_FRAMES)
    client.take(client.stream.change(FIGHT, still(far)))
    new = client.stream.section
    assert new.tonic(new.origin) == old.tonic(new.origin) != old.tonic(0)


def test_a_slow_change_sets_out_on_a_bar_and_arrives_on_another() -> None:
    engine = ToneEngine()
    client = begin(engine)
    client.fill(500)
    town = client.stream.section
    chunk = client.take(client.stream.change(FIGHT, still(60), "slow"))
    assert chunk.lands == town.next_bar(60 + 5 + HANDOVER)
    new = client.stream.section
    assert new.bridge is not None
    assert new.bridge.origin == chunk.lands
    assert new.origin == new.next_bar(new.origin - 1)
    client.fill(new.origin + 200)
    on_the_way = [call for call in engine.calls if call.section == new]
    fight = [call.section.shares(call.state.position)[MOODS.index(FIGHT.mood)] for call in on_the_way]
    assert fight == sorted(fight)
    assert fight[0] < 0.01
    assert fight[-1] == 1
    assert any(0.3 < share < 0.7 for share in fight)
    assert {call.state.section for call in on_the_way} == {town, new}


def test_before_anything_sounds_there_is_nothing_to_turn_from_slowly() -> None:
    client = begin(ToneEngine())
    client.take(client.stream.change(FIGHT, still(0), "slow"))
    assert client.stream.section.bridge is None


def test_what_a_bridge_leads_to_may_come_at_once() -> None:
    client = begin(ToneEngine())
    client.fill(500)
    client.take(client.stream.change(FIGHT, still(20), "slow"))
    slow = client.stream.section
    assert slow.bridge is not None
    ear = slow.bridge.origin + 100
    client.fill(ear + AHEAD_FRAMES)
    client.take(client.stream.change(FIGHT, still(ear), "slow"))
    assert client.stream.section == slow
    chunk = client.take(client.stream.change(FIGHT, still(ear), "sudden"))
    assert chunk.lands == slow.next_beat(ear + 5 + HANDOVER) < slow.origin
    assert client.stream.section.at(chunk.start) == client.stream.section
    client.take(client.stream.change(FIGHT, still(ear + 200), "sudden"))
    assert client.stream.section.origin == chunk.lands


@given(into=st.integers(0, 700), way=transitions)
@settings(max_examples=15)
def test_a_change_in_the_middle_of_a_slow_one_goes_to_the_newest(into: int, way: Transition) -> None:
    engine = ToneEngine()
    client = begin(engine)
    client.fill(500)
    client.take(client.stream.change(FIGHT, still(20), "slow"))
    first = client.stream.section
    assert first.bridge is not None
    ear = first.bridge.origin + into
    client.fill(ear + AHEAD_FRAMES)
    chunk = client.take(client.stream.change(SAD, still(ear), way))
    reach = ear + 5 + HANDOVER
    # The cost of a window is a mean of measurements, which may round to a frame more.
    following = first.next_beat if way == "sudden" else first.next_bar
    assert chunk.start in {following(reach), following(reach + 1)}
    new = client.stream.section
    assert new.controls == SAD
    assert new.tonic(chunk.start) == first.tonic(chunk.start)
    if way == "slow":
        assert new.bridge is not None
        assert new.bridge.controls == (FIGHT if first.shares(chunk.start)[MOODS.index(FIGHT.mood)] >= 0.5 else TOWN)
    client.fill(new.origin + 100)
    assert client.stream._section_at(client.stream.end) == new


@pytest.mark.parametrize("way", TRANSITIONS)
def test_a_change_called_back_before_it_is_heard_leaves_the_music_going_on(way: Transition) -> None:
    """Not from its first bar again: the same section, in its own time and key."""
    client = begin(ToneEngine())
    client.fill(600)
    town = client.stream.section
    client.take(client.stream.change(FIGHT, still(300)))
    client.take(client.stream.change(TOWN, still(40), way))
    client.fill(900)
    assert {client.stream._section_at(place) for place in range(client.stream.end)} == {town}


def test_a_restless_hand_leaves_the_ear_always_something_to_hear() -> None:
    """Another wish every 100 ms, each computed for 100 ms, so that there is never time for anything else."""
    engine = ToneEngine()
    client = begin(engine)
    client.fill(AHEAD_FRAMES)
    wishes = [FIGHT, SAD, replace(FIGHT, blend=SAD.mood), replace(TOWN, intensity=5)]
    for number in range(200):
        ear = 5 * number
        before = dict(client.frames)
        client.take(client.stream.change(wishes[number % 4], passing(ear, ear + 5), TRANSITIONS[number // 3 % 2]))
        assert client.stream.end > ear + 5 + HANDOVER
        assert all(client.frames[place] == before[place] for place in range(ear + 5 + HANDOVER))
    client.fill(client.stream.end + 200)
    assert sorted(client.frames) == list(range(client.stream.end))
    assert client.stream.section.controls == wishes[199 % 4]
    assert len(client.stream._heard) + len(client.stream._levels) < 200
    around = levels(client.sound()) / (LEVEL / np.sqrt(2))
    assert 0.7 < around.min() <= around.max() < 1.3


# Splices


def levels(sound: Sound, milliseconds: int = 20) -> Sound:
    size = 48 * milliseconds
    level: Sound = np.sqrt((sound[: len(sound) // size * size].reshape(-1, size) ** 2).mean(1))
    return level


def test_windows_join_without_a_trace() -> None:
    engine = ToneEngine()
    client = begin(engine)
    client.fill(1_000)
    assert near(client.sound(), engine.tone(client.stream.section, 0, client.stream.end), 1e-4)


@BLIND
@given(ear=st.integers(60, 300), late=st.integers(0, 60), mood=st.sampled_from(MOODS))
@settings(max_examples=20)
def test_a_splice_neither_clicks_nor_jumps_in_loudness(blind: bool, ear: int, late: int, mood: Mood) -> None:
    engine = ToneEngine(blind)
    client = begin(engine, SAD)
    client.fill(ear + 300)
    usual = [np.abs(np.diff(engine.tone(Section(Controls(each), 0, 0), 0, 2))).max() for each in (SAD.mood, mood)]
    client.take(client.stream.change(Controls(mood), passing(ear, ear + late)))
    client.fill(client.stream.end + 1)
    sound = client.sound()
    assert np.abs(np.diff(sound)).max() < 1.6 * max(usual)
    around = levels(sound) / (LEVEL / np.sqrt(2))
    assert around.min() > 0.7
    assert around.max() < 1.3


def test_noise_that_has_nothing_in_common_keeps_its_loudness_through_a_splice() -> None:
    class NoiseEngine(ToneEngine):
        def tone(self, section: Section, begin: int, frames: int) -> Sound:
            random = np.random.default_rng(begin)
            return (0.1 * random.standard_normal(frames * FRAME_SAMPLES)).astype(np.float32)

    client = begin(NoiseEngine(blind=True))
    client.fill(400)
    assert levels(client.sound(), 40) == pytest.approx(0.1, rel=0.12)


# Volume


def gain(client: Client) -> Sound:
    """Of a steady engine: what the listener hears over what was made."""
    return client.sound() / np.float32(LEVEL)


def test_a_ramp_is_straight_and_begins_where_it_can_still_be_heard() -> None:
    client = begin(ToneEngine(steady=True), volume=0.8)
    client.fill(300)
    chunk = client.take(client.stream.set_volume(0.2, 100))
    client.fill(600)
    assert chunk.start == 100 + HANDOVER
    places = np.arange(client.stream.end * FRAME_SAMPLES)
    ramp = np.array([chunk.start, chunk.start + RAMP]) * FRAME_SAMPLES
    assert near(gain(client), np.interp(places, ramp, [0.8, 0.2]).astype(np.float32), 2e-4)


@given(
    turns=st.lists(st.tuples(st.integers(-30, 60), st.floats(0, 1)), min_size=1, max_size=12),
    volume=st.floats(0, 1),
)
@settings(max_examples=25)
def test_gain_never_jumps_however_the_knob_is_turned(turns: list[tuple[int, float]], volume: float) -> None:
    client = begin(ToneEngine(steady=True), volume=volume)
    ear = 40
    for forward, wanted in turns:
        ear = max(0, ear + forward)
        client.fill(ear + 40)
        client.take(client.stream.set_volume(wanted, ear))
    client.fill(client.stream.end + RAMP + 1)
    steepest = np.abs(np.diff(gain(client))).max()
    assert steepest < 1 / (RAMP * FRAME_SAMPLES) + 2.5 / 32_767 / LEVEL
    assert gain(client)[-1] == pytest.approx(turns[-1][1], abs=2e-4)


def test_volume_nought_is_silence_and_comes_back() -> None:
    client = begin(ToneEngine(), volume=0.0)
    client.fill(200)
    assert not client.sound().any()
    client.take(client.stream.set_volume(1.0, 100))
    client.fill(300)
    assert np.abs(client.sound(200)).max() == pytest.approx(LEVEL, abs=1e-3)
    client.take(client.stream.set_volume(0.0, 250))
    client.fill(500)
    assert not client.sound(250 + HANDOVER + RAMP).any()


def test_a_change_of_mood_keeps_the_volume() -> None:
    client = begin(ToneEngine(steady=True))
    client.fill(300)
    client.take(client.stream.set_volume(0.25, 20))
    client.take(client.stream.change(FIGHT, still(60)))
    client.fill(600)
    assert near(gain(client)[100 * FRAME_SAMPLES :], 0.25, 2e-4)


# For ever


@BLIND
def test_memory_stays_bounded_and_reaches_back_as_far_as_an_ear_can_lie(blind: bool) -> None:
    engine = ToneEngine(blind)
    stream = Stream(engine, 1, TOWN, clock=engine.clock)
    sizes, ear = [], 0
    for window in range(300):
        ear = max(ear, stream.end - AHEAD_FRAMES + 1)  # as late as a service would still ask
        stream.advance()
        engine.calls.clear()
        if window % 10 == 5:
            stream.set_volume(window % 3 / 2, ear)
        if window % 25 == 5:
            stream.change(FIGHT if window % 2 else SAD, still(ear))
        assert stream._base <= max(0, ear - engine.prefix_frames)
        sizes.append(
            (len(stream._sound) // FRAME_SAMPLES, stream._mel.shape[1], len(stream._heard), len(stream._gains))
        )
    assert stream.end > 5_000
    assert max(size[0] for size in sizes) <= AHEAD_FRAMES + 2 * engine.window_frames + engine.prefix_frames
    assert max(size[1] for size in sizes) <= engine.mels_a_frame * max(size[0] for size in sizes)
    assert max(size[2] for size in sizes) <= 6
    assert max(size[3] for size in sizes) <= 12


# Samples


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2))
def test_the_limiter_bends_and_never_breaks(values: list[float]) -> None:
    sound = np.sort(np.array(values, np.float32))
    out = limit(sound)
    assert (np.diff(out) >= 0).all()
    assert np.abs(out).max() <= CEILING + 1e-6
    assert np.array_equal(limit(-sound), -out)
    calm = np.abs(sound) <= KNEE
    assert np.array_equal(out[calm], sound[calm])


@given(st.lists(st.sampled_from([0.1, 0.3, LOUDEST, 1.0, 4.0]), max_size=8), st.integers(0, 9))
def test_frames_that_are_too_loud_are_turned_down_and_no_other_but_their_neighbours(
    peaks: list[float], seed: int
) -> None:
    noise = np.random.default_rng(seed).uniform(-1, 1, (len(peaks), FRAME_SAMPLES, 2))
    sound = (noise / np.abs(noise).max(axis=(1, 2), keepdims=True) * np.array(peaks)[:, None, None]).astype(np.float32)
    out = tame(sound.reshape(-1, 2)).reshape(sound.shape)
    assert np.abs(out).max(initial=0) <= LOUDEST + 1e-6
    told = np.abs(sound) > 1e-2
    assert np.abs(np.diff(out[told] / sound[told])).max(initial=0) < 1e-2  # no corner, no click
    loud = np.array(peaks, float) > LOUDEST
    near = loud | np.append(loud[1:], False) | np.append(False, loud[:-1])
    assert np.array_equal(out[~near], sound[~near])


def test_the_limiter_has_no_corner_at_its_knee() -> None:
    step = 1e-3
    around = np.arange(KNEE - 0.01, KNEE + 0.01, step)
    assert np.diff(limit(around.astype(np.float32))) == pytest.approx(step, rel=0.02)


def test_pcm_is_interleaved_little_endian_and_limited() -> None:
    sound = np.array([[0, 0.25], [0.5, -0.5], [2, -2]], np.float32)
    assert to_pcm(sound)[2:4] == (8_192).to_bytes(2, "little")
    pcm = np.frombuffer(to_pcm(sound), "<i2").reshape(-1, CHANNELS) / 32_767
    assert pcm == pytest.approx(np.array([[0, 0.25], [0.5, -0.5], [CEILING, -CEILING]]), abs=1e-4)


def test_a_player_opens_streams() -> None:
    engine = ToneEngine()
    player = Player(engine)
    stream = player.stream(3, replace(TOWN, intensity=5), 0.5, 70)
    assert player.name == "tones"
    assert (stream.end, stream.seed, stream.section.controls.intensity) == (70, 3, 5)
    plain = Stream(engine, 3, replace(TOWN, intensity=5), 1.0, 70)
    assert near(mono(stream.advance().frames), 0.5 * mono(plain.advance().frames))


def test_a_change_lands_no_later_for_windows_that_waited_behind_other_tables() -> None:
    def lands(wait: float) -> int | None:
        tones = ToneEngine()

        def make(engine: Engine, state: State, section: Section, seed: int, slack: float, _: Wanted) -> Window:
            tones.now += wait if slack > 0 else 0.0
            return engine.window(state, section, seed)

        stream = Stream(tones, 1, TOWN, clock=tones.clock, make=make)
        stream.advance()
        for _ in range(4):
            stream.advance(slack=2.0)
        return stream.change(FIGHT, still(stream.end - 200)).lands

    assert lands(wait=3.0) == lands(wait=0.0)
