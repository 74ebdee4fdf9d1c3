import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.composer import (
    BARS_A_PHRASE,
    COLUMN_FRAMES,
    FORM,
    STROPHES,
    Array,
    Section,
    _phrase,
    write_plan,
)
from generator.moods import MOODS
from generator.plan import BASS, BRIGHTNESS, CHROMA, FEATURES, LOUDNESS, ONSET, ONSET_PARTS
from generator.protocol import FRAME_SECONDS, MAX_FRAME_INDEX, MAX_SEED, Controls
from generator.style import STYLES
from tests.generator.tiny import plan_statistics

STATISTICS = plan_statistics().numpy()
DAY = 24 * 3600 * 50  # frames

moods = st.sampled_from(MOODS)
sections = st.builds(
    Section,
    st.builds(Controls, moods, st.integers(1, 5)),
    st.integers(0, MAX_SEED),
    st.integers(0, 10_000),
    st.none() | st.integers(0, 11),
)
frames = st.integers(-DAY, 10 * DAY)


def plan(section: Section, start: int, columns: int = 64) -> Array:
    return write_plan(section, start, columns, STATISTICS)


def beats(section: Section, frame: int) -> float:
    return (frame - section.origin) * FRAME_SECONDS / section.beat_seconds


def strophe_frames(section: Section) -> float:
    """Length of a strophe, in frames."""
    beat = section.beat_seconds / FRAME_SECONDS
    return len(FORM) * BARS_A_PHRASE * section.style.metre * beat


def strokes(section: Section, start: int, columns: int) -> list[int]:
    """Wire frames in which the plan has a stroke."""
    onsets = plan(section, start, columns)[ONSET].T.reshape(-1)
    return [start + int(at) for at in np.flatnonzero(onsets > onsets.min() + 1e-6)]


@given(section=sections, start=frames, shift=st.integers(0, 63))
def test_overlapping_stretches_agree_exactly(section: Section, start: int, shift: int) -> None:
    one, two = plan(section, start), plan(section, start + shift * COLUMN_FRAMES)
    assert np.array_equal(one[:, shift:], two[:, : 64 - shift])


@given(section=sections, start=frames, later=st.integers(0, DAY))
def test_music_is_counted_from_the_sections_origin(section: Section, start: int, later: int) -> None:
    moved = replace(section, origin=section.origin + later)
    assert np.array_equal(plan(section, start), plan(moved, start + later))


@given(section=sections, start=frames)
def test_every_number_is_in_range(section: Section, start: int) -> None:
    written = plan(section, start)
    assert written.shape == (FEATURES, 64)
    assert written.dtype == np.float32
    assert np.isfinite(written).all()
    for part in (CHROMA, BASS):
        assert written[part].min() >= 0
        assert (written[part].max(0) == 1).all()
    assert written[ONSET].min() >= 0


@given(section=sections, start=frames)
def test_every_tone_belongs_to_the_mode_on_its_tonic(section: Section, start: int) -> None:
    written = plan(section, start)
    for column in range(64):
        tonic = section.tonic(start + column * COLUMN_FRAMES + COLUMN_FRAMES // 2)
        scale = {(tonic + step) % 12 for step in section.style.scale}
        for part in (CHROMA, BASS):
            assert set(np.flatnonzero(written[part, column]).tolist()) <= scale


@given(section=sections, start=frames)
def test_the_bass_plays_a_tone_of_the_chord_that_sounds(section: Section, start: int) -> None:
    written = plan(section, start)
    root = written[BASS].argmax(0)
    assert (written[CHROMA][root, np.arange(64)] > 0).all()


@given(section=sections, frame=frames)
def test_the_next_beat_is_one_is_not_past_and_is_the_first(section: Section, frame: int) -> None:
    beat = section.next_beat(frame)
    assert beat >= frame
    assert abs(beats(section, beat) - round(beats(section, beat))) * section.beat_seconds <= 0.5001 * FRAME_SECONDS
    assert section.next_beat(beat) == beat
    length = section.beat_seconds / FRAME_SECONDS
    assert beat - frame < length + 1
    assert section.next_beat(beat + 1) - beat == pytest.approx(length, abs=1)


def test_the_first_downbeat_is_the_origin() -> None:
    for mood in MOODS:
        section = Section(Controls(mood), 1, 777)
        assert section.next_beat(777) == 777
        assert 777 in strokes(section, 777, 8)


@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize("intensity", [1, 2, 3, 4, 5])
def test_every_stroke_of_the_figure_sounds_and_nothing_else(mood: str, intensity: int) -> None:
    """Among others at tempi whose half-beats fall exactly on a frame's edge."""
    section = Section(Controls(next(each for each in MOODS if each == mood), intensity), 3, 40)
    half, figure = section.beat_seconds / 2, section.style.figure
    count = int(600 * COLUMN_FRAMES * FRAME_SECONDS / half)
    true = [at for at in range(count) if figure[at % len(figure)] > 0]
    found = strokes(section, section.origin, 600)
    for at, frame in zip(true, found, strict=False):
        assert (
            (frame - section.origin) * FRAME_SECONDS - 1e-9 <= at * half < (frame + 1 - section.origin) * FRAME_SECONDS
        )
    assert len(true) <= len(found) <= len(true) + 1


@given(section=sections)
@settings(max_examples=30)
def test_a_phrase_that_returns_keeps_its_chords_and_its_skeleton(section: Section) -> None:
    """Over one strophe A A B A: strong half-beats are the same wherever A stands; B is not A."""
    half = section.beat_seconds / 2 / FRAME_SECONDS
    length = BARS_A_PHRASE * section.style.metre * 2

    def step(phrase: int, half_beat: int) -> Array:
        middle = section.origin + (phrase * length + half_beat + 0.5) * half
        return plan(section, round(middle) - COLUMN_FRAMES // 2, 1)[: ONSET.start, 0]

    first = [step(0, at) for at in range(0, length, 2)]
    for again in (1, 3):
        assert all(np.array_equal(step(again, at), first[at // 2]) for at in range(0, length, 2))


def test_b_is_new_material_and_so_is_the_next_strophe() -> None:
    differing = {"b": 0, "next": 0}
    for seed in range(20):
        section = Section(Controls(MOODS[0]), seed, 0)
        phrase = strophe_frames(section) / len(FORM)
        a, b = plan(section, 0), plan(section, round(2 * phrase))
        differing["b"] += not np.array_equal(a[CHROMA], b[CHROMA])
        differing["next"] += _phrase(section, 0).melody[::2] != _phrase(section, 4).melody[::2]
    assert min(differing.values()) > 15


@pytest.mark.parametrize("mood", MOODS)
def test_more_intensity_is_louder_brighter_stronger_and_faster(mood: str) -> None:
    chosen = next(each for each in MOODS if each == mood)
    written = []
    for intensity in range(1, 6):
        section = Section(Controls(chosen, intensity), 5, 0)
        phrase = strophe_frames(section) / len(FORM) / COLUMN_FRAMES
        stretch = plan(section, 0, round(phrase))  # one whole phrase, so that its arch is heard as a whole
        written.append((stretch[LOUDNESS].mean(), stretch[BRIGHTNESS].mean(), stretch[ONSET].max(), section.tempo))
    assert all((np.diff([values[row] for values in written]) > 0).all() for row in range(4))


@given(section=sections, frame=frames)
def test_keys_wander_by_a_fifth_at_most_a_strophe(section: Section, frame: int) -> None:
    strophe = strophe_frames(section)
    now, then = section.tonic(frame), section.tonic(frame + round(strophe))
    assert (then - now) % 12 in (0, 5, 7)


@given(section=sections)
def test_a_section_begins_at_home(section: Section) -> None:
    home = section.tonic(section.origin)
    if section.home is not None:
        assert home == section.home
    assert section.tonic(section.origin - 1) == home
    assert section.tonic(section.origin + round(STROPHES * strophe_frames(section)) + 1) == home


@given(seed=st.integers(0, MAX_SEED), one=moods, two=moods)
def test_without_other_wish_all_moods_of_a_stream_share_a_key(seed: int, one: str, two: str) -> None:
    tonics = {Section(Controls(next(m for m in MOODS if m == name)), seed, 0).tonic(0) for name in (one, two)}
    assert len(tonics) == 1


def test_streams_differ_in_key_and_material() -> None:
    tonics = {Section(Controls(MOODS[0]), seed, 0).tonic(0) for seed in range(60)}
    assert len(tonics) == 12
    chroma = {plan(Section(Controls(MOODS[0]), seed, 0, 0), 0)[CHROMA].tobytes() for seed in range(20)}
    assert len(chroma) > 12


def test_the_end_of_time_is_as_exact_as_its_beginning() -> None:
    section = Section(Controls(MOODS[2], 4), 1, 0)
    assert np.isfinite(plan(section, MAX_FRAME_INDEX)).all()
    beat = section.next_beat(MAX_FRAME_INDEX)
    assert MAX_FRAME_INDEX <= beat < MAX_FRAME_INDEX + section.beat_seconds / FRAME_SECONDS + 1


def test_a_windows_plan_takes_a_few_milliseconds_anywhere() -> None:
    plan(Section(Controls(MOODS[0]), 1, 0), 0)
    took = []
    for mood in MOODS:
        section = Section(Controls(mood), 99, 0)
        for start in (-DAY, 0, 30 * DAY):  # phrases never asked for before
            begin = time.thread_time()
            plan(section, start)
            took.append(time.thread_time() - begin)
    assert float(np.median(took)) < 0.01


@pytest.mark.parametrize("mood", MOODS)
def test_every_style_can_be_played(mood: str) -> None:
    style = STYLES[next(each for each in MOODS if each == mood)]
    assert len(style.scale) == 7
    assert list(style.scale) == sorted({*style.scale})
    assert style.scale[0] == 0
    assert 30 <= style.tempo[0] < style.tempo[1] <= 200
    assert len(style.figure) == 2 * style.metre  # one bar, so that it begins on every downbeat
    assert style.figure[0] == max(style.figure)
    assert all(set(chords) <= set(range(7)) for chords in style.progressions)
    assert ONSET_PARTS == COLUMN_FRAMES  # one onset a frame
