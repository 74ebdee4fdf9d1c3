import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bot.jitter_buffer import FADE_FRAMES, FURTHEST_FRAMES, LEAD_FRAMES, RESUME_FRAMES, Frame, JitterBuffer
from generator.protocol import CHANNELS, FRAME_BYTES, FRAME_SAMPLES, SAMPLE_RATE

HERTZ = 300.0
AMPLITUDE = 8_000.0
STEEPEST = AMPLITUDE * 2 * math.pi * HERTZ / SAMPLE_RATE


def tone(index: int, phase: float = 0.0) -> bytes:
    """The frame at ``index`` of an endless sine."""
    places = np.arange(index * FRAME_SAMPLES, (index + 1) * FRAME_SAMPLES)
    wave = np.rint(AMPLITUDE * np.sin(2 * math.pi * HERTZ / SAMPLE_RATE * places + phase))
    return np.repeat(wave[:, None], CHANNELS, axis=1).astype("<i2").tobytes()


def level(value: int) -> bytes:
    return np.full((FRAME_SAMPLES, CHANNELS), value, "<i2").tobytes()


def take(buffer: JitterBuffer, frames: int) -> list[Frame]:
    return [buffer.next() for _ in range(frames)]


def filled(frames: int, make: Callable[[int], bytes] = tone) -> JitterBuffer:
    buffer = JitterBuffer()
    for index in range(frames):
        buffer.put(index, make(index))
    return buffer


def joined(frames: list[Frame]) -> NDArray[np.int32]:
    return np.concatenate(frames)[:, 0].astype(np.int32)


def test_silence_until_a_fades_length_is_there_then_it_fades_in() -> None:
    buffer = filled(RESUME_FRAMES - 1)
    assert not np.any(joined(take(buffer, 10)))
    assert buffer.counts.held == 0
    buffer.put(RESUME_FRAMES - 1, tone(RESUME_FRAMES - 1))
    heard = joined(take(buffer, RESUME_FRAMES))
    assert np.abs(heard[:FRAME_SAMPLES]).max() < AMPLITUDE / 10
    assert np.abs(heard[-FRAME_SAMPLES:]).max() > 0.95 * AMPLITUDE


def test_what_was_put_is_what_comes_to_the_bit() -> None:
    buffer = filled(200)
    take(buffer, FADE_FRAMES)
    for index in range(FADE_FRAMES, 200):
        assert buffer.next().astype("<i2").tobytes() == tone(index)


def test_a_replacement_is_heard_from_its_place_and_drops_the_future_that_it_replaces() -> None:
    buffer = filled(200, lambda _: level(1_000))
    take(buffer, 100)
    buffer.put(120, level(2_000))
    assert buffer.ready == 21
    for index in range(121, 180):
        buffer.put(index, level(2_000))
    heard = take(buffer, 80)
    assert all((frame == 1_000).all() for frame in heard[:20])
    assert all((frame == 2_000).all() for frame in heard[20:])
    assert buffer.counts.held == 0


def test_a_change_that_comes_too_late_is_faded_in_where_it_can_be() -> None:
    buffer = filled(200)
    heard = take(buffer, 100)
    for index in range(90, 200):
        buffer.put(index, tone(index, phase=math.pi))
    assert buffer.counts.late == 10
    heard += take(buffer, 90)
    assert np.abs(np.diff(joined(heard))).max() <= 1.5 * STEEPEST + 20
    assert heard[-1].astype("<i2").tobytes() == tone(buffer.playhead - 1, phase=math.pi)


def test_dry_it_holds_and_loses_nothing_of_the_music() -> None:
    buffer = filled(100)
    take(buffer, 100)
    held = take(buffer, 500)
    assert buffer.playhead == 100
    assert buffer.counts.held == 500
    assert all(np.abs(frame).max() > AMPLITUDE / 2 for frame in held)
    for index in range(100, 200):
        buffer.put(index, tone(index))
    take(buffer, FADE_FRAMES)
    assert buffer.next().astype("<i2").tobytes() == tone(100 + FADE_FRAMES)


def test_a_trickle_does_not_break_the_hold_off_before_a_fade_fits() -> None:
    buffer = filled(50)
    take(buffer, 60)
    for index in range(50, 50 + RESUME_FRAMES - 1):
        buffer.put(index, tone(index))
        buffer.next()
        assert buffer.holding


def test_another_streams_frames_are_faded_in_and_the_old_streams_dropped() -> None:
    buffer = filled(200)
    heard = take(buffer, 100)
    buffer.begin_stream()
    start = buffer.resume_at(changed=True)
    assert start == 100 + LEAD_FRAMES
    heard += take(buffer, 5)
    for index in range(start, start + 100):
        buffer.put(index, tone(index, phase=2.5))
    heard += take(buffer, 90)
    assert np.abs(np.diff(joined(heard))).max() <= 1.5 * STEEPEST + 20
    assert heard[-1].astype("<i2").tobytes() == tone(buffer.playhead - 1, phase=2.5)


def continued(buffer: JitterBuffer, first: int, frames: int, make: Callable[[int], bytes]) -> None:
    """Another stream goes on from ``first``."""
    buffer.begin_stream()
    buffer.continue_stream()
    for index in range(first, first + frames):
        buffer.put(index, make(index))


@pytest.mark.parametrize("rounding", [0, 50])
@pytest.mark.parametrize("first", [60, 100, 150, 200])
def test_a_stream_that_goes_on_from_another_is_heard_without_a_fade(first: int, rounding: int) -> None:
    """From places that were heard already as well as from those that were not."""

    def make(index: int) -> bytes:
        return (np.frombuffer(tone(index), "<i2") + np.int16(rounding)).tobytes()

    buffer = filled(200)
    take(buffer, 100)
    continued(buffer, first, 200, make)
    heard = take(buffer, 150)
    for index, frame in enumerate(heard, 100):
        assert frame.astype("<i2").tobytes() == (tone if index < first else make)(index)
    assert (buffer.counts.held, buffer.counts.late) == (0, 0)


@pytest.mark.parametrize("ready", [100, 101, 200])
def test_where_another_machine_made_other_sound_it_is_joined_by_a_fade(ready: int) -> None:
    buffer = filled(ready)
    heard = take(buffer, 100)
    continued(buffer, 60, 200, lambda index: tone(index, phase=math.pi / 2))
    heard += take(buffer, 100)
    assert np.abs(np.diff(joined(heard))).max() <= 1.5 * STEEPEST + 20
    assert heard[-1].astype("<i2").tobytes() == tone(buffer.playhead - 1, phase=math.pi / 2)
    assert (buffer.counts.held, buffer.counts.late) == (0, 0)


def test_unchanged_it_resumes_where_what_it_has_ends() -> None:
    buffer = filled(200)
    take(buffer, 100)
    assert buffer.resume_at(changed=False) == 200
    take(buffer, 150)
    assert buffer.resume_at(changed=False) == 200
    assert buffer.resume_at(changed=True) == 200


def test_memory_is_bounded_whatever_a_server_sends() -> None:
    buffer = JitterBuffer()
    for index in range(FURTHEST_FRAMES + 500):
        buffer.put(index, level(0))
    buffer.put(2**47, level(0))
    assert buffer.counts.refused == 500
    assert buffer.ready == FURTHEST_FRAMES + 1


Step = tuple[str, int, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("play"), st.integers(1, 60), st.just(0)),
        st.tuples(st.just("put"), st.integers(-30, 120), st.integers(1, 90)),
        st.tuples(st.just("stream"), st.integers(-10, 60), st.integers(0, 60)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=50)
@given(steps=STEPS, shuffle=st.randoms(use_true_random=False))
def test_whatever_arrives_no_frame_is_missing_and_nothing_jumps(steps: list[Step], shuffle: random.Random) -> None:
    """Runs of frames at any place, replaced, out of order, late, with gaps, from new streams of another phase."""
    buffer = filled(60)
    heard: list[Frame] = []
    phase, playhead = 0.0, 0
    for kind, first, second in steps:
        if kind == "play":
            for _ in range(first):
                heard.append(buffer.next())
                assert heard[-1].shape == (FRAME_SAMPLES, CHANNELS)
                assert buffer.playhead >= playhead
                playhead = buffer.playhead
        else:
            if kind == "stream":
                buffer.begin_stream()
                phase += 2.0
            places = list(range(max(0, playhead + first), max(0, playhead + first) + second))
            if shuffle.random() < 0.3:
                shuffle.shuffle(places)
            for place in places:
                buffer.put(place, tone(place, phase))
    if heard:
        # A fade adds two waves in phase to √2 times one, a fade of a fade to √3 times; a cut is up to 43 times.
        assert np.abs(np.diff(joined(heard))).max() <= 2.5 * STEEPEST + 30


@pytest.mark.parametrize("frames", [2 * RESUME_FRAMES, 100, 300])
def test_no_silence_once_there_was_music(frames: int) -> None:
    buffer = filled(frames)
    heard = take(buffer, 1_000)
    for frame in heard[FADE_FRAMES:]:
        assert float(np.abs(frame).max()) > AMPLITUDE / 4
    assert heard[0].nbytes == FRAME_BYTES
