import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bot.hold import MIN_LOOP_SAMPLES, Extension, cross_fade, equal_power
from generator.protocol import SAMPLE_RATE


def sine(hertz: float, samples: int, amplitude: float = 10_000) -> NDArray[np.int16]:
    tone = amplitude * np.sin(2 * math.pi * hertz / SAMPLE_RATE * np.arange(samples))
    return np.repeat(np.rint(tone)[:, None], 2, axis=1).astype(np.int16)


@given(st.integers(2, 5000), st.floats(-1, 1))
def test_a_fade_begins_and_ends_exactly_and_keeps_the_power(samples: int, correlation: float) -> None:
    out, into = equal_power(samples, correlation)
    assert out[0] == 1
    assert into[0] == 0
    assert out[-1] == pytest.approx(0, abs=1e-6)
    assert into[-1] == pytest.approx(1)
    power = out**2 + into**2 + 2 * max(0.0, correlation) * out * into
    assert np.allclose(power, 1, atol=1e-5)


def test_alike_sounds_do_not_swell_and_unlike_ones_keep_their_level() -> None:
    tone = sine(440, SAMPLE_RATE).astype(np.float32)
    assert np.abs(cross_fade(tone, tone)).max() <= 10_001
    noise = np.random.default_rng(1).normal(0, 3_000, (2, SAMPLE_RATE, 2)).astype(np.float32)
    mixed = cross_fade(noise[0], noise[1])
    middle = mixed[SAMPLE_RATE // 3 : -SAMPLE_RATE // 3]
    assert float(np.sqrt(np.mean(middle**2))) == pytest.approx(3_000, rel=0.03)


@settings(max_examples=15)
@given(hertz=st.floats(60, 2_000), samples=st.integers(1_920, 6 * SAMPLE_RATE), piece=st.sampled_from([480, 960, 1000]))
def test_a_sine_goes_on_without_a_jump(hertz: float, samples: int, piece: int) -> None:
    heard = sine(hertz, samples)
    extension = Extension(heard)
    more = np.concatenate([extension.take(piece) for _ in range(6 * SAMPLE_RATE // piece)])
    whole = np.concatenate([heard.astype(np.float32), more])
    steepest = 10_000 * 2 * math.pi * hertz / SAMPLE_RATE
    assert np.isfinite(whole).all()
    # √2: two uncorrelated sines in the middle of a fade; the rest is rounding and the fade's own slope.
    assert np.abs(np.diff(whole[:, 0])).max(initial=0) <= 1.5 * steepest + 20


def test_a_rhythm_is_kept_to_the_sample() -> None:
    beat = 30_007
    clicks = np.zeros((8 * SAMPLE_RATE, 2), np.int16)
    rng = np.random.default_rng(0)
    drum = (rng.normal(0, 8_000, (2_000, 1)) * np.exp(-np.arange(2_000) / 400)[:, None]).astype(np.int16)
    for start in range(0, len(clicks) - len(drum), beat):
        clicks[start : start + len(drum)] = drum
    extension = Extension(clicks)
    assert extension.period % beat == 0
    more = extension.take(2 * beat)
    resumed = len(clicks) % beat  # into a beat, that is, when the sound stopped
    assert np.array_equal(more[beat - resumed : beat - resumed + len(drum)], drum.repeat(2, axis=1))


def test_the_level_is_kept_for_minutes() -> None:
    noise = np.random.default_rng(2).normal(0, 3_000, (8 * SAMPLE_RATE, 2)).astype(np.int16)
    extension = Extension(noise)
    for _ in range(60):
        second = extension.take(SAMPLE_RATE)
        assert 2_400 < float(np.sqrt(np.mean(second**2))) < 3_600


def test_it_repeats_no_sooner_than_it_must() -> None:
    noise = np.random.default_rng(3).normal(0, 3_000, (8 * SAMPLE_RATE, 2)).astype(np.int16)
    more = Extension(noise).take(4 * SAMPLE_RATE)
    for lag in range(SAMPLE_RATE // 2, MIN_LOOP_SAMPLES - SAMPLE_RATE // 4, 1_000):
        assert not np.allclose(more[SAMPLE_RATE : SAMPLE_RATE + 500], more[SAMPLE_RATE + lag : SAMPLE_RATE + lag + 500])
