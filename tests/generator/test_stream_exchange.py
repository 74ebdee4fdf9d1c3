"""Another model in the middle of a stream: nothing missing, nothing misplaced, and the past in the new one's terms."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.composer import COLUMN_FRAMES
from generator.config import MelConfig, ModelConfig
from generator.engine import BLIND_OVERLAP, CONTINUED_OVERLAP, Engine, Sound, State, Wanted, Window, always
from generator.mel import Mel
from generator.moods import MOODS
from generator.player import Player
from generator.protocol import FRAME_SAMPLES, SAMPLE_RATE, TRANSITIONS, Controls
from generator.section import Section
from generator.snapshot import half
from generator.stream import ATTACK, Stream
from generator.vocoder import GriffinLim
from tests.generator.test_stream import ASLEEP, FIGHT, SAD, TOWN, Client, levels, near, passing, still
from tests.generator.tiny import CPU, TINY, TINY_PAPER, tiny_checkpoint
from tests.generator.tone_engine import LEVEL, ToneEngine

# A stream whose every sample and Mel column tells where it belongs


@cache
def statistics(config: MelConfig, mean: float, deviation: float) -> Mel:
    mel = Mel(config)
    mel.mean.copy_(mean * torch.arange(config.bands))
    mel.deviation.fill_(deviation)
    return mel


class RulerEngine(ToneEngine):
    """A tone by the stream's own time, whatever the mood, and a Mel that counts columns; checks what it is told."""

    def __init__(
        self,
        window: int = 64,
        prefix: int = 16,
        overlap: int = CONTINUED_OVERLAP,
        mean: float = 0.0,
        deviation: float = 1.0,
        bands: int = 16,
        paper: bool = False,
    ) -> None:
        super().__init__(paper, prefix=prefix)
        if not paper:
            self.config = replace(
                self.config,
                mel=replace(self.config.mel, bands=bands),
                diffusion=replace(self.config.diffusion, bound=None),
            )
        self.mel = statistics(self.config.mel, mean, deviation)
        self.window_frames, self.overlap = window, overlap
        self.lead = max(0, self.prefix_frames - overlap)

    def tone(self, section: Section, begin: int, frames: int) -> Sound:
        time = np.arange(begin * FRAME_SAMPLES, (begin + frames) * FRAME_SAMPLES) / SAMPLE_RATE
        return (self.level * np.sin(2 * np.pi * 333.3 * time)).astype(np.float32)  # no period that frames share

    def columns(self, begin: int, count: int) -> Sound:
        """What stands in Mel columns from wire frame ``begin`` on, by this engine's statistics."""
        number = np.arange(begin * self.mels_a_frame, begin * self.mels_a_frame + count) % 256 / 128
        mean, deviation = (each.numpy()[:, None] for each in (self.mel.mean, self.mel.deviation))
        columns: Sound = ((number - mean) / deviation).astype(np.float32)
        return columns

    def window(self, state: State, section: Section, seed: int, wanted: Wanted = always) -> Window:
        begin = state.position - len(state.sound) // FRAME_SAMPLES
        assert near(state.mel, self.columns(begin, state.mel.shape[1]), 2.5e-3)
        assert near(state.sound, self.tone(section, begin, state.position - begin), 2e-4)
        assert state.mel.shape[1] <= self.config.prefix
        assert state.mel.shape[1] % (COLUMN_FRAMES * max(1, self.mels_a_frame)) == 0
        window = super().window(state, section, seed, wanted)
        mel = self.columns(begin, window.mel.shape[1])
        mel[:, : state.mel.shape[1]] = state.mel
        return Window(begin, window.sound, mel)


PLAIN = RulerEngine()
OTHER_STATISTICS = RulerEngine(mean=0.1, deviation=2.0)
LONGER = RulerEngine(window=96, prefix=8, mean=-0.05, deviation=0.5)
WIDER = RulerEngine(overlap=8)
OTHER_MEL = RulerEngine(bands=32)
NO_PREFIX = RulerEngine(window=100, prefix=0, overlap=BLIND_OVERLAP)
PAPER = RulerEngine(window=100, prefix=0, overlap=BLIND_OVERLAP, paper=True)
KINDS = {
    "plain": PLAIN,
    "other statistics": OTHER_STATISTICS,
    "longer": LONGER,
    "wider": WIDER,
    "other Mel": OTHER_MEL,
    "no prefix": NO_PREFIX,
    "paper": PAPER,
}


class Stage:
    """One listener, and a hand that changes engines."""

    def __init__(self, engine: Engine, controls: Controls = TOWN, start: int = 0, ruler: bool = True) -> None:
        self.engine = engine
        clock: Callable[[], float] = lambda: 0.0  # noqa: E731
        leveller = ASLEEP if ruler else None
        self.stream = Stream(engine, 5, controls, 1.0, start, clock, leveller, newest=lambda: self.engine)
        self.client = Client(self.stream)


kinds = st.sampled_from(sorted(KINDS))
ears, runs = st.integers(-500, 100), st.integers(0, 120)
steps = st.one_of(
    st.tuples(st.just("exchange"), kinds),
    st.tuples(st.just("advance")),
    st.tuples(st.just("change"), st.builds(Controls, st.sampled_from(MOODS)), ears, runs, st.sampled_from(TRANSITIONS)),
    st.tuples(st.just("volume"), ears),
)


@given(first=kinds, script=st.lists(steps, max_size=16), start=st.sampled_from([0, 123]))
@settings(max_examples=40)
def test_whatever_models_follow_one_another_each_sample_is_where_it_belongs(
    first: str, script: list[tuple[object, ...]], start: int
) -> None:
    stage = Stage(KINDS[first], start=start)
    stream, client = stage.stream, stage.client
    for step in script:
        before = stream.end
        match step:
            case ("exchange", str() as kind):
                stage.engine = KINDS[kind]
                continue
            case ("change", Controls() as controls, int() as place, int() as run, ("sudden" | "slow") as way):
                ear = max(0, before + place)
                chunk = client.take(stream.change(controls, passing(ear, ear + run), way))
            case ("volume", int() as place):
                chunk = client.take(stream.set_volume(1.0, max(0, before + place)))
            case _:
                chunk = client.take(stream.advance())
                assert chunk.start == before
        assert start <= chunk.start <= before
        assert chunk.start + len(chunk.frames) == stream.end
        assert sorted(client.frames) == list(range(start, stream.end))
    stage.engine = PLAIN
    for _ in range(3):
        client.take(stream.advance())
    assert near(client.sound(), PLAIN.tone(stream.section, start, stream.end - start))


@pytest.mark.parametrize(
    ("old", "new", "continued"),
    [
        (PLAIN, OTHER_STATISTICS, True),
        (OTHER_STATISTICS, LONGER, True),
        (LONGER, PLAIN, True),
        (PLAIN, WIDER, True),
        (WIDER, PLAIN, True),
        (NO_PREFIX, PLAIN, True),  # the Mel was made, if not needed
        (PLAIN, OTHER_MEL, False),
        (PLAIN, NO_PREFIX, False),
        (PLAIN, PAPER, False),
        (PAPER, PLAIN, False),
        (PAPER, OTHER_MEL, False),
    ],
)
@pytest.mark.parametrize("turn", [False, True], ids=["next", "change"])
def test_the_first_window_continues_what_was_heard_where_it_can(
    old: RulerEngine, new: RulerEngine, continued: bool, turn: bool
) -> None:
    stage = Stage(old)
    stage.client.fill(300)
    stage.engine = new
    new.calls.clear()
    end = stage.stream.end
    chunk = stage.stream.change(FIGHT, still(120)) if turn else stage.stream.advance()
    (call,) = new.calls
    if turn:
        assert chunk.lands == chunk.start == call.state.position < end
    assert call.state.position == chunk.start
    assert bool(call.state.mel.size) == bool(call.state.sound.size) == continued
    if continued:
        assert call.state.section is not None
        assert call.state.mel.shape[1] == new.config.prefix
    stage.client.take(chunk)
    for _ in range(2):  # and from then on each goes on as if there had been no other
        stage.client.take(stage.stream.advance())
        assert new.calls[-1].state.mel.shape[1] == new.config.prefix


def test_a_model_that_knows_nothing_of_the_past_fades_in_for_a_second_where_there_is_sound_to_fade_from() -> None:
    stage = Stage(PLAIN)
    stage.client.fill(400)
    stage.engine = RulerEngine(bands=32)
    stage.engine.level = LEVEL / 2
    chunk = stage.client.take(stage.stream.change(FIGHT, still(100)))
    around = levels(stage.client.sound(chunk.start - 10, chunk.start + BLIND_OVERLAP + 10)) / (LEVEL / np.sqrt(2))
    assert around[:10] == pytest.approx(1, abs=0.03)
    assert around[-10:] == pytest.approx(0.5, abs=0.03)
    assert np.abs(np.diff(around)).max() < 0.05


def test_a_stream_that_has_not_sounded_yet_begins_with_the_other_model() -> None:
    stage = Stage(PLAIN, start=70)
    stage.engine = PAPER
    chunk = stage.client.take(stage.stream.advance())
    assert (chunk.start, chunk.lands, len(chunk.frames)) == (70, 70, PAPER.window_frames - PAPER.overlap)


# With networks


def engine(config: ModelConfig = TINY, seed: int = 0, mean: float = -7.5, deviation: float = 1.0) -> Engine:
    """Of random weights and chosen statistics, sharing nothing with any other."""
    checkpoint = tiny_checkpoint(config, seed)
    checkpoint.tensors["mel.mean"].fill_(mean)
    checkpoint.tensors["mel.deviation"].fill_(deviation)
    made = Engine(checkpoint, CPU)
    made.vocoder = GriffinLim(made.mel, iterations=4)
    return made


def test_the_same_model_read_again_changes_not_a_bit() -> None:
    def play(exchanged: bool) -> list[object]:
        stage = Stage(engine(), ruler=False)
        heard: list[object] = [stage.stream.advance() for _ in range(3)]
        works: list[Callable[[], object]] = [
            stage.stream.advance,
            lambda: stage.stream.change(FIGHT, still(20)),
            lambda: stage.stream.set_volume(0.5, 40),
            lambda: stage.stream.change(SAD, still(60), "slow"),
            stage.stream.advance,
        ]
        for work in works:
            if exchanged:
                stage.engine = engine()
            heard.append(work())
        return heard

    assert play(True) == play(False)


def spied(engine: Engine) -> list[tuple[State, Window]]:
    """What the engine is told and makes from now on."""
    seen: list[tuple[State, Window]] = []
    make = engine.window

    def window(state: State, section: Section, seed: int, wanted: Wanted = always) -> Window:
        made = make(state, section, seed, wanted)
        seen.append((state, made))
        return made

    engine.window = window  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("turn", [False, True], ids=["next", "change"])
def test_the_past_is_told_in_the_new_models_terms_and_kept_to_the_sample(turn: bool) -> None:
    old, new = engine(), engine(seed=1, mean=-6.5, deviation=1.5)
    stage = Stage(old, ruler=False)
    stage.client.fill(150)
    kept = Mel.denormalise(old.mel, torch.from_numpy(stage.stream._mel)).numpy()
    raw, before, base = stage.stream._sound.copy(), dict(stage.client.frames), stage.stream._base
    stage.engine, seen = new, spied(new)
    chunk = stage.client.take(stage.stream.change(FIGHT, still(60)) if turn else stage.stream.advance())
    (told, made), place = seen[0], chunk.start
    first = place - len(told.sound) // FRAME_SAMPLES
    count = told.mel.shape[1]
    assert count == TINY.prefix
    linear = new.mel.denormalise(torch.from_numpy(told.mel)).numpy()
    assert linear == pytest.approx(kept[:, (first - base) * 2 :][:, :count], rel=2e-3)  # half precision
    heard = raw[(first - base) * FRAME_SAMPLES : (place - base) * FRAME_SAMPLES]
    assert np.array_equal(told.sound, half(heard))
    assert np.array_equal(made.sound[: len(heard)], told.sound)
    assert {at: frame for at, frame in stage.client.frames.items() if at < place} == {
        at: frame for at, frame in before.items() if at < place
    }


def test_a_translation_stays_within_what_the_new_model_can_have_seen() -> None:
    old, new = engine(deviation=5.0), engine(deviation=0.01)
    mel = np.linspace(-5, 5, 16 * 8, dtype=np.float32).reshape(16, 8)
    moved = new.translated(mel, old)
    assert moved is not None
    assert np.abs(moved).max() == 5.0
    assert np.array_equal(np.sign(moved), np.sign(mel))


@pytest.mark.parametrize(
    ("before", "after", "turn", "fade"),
    [
        (TINY, TINY, False, CONTINUED_OVERLAP),
        (TINY, TINY, True, ATTACK),
        (TINY, TINY_PAPER, False, CONTINUED_OVERLAP),  # all that was held back of the old
        (TINY, TINY_PAPER, True, BLIND_OVERLAP),
        (TINY_PAPER, TINY, False, BLIND_OVERLAP),
        (TINY_PAPER, TINY, True, BLIND_OVERLAP),
    ],
)
def test_sound_grows_from_the_old_models_last_sample_into_the_new_models(
    before: ModelConfig, after: ModelConfig, turn: bool, fade: int
) -> None:
    stage = Stage(engine(before), ruler=False)
    stage.client.fill(200)
    stream, old, base = stage.stream, stage.stream._sound.copy(), stage.stream._base
    stage.engine = engine(after, seed=1)
    seen = spied(stage.engine)
    place = stage.client.take(stream.change(FIGHT, still(80)) if turn else stream.advance()).start
    fresh = seen[0][1].sound[(place - seen[0][1].begin) * FRAME_SAMPLES :]
    old, last = old[: (place - base + fade) * FRAME_SAMPLES], fade * FRAME_SAMPLES
    heard = stream._sound[(place - stream._base) * FRAME_SAMPLES :]
    past = stream._sound[: (place - stream._base) * FRAME_SAMPLES]
    assert np.array_equal(past, old[-last - len(past) : -last])
    assert heard[0] == pytest.approx(old[-last], abs=1e-4)
    assert heard[last - 1] == pytest.approx(fresh[last - 1], abs=1e-4)
    assert np.array_equal(heard[last:], fresh[last:])
    assert levels(heard[:last]).min() > 0.1 * min(levels(old[-last:]).min(), levels(fresh[:last]).min())
    for _ in range(3):
        stage.client.take(stream.advance())
    assert sorted(stage.client.frames) == list(range(stream.end))


def test_an_engine_is_freed_once_no_stream_plays_it() -> None:
    player = Player(engine())
    old = weakref.ref(player.engine)
    streams = [player.stream(seed, SAD) for seed in range(2)]
    for stream in streams:
        stream.advance()
    player.take_over(Player(engine(seed=1)))
    for stream in streams:
        gc.collect()
        assert old() is not None
        stream.advance()
    gc.collect()
    assert old() is None
    assert streams[0].engine is player.engine
