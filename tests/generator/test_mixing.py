import numpy as np
import pytest

from generator.mixing import cross_fade
from generator.protocol import SAMPLE_RATE
from generator.stereo import Samples

LENGTH = SAMPLE_RATE // 5


def tone(hertz: float) -> Samples:
    wave: Samples = np.sin(2 * np.pi * hertz / SAMPLE_RATE * np.arange(LENGTH)).astype(np.float32)
    return wave


def treble(seed: int) -> Samples:
    return above(10_000, np.random.default_rng(seed).normal(size=LENGTH).astype(np.float32))


def above(hertz: float, sound: Samples) -> Samples:
    high = np.fft.rfftfreq(LENGTH, 1 / SAMPLE_RATE) > hertz
    part: Samples = np.fft.irfft(np.where(high, np.fft.rfft(sound), 0), LENGTH).astype(np.float32)
    return part


def level(sound: Samples, middle: float = 0.5) -> float:
    """RMS of a fifth of it, around a place from 0 to 1."""
    reach, place = LENGTH // 10, round(middle * LENGTH)
    return float(np.sqrt(np.square(sound[max(0, place - reach) : place + reach]).mean()))


def test_it_begins_as_the_one_and_ends_as_the_other() -> None:
    old, new = treble(0), treble(1) + tone(300)
    joint = cross_fade(old, new)
    np.testing.assert_allclose(joint[:5], old[:5], atol=0.01)
    np.testing.assert_allclose(joint[-5:], new[-5:], atol=0.01)


def test_nothing_to_fade_is_nothing() -> None:
    assert cross_fade(np.zeros(0, np.float32), np.zeros(0, np.float32)).shape == (0,)


@pytest.mark.parametrize("middle", [0.25, 0.5, 0.75])
def test_partials_that_agree_do_not_swell_and_noise_above_them_does_not_sink(middle: float) -> None:
    """Though most of the power is in the partials."""
    partials = tone(300)
    joint = cross_fade(partials + 0.1 * treble(0), partials + 0.1 * treble(1))
    high = above(5_000, joint)
    assert level(joint - high, middle) == pytest.approx(level(partials, middle), rel=0.01)
    assert level(high, middle) == pytest.approx(level(0.1 * treble(2)), rel=0.07)


def test_what_takes_itself_away_is_helped_by_half_at_most() -> None:
    joint = cross_fade(tone(300), -tone(300))
    assert level(joint) < 0.5 * level(tone(300))
