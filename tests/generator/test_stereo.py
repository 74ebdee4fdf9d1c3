"""Stereo: wide above the bass, and mono when folded."""

import numpy as np
import pytest

from generator.protocol import SAMPLE_RATE
from generator.stereo import WIDTH, Samples, widen

NOTHING = np.zeros(0, np.float32)


def noise(samples: int) -> Samples:
    return np.random.default_rng(1).standard_normal(samples).astype(np.float32)


def test_folds_back_to_the_same_mono() -> None:
    sound = noise(9_600)
    assert widen(NOTHING, sound).mean(axis=1) == pytest.approx(sound, abs=1e-5)


def test_pieces_are_the_whole() -> None:
    sound = noise(20_000)
    whole = widen(NOTHING, sound)
    pieces = [widen(sound[:begin], sound[begin : begin + 2_500]) for begin in range(0, 20_000, 2_500)]
    assert np.concatenate(pieces) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize(("hertz", "least", "most"), [(60, 0.0, 0.12), (1_000, 0.13, 0.7), (6_000, 0.13, 0.7)])
def test_bass_stays_in_the_middle(hertz: float, least: float, most: float) -> None:
    sound = np.sin(2 * np.pi * hertz * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    left, right = widen(sound, sound).T
    side = float(np.std(left - right) / 2 / np.std(sound))
    assert least <= side <= most


def test_no_colour_is_lost_and_power_is_even() -> None:
    left, right = widen(NOTHING, noise(4 * SAMPLE_RATE)).T
    assert np.std(left) == pytest.approx(np.std(right), rel=0.05)
    assert np.corrcoef(left, right)[0, 1] == pytest.approx((1 - WIDTH**2) / (1 + WIDTH**2), abs=0.05)
