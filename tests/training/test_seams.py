from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import EvaluationError
from training.evaluation import spoil
from training.evaluation.drift import FEWEST, Drifts, drift, drifts, impressions_apart, minutes
from training.evaluation.excerpts import Sound
from training.evaluation.seams import (
    CLEAR,
    PATCH,
    Contrast,
    Seams,
    around,
    contrast,
    controls,
    inside,
    jumps,
    pseudo_splices,
    seams,
    step,
)
from training.manifest import SAMPLE_RATE

BEAT = 9 * SAMPLE_RATE // 20
FADE = 4 * 960
WINDOW = round(3.84 * SAMPLE_RATE)
PIECE = 10 * SAMPLE_RATE  #: stands for a minute


def music(seed: int, seconds: int) -> Sound:
    """Chords that strike on a beat, and swell and ebb, over a soft hiss."""
    random = np.random.default_rng(seed)
    time = np.arange(BEAT) / SAMPLE_RATE
    envelope = np.minimum(1, time / 0.005) * np.exp(-6 * time)
    beats = []
    for number in range(seconds * SAMPLE_RATE // BEAT + 1):
        hertz = 220 * 2 ** (random.choice([0, 2, 4, 5, 7, 9, 11], 3) / 12) * np.array([0.5, 1, 2])
        chord = np.sin(2 * np.pi * hertz[:, None] * time).sum(axis=0) * envelope
        beats.append(chord * (0.1 + 0.04 * np.sin(number / 3)))
    sound = np.concatenate(beats)[: seconds * SAMPLE_RATE]
    made: Sound = (sound + 0.003 * random.standard_normal(len(sound), np.float32)).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def stream() -> Sound:
    return music(0, 100)


SPLICES = list(range(WINDOW, 96 * SAMPLE_RATE, WINDOW))


def measured(sound: Sound, splices: Sequence[int] = SPLICES, fade: int = 0) -> Seams:
    random = np.random.default_rng(2)
    places = inside(splices, len(sound), fade)
    return seams(sound, places, controls(splices, len(sound), 2 * len(places), random, fade), random, fade)


# --- where is measured -----------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 100 * SAMPLE_RATE), max_size=20),
    st.integers(7 * SAMPLE_RATE, 100 * SAMPLE_RATE),
    st.sampled_from((0, FADE)),
    st.sampled_from((None, 23_076.9)),
    st.integers(0, 2**32 - 1),
)
def test_controls_have_room_and_keep_clear_of_every_splice(
    splices: list[int], length: int, fade: int, beat: float | None, seed: int
) -> None:
    try:
        places = controls(splices, length, 30, np.random.default_rng(seed), fade, beat)
    except EvaluationError:
        return
    assert len(places) == 30
    for place in places:
        before, after = around(np.empty(length, np.float32), int(place), PATCH, fade)
        assert len(before) == len(after) == PATCH
        for splice in splices:
            assert place + fade + CLEAR <= splice or splice + fade + CLEAR <= place
        if beat is not None:
            beats = (place - np.array(splices)) / beat
            assert np.abs(beats - np.round(beats)).min() * beat < 1


def test_controls_lie_everywhere_that_is_free() -> None:
    places = controls(SPLICES, 100 * SAMPLE_RATE, 2_000, np.random.default_rng(0))
    phases = np.histogram(places % WINDOW, bins=8, range=(CLEAR, WINDOW - CLEAR))[0]
    assert phases.min() > 0.7 * 2_000 / 8


@pytest.mark.parametrize("beat", [None, float(BEAT)])
def test_a_stream_without_room_is_a_sentence(beat: float | None) -> None:
    crowded = range(0, 20 * SAMPLE_RATE, SAMPLE_RATE)
    with pytest.raises(EvaluationError, match="longer"):
        controls(crowded, 20 * SAMPLE_RATE, 5, np.random.default_rng(0), beat=beat)
    with pytest.raises(EvaluationError, match="longer"):
        pseudo_splices(5 * SAMPLE_RATE, 5, np.random.default_rng(0))


@given(st.lists(st.integers(0, 30 * SAMPLE_RATE), max_size=30), st.sampled_from((0, FADE)))
def test_splices_inside_have_room_for_a_patch_on_either_side(splices: list[int], fade: int) -> None:
    length = 25 * SAMPLE_RATE
    kept = inside(splices, length, fade)
    sound = np.empty(length, np.float32)
    for splice in splices:
        has_room = splice >= PATCH and len(around(sound, splice, PATCH, fade)[1]) == PATCH
        assert (splice in kept) == has_room


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fade", [0, FADE])
def test_a_stream_without_seams_shows_none(stream: Sound, fade: int) -> None:
    found = measured(stream, fade=fade)
    for one in (found.flux, found.step, found.click):
        assert one.p_value > 0.01
        assert one.interval[0] < 1 < one.interval[1]
        assert one.splices == len(inside(SPLICES, len(stream), fade))


def clearly(one: Contrast) -> bool:
    return one.p_value < 0.002 and one.interval[0] > 1.2 and one.share_above > 0.3


def test_hard_cuts_show(stream: Sound) -> None:
    found = measured(*spoil.shuffle(stream, SPLICES, np.random.default_rng(3)))
    assert clearly(found.click)
    assert clearly(found.flux)


@pytest.mark.parametrize("height", [0.03, -0.1])
def test_clicks_show(stream: Sound, height: float) -> None:
    found = measured(spoil.click(stream, SPLICES, height))
    assert clearly(found.click)
    assert not clearly(found.step)


def test_a_click_shows_where_a_fade_ends(stream: Sound) -> None:
    ends = [splice + FADE for splice in SPLICES]
    assert clearly(measured(spoil.click(stream, ends), fade=FADE).click)
    assert not clearly(measured(spoil.click(stream, ends)).click)


def test_steps_show(stream: Sound) -> None:
    found = measured(spoil.step(stream, SPLICES))
    assert clearly(found.step)
    assert found.step.at_splices == pytest.approx(6, abs=2)


def test_one_bad_seam_is_named(stream: Sound) -> None:
    bad = SPLICES[17]
    found = measured(spoil.click(stream, [bad]))
    assert found.click.worst[0] == pytest.approx(bad / SAMPLE_RATE)


@pytest.mark.parametrize("decibels", [-6.0, 3.0])
def test_a_step_is_measured_in_lu(decibels: float) -> None:
    hiss = 0.05 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    hiss[SAMPLE_RATE:] *= 10 ** (decibels / 20)
    assert step(hiss, SAMPLE_RATE) == pytest.approx(abs(decibels), abs=0.4)


def test_silence_and_a_constant_have_no_seams() -> None:
    for level in (0.0, 0.5):
        found = measured(np.full(60 * SAMPLE_RATE, level, np.float32), SPLICES[:12])
        for one in (found.flux, found.step, found.click):
            assert one.ratio == pytest.approx(1)
            assert one.p_value == 1


def test_a_few_windows_are_not_enough() -> None:
    with pytest.raises(EvaluationError, match="longer"):
        contrast(np.ones(1), np.ones(9), np.zeros(1, np.int64), np.random.default_rng(0))


def test_jumps_of_an_ear_show_whatever_the_loudness() -> None:
    random = np.random.default_rng(0)
    before, noise = random.normal(1, 1, (40, 16)), random.normal(0, 0.2, (40, 16))
    same, other = jumps(before, 3 * (before + noise)), jumps(before, random.normal(1, 1, (40, 16)))
    assert clearly(contrast(other, same, np.arange(40), random))
    assert jumps(before, 2 * before) == pytest.approx(np.zeros(40))
    assert (jumps(before, np.zeros_like(before)) == 1).all()


def test_contrasts_hold_their_level_where_there_is_no_difference() -> None:
    found = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        here, there = random.lognormal(0, 0.7, 40), random.lognormal(0, 0.7, 80)
        found.append(contrast(here, there, np.arange(40), random))
    p_values = np.sort([one.p_value for one in found])
    assert np.abs(p_values - np.arange(1, 41) / 40).max() < 1.36 / np.sqrt(40)  # Kolmogorov and Smirnov, 5 %
    assert np.mean([one.interval[0] <= 1 <= one.interval[1] for one in found]) > 0.85
    assert np.mean([one.share_above for one in found]) == pytest.approx(0.05, abs=0.03)


# --- drift -----------------------------------------------------------------------------------------------------------


def drifted(sound: Sound) -> Drifts:
    return drifts(minutes(sound, PIECE), np.random.default_rng(0))


def test_a_steady_stream_does_not_drift(stream: Sound) -> None:
    found = drifted(stream)
    for one in (found.level, found.centroid, found.tuning):
        assert one.p_value is not None
        assert one.p_value > 0.02
    assert abs(found.first.tuning) < 2


@pytest.mark.parametrize("decibels", [6.0, -6.0])
def test_a_drift_of_level_shows_and_nothing_else(stream: Sound, decibels: float) -> None:
    found = drifted(spoil.swell(stream, decibels))
    pieces = len(stream) // PIECE
    assert found.last.level - found.first.level == pytest.approx(decibels * (pieces - 1) / pieces, abs=0.9)
    assert (found.level.p_value or 1) < 0.001
    assert (found.tuning.p_value or 0) > 0.02


@pytest.mark.parametrize("semitones", [-0.4, 1.5])
def test_a_drift_of_pitch_shows(stream: Sound, semitones: float) -> None:
    found = drifted(spoil.rise(stream, semitones))
    pieces = len(stream) // PIECE
    assert found.tuning.distance == pytest.approx(abs(100 * semitones) * (pieces - 1) / pieces, rel=0.15)
    assert (found.tuning.p_value or 1) < 0.001
    assert found.tuning.distance > 5 * found.tuning.usual


@given(st.floats(-45, 45))
@settings(max_examples=15)
def test_tuning_is_measured_in_cents(cents: float) -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    notes = 440 * 2 ** ((np.array([-12, -5, 4, 7]) + cents / 100) / 12)
    [one] = minutes(np.sin(2 * np.pi * notes[:, None] * time).sum(axis=0).astype(np.float32), len(time))
    assert one.tuning == pytest.approx(cents, abs=1)


def test_the_centroid_of_a_sine_is_its_frequency() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    [one] = minutes(np.sin(2 * np.pi * 1_000 * time).astype(np.float32), len(time))
    assert one.centroid == pytest.approx(1_000, rel=0.02)


def test_silence_does_not_drift() -> None:
    found = drifted(np.zeros(6 * PIECE, np.float32))
    for one in (found.level, found.centroid, found.tuning):
        assert (one.distance, one.usual, one.p_value) == (0, 0, 1)


def test_an_ear_that_hears_another_style_in_the_end_drifts() -> None:
    random = np.random.default_rng(0)
    styles = np.linspace(0, 1, 20)[:, None] * random.normal(0, 1, 16) + 1
    wandering, steady = (base + random.normal(0, 0.1, (20, 16)) for base in (styles, np.ones((20, 16))))
    assert (drift(impressions_apart(wandering), random).p_value or 1) < 0.001
    assert (drift(impressions_apart(steady), random).p_value or 0) > 0.05


def test_p_values_of_drift_are_uniform_for_minutes_in_any_order() -> None:
    random = np.random.default_rng(0)
    p_values = [drift(np.abs(np.subtract.outer(v, v)), random).p_value or 0 for v in random.normal(0, 1, (40, 8))]
    assert np.abs(np.sort(p_values) - np.arange(1, 41) / 40).max() < 1.36 / np.sqrt(40)


def test_short_streams() -> None:
    assert minutes(np.zeros(PIECE - 1, np.float32), PIECE) == []
    with pytest.raises(EvaluationError, match="longer"):
        drifts(minutes(np.zeros(PIECE, np.float32), PIECE), np.random.default_rng(0))
    found = drifts(minutes(np.zeros((FEWEST - 1) * PIECE, np.float32), PIECE), np.random.default_rng(0))
    assert found.level.p_value is None


# --- what is spoilt --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda sound: spoil.click(sound, SPLICES),
        lambda sound: spoil.step(sound, SPLICES),
        lambda sound: spoil.swell(sound),
        lambda sound: spoil.rise(sound),
        lambda sound: spoil.shuffle(sound, SPLICES, np.random.default_rng(0))[0],
    ],
)
def test_spoiling_makes_a_new_sound(stream: Sound, spoilt: Callable[[Sound], Sound]) -> None:
    before = stream.copy()
    made = spoilt(stream)
    assert made.dtype == np.float32
    assert np.array_equal(stream, before)
    assert not np.array_equal(made, stream)
    assert np.isfinite(made).all()


def test_shuffled_windows_are_all_there_between_the_cuts(stream: Sound) -> None:
    shuffled, cuts = spoil.shuffle(stream, SPLICES, np.random.default_rng(0))
    windows, made = ({part.tobytes() for part in np.split(*each)} for each in ((stream, SPLICES), (shuffled, cuts)))
    assert windows == made
