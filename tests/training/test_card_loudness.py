"""Loudness is measured as the standards say, on the signals that they and the EBU's compliance tests name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.excerpts import Excerpt
from training.evaluation.loudness import SILENT_LUFS, Loudness, measure, summary
from training.manifest import SAMPLE_RATE


def sine(seconds: float, decibels: float, hertz: float = 1000.0) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def of(*pieces: np.ndarray) -> Loudness:
    return measure(Excerpt(np.concatenate(pieces).astype(np.float32), None, "made"))


def test_full_scale_at_997_hz_is_minus_3_01() -> None:
    """BS.1770-4, annex 1: a sine at 0 dBFS on one front channel."""
    assert of(sine(10, 0.0, 997.0)).integrated == pytest.approx(-3.01, abs=0.01)


def test_what_the_ear_hears_less_counts_less() -> None:
    assert of(sine(5, -20, 30.0)).integrated < of(sine(5, -20)).integrated - 5
    assert of(sine(5, -20, 4000.0)).integrated > of(sine(5, -20)).integrated + 2


def test_gates() -> None:
    """EBU Tech 3341, cases 3 and 4, one channel in place of two: what is quieter by more than 10 LU does not count."""
    assert of(sine(5, -36), sine(20, -23), sine(5, -36)).integrated == pytest.approx(-23.0 - 3.01, abs=0.1)
    quiet = (sine(5, -72), sine(5, -36), sine(20, -23), sine(5, -36), sine(5, -72))
    assert of(*quiet).integrated == pytest.approx(-23.0 - 3.01, abs=0.1)


@pytest.mark.parametrize(
    ("levels", "lu"), [((-20, -30), 10), ((-20, -15), 5), ((-40, -20), 20), ((-50, -35, -20, -35, -50), 15)]
)
def test_loudness_range(levels: tuple[float, ...], lu: float) -> None:
    """EBU Tech 3342, section 4, cases 1 to 4: steps of 20 s, to within 1 LU."""
    assert of(*(sine(20, level) for level in levels)).range == pytest.approx(lu, abs=1.0)


@pytest.mark.parametrize(
    "sound",
    [np.zeros(0), np.zeros(100), np.zeros(480_000), np.full(480_000, np.nan), sine(10, -90), sine(0.39, -20)],
    ids=["nothing", "short", "silence", "not finite", "too quiet", "shorter than a block"],
)
def test_what_has_no_loudness_is_at_the_gate(sound: np.ndarray) -> None:
    assert of(sound) == Loudness(SILENT_LUFS, 0.0)


def test_a_short_sound_has_loudness_and_no_range() -> None:
    found = of(sine(1, -20))
    assert found.integrated == pytest.approx(-23.01, abs=0.1)
    assert found.range == 0.0


@settings(max_examples=20)
@given(st.floats(-40.0, 0.0), st.integers(0, 99))
def test_a_gain_is_heard_to_the_decibel(gain: float, seed: int) -> None:
    noise = 0.1 * np.random.default_rng(seed).standard_normal(SAMPLE_RATE)
    assert of(10 ** (gain / 20) * noise).integrated == pytest.approx(of(noise).integrated + gain, abs=1e-3)


def test_summary_leaves_silence_out_and_counts_it() -> None:
    found = [Loudness(float(level), 4.0) for level in range(-30, -19)]
    whole = summary([*found, Loudness(SILENT_LUFS, 0.0)])
    assert whole.silent == 1
    assert whole.median == -25.0
    assert whole.spread == pytest.approx(8.0)
    assert whole.range == 4.0


@pytest.mark.parametrize("found", [[], [Loudness(SILENT_LUFS, 0.0)]])
def test_summary_of_silence_is_finite(found: list[Loudness]) -> None:
    whole = summary(found)
    assert (whole.silent, whole.median, whole.spread, whole.range) == (len(found), SILENT_LUFS, 0.0, 0.0)
