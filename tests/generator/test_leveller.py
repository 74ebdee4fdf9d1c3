"""What the ear has to say about seams: no step in loudness over any, and a hand on the fader that is never heard."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from generator.engine import Sound, State, Wanted, Window, always
from generator.leveller import PHRASE, POINT_FRAMES, SHORT_TERM, Leveller
from generator.loudness import lufs
from generator.moods import MOODS, Mood
from generator.protocol import FRAME_SAMPLES, FRAMES_PER_SECOND, Controls
from generator.section import Section
from generator.stream import Stream
from tests.generator.test_stream import mono
from tests.generator.tone_engine import ToneEngine

TOWN = Controls(Mood("town"))
USUAL = 0.06  #: amplitude of noise about as loud as the leveller wants it
SPANS = (0.4, 1.0, 3.0)  #: seconds


class FitfulEngine(ToneEngine):
    """Noise; each window is as loud as it happens to come out, by the next of ``levels``, and enters softly, in dB."""

    def __init__(self, levels: list[float], softly: float = 0.0) -> None:
        super().__init__(prefix=56)
        self.window_frames, self.levels, self.softly = 256, levels, softly

    def window(self, state: State, section: Section, seed: int, wanted: Wanted = always) -> Window:
        level = self.levels[len(self.calls) % len(self.levels)]
        window = super().window(state, section, seed, wanted)
        noise = np.random.default_rng(seed).standard_normal(len(window.sound)).astype(np.float32)
        sound: Sound = (USUAL * 10 ** (level / 20) * noise).astype(np.float32)
        entry = slice(len(state.sound), len(state.sound) + 20 * FRAME_SAMPLES)
        sound[entry] *= 10 ** (-self.softly / 20)
        sound[: len(state.sound)] = state.sound
        return Window(window.begin, sound, window.mel)


def play(engine: FitfulEngine, controls: list[Controls], leveller: Leveller) -> tuple[Sound, list[int]]:
    """A change about every five seconds; what was heard, and the seams in it."""
    stream = Stream(engine, 1, TOWN, clock=engine.clock, leveller=leveller)
    frames, seams = list[bytes](), list[int]()
    for number, wanted in enumerate([TOWN, *controls]):
        chunk = stream.change(wanted, lambda: stream.end - 350) if number else stream.advance()
        while True:
            seams = [*(seam for seam in seams if seam < chunk.start), chunk.start]
            frames = [*frames[: chunk.start], *chunk.frames]
            if stream.end >= seams[0] + 250 * (number + 1) + 350:
                break
            chunk = stream.advance()
    return mono(tuple(frames)), seams


def steps(sound: Sound, seams: list[int]) -> list[float]:
    found = []
    for seam in seams:
        for seconds in SPANS:
            place, span = seam * FRAME_SAMPLES, round(seconds * 48_000)
            if span <= place <= len(sound) - span:
                before, after = sound[place - span : place, None], sound[place : place + span, None]
                found.append(abs(lufs(after) - lufs(before)))
    return found


controls = st.builds(Controls, st.sampled_from(MOODS), st.integers(1, 5))


@given(
    levels=st.lists(st.floats(-15, 5), min_size=2, max_size=9),
    softly=st.floats(-5, 5),
    moods=st.lists(controls, min_size=1, max_size=3),
)
@example(levels=[0.0, 0.0], softly=5.0, moods=[TOWN])
@example(levels=[0.0, -18.0], softly=0.0, moods=[TOWN])  # as a sparse piece was after a dense one
@example(levels=[1.0, -11.0], softly=-5.0, moods=[Controls(Mood("epic"), 1)])  # the fade itself is louder
@example(levels=[-14.0, 5.0, -6.0, 1.0], softly=-5.0, moods=[TOWN])
@example(levels=[-7.0, -13.0, -2.0, 4.0, 3.0, 3.0, -12.0], softly=5.0, moods=[Controls(Mood("epic"), 4)])  # a frame
@settings(max_examples=8)
def test_over_no_seam_does_loudness_step_by_three_units(
    levels: list[float], softly: float, moods: list[Controls]
) -> None:
    sound, seams = play(FitfulEngine(levels, softly), moods, Leveller())
    assert max(steps(sound, seams)) < 3


def test_without_the_hand_on_the_fader_it_would() -> None:
    sound, seams = play(FitfulEngine([-5.0, 5.0, 0.0]), [Controls(MOODS[0])], Leveller(reach=0.0))
    assert max(steps(sound, seams)) > 5


def test_intensity_is_loudness_that_comes_without_a_step() -> None:
    sound, seams = play(FitfulEngine([0.0]), [Controls(TOWN.mood, 5), Controls(TOWN.mood, 5)], Leveller())
    assert max(steps(sound, seams)) < 3
    assert max(steps(sound, seams)[:6]) < 2
    calm, wild = (lufs(part[:, None]) for part in (sound[: seams[1] * FRAME_SAMPLES], sound[-3 * 48_000 :]))
    assert 1 < wild - calm < 2  # the hand takes the engine for what it is: no louder than before


powers = st.lists(st.sampled_from([0.0, 1e-12, 1e-6, 1e-3, 0.1, 100.0]), min_size=1, max_size=40)


@given(heard=powers | st.just([]), fresh=powers, intensity=st.floats(1, 5), reach=st.floats(0, 9))
def test_a_gain_is_a_number_within_reach_whatever_is_played(
    heard: list[float], fresh: list[float], intensity: float, reach: float
) -> None:
    curve = Leveller(reach=reach).curve(np.repeat(heard, 7), np.repeat(fresh, 7), intensity)
    assert np.isfinite(curve).all()
    assert np.abs(curve).max() <= reach
    assert (len(curve) - 1) * POINT_FRAMES >= 7 * len(fresh) > (len(curve) - 2) * POINT_FRAMES


strokes = st.lists(st.floats(-9, 9), min_size=6, max_size=12)  #: dB, half a second each


@given(before=strokes, after=strokes)
def test_three_seconds_after_a_seam_are_as_loud_as_those_before_it_whatever_the_strokes(
    before: list[float], after: list[float]
) -> None:
    heard, fresh = (0.01 * 10 ** (np.repeat(strokes, 25) / 10) for strokes in (before, after))
    curve = Leveller(reach=60).curve(heard, fresh, 3)
    edges = 10 ** (np.interp(np.arange(SHORT_TERM + 1), np.arange(len(curve)) * POINT_FRAMES, curve) / 20)
    power = (edges[:-1] ** 2 + edges[:-1] * edges[1:] + edges[1:] ** 2) / 3  # of a straight line in each frame
    step = 10 * np.log10((fresh[:SHORT_TERM] * power).mean() / heard[-SHORT_TERM:].mean())
    assert abs(step) <= PHRASE + 1e-6


@pytest.mark.parametrize("beat", [20, 30, 50], ids="{} frames".format)
def test_the_hand_does_not_pump_with_the_beat(beat: int) -> None:
    """Loud and soft by 14 dB with every beat, and even for all that: a second after the seam the gain lies still."""
    frames = np.arange(10 * FRAMES_PER_SECOND)
    music = np.where(frames % beat < beat // 3, 0.02, 0.0008)
    curve = Leveller().curve(music[:SHORT_TERM], music, 3)
    assert np.ptp(curve[2:]) < 1.5
    assert np.abs(np.diff(curve[2:])).max() < 0.5


def test_a_mood_that_is_always_too_loud_is_brought_down_and_one_too_soft_is_brought_up() -> None:
    gain = {level: Leveller().curve(np.zeros(0), np.full(400, level), 3) for level in (1e-4, 1e-2, 10.0)}
    assert (gain[1e-4] > 3).all()
    assert (np.abs(gain[1e-2]) < 3).all()
    assert (gain[10.0] == -Leveller().reach).all()
