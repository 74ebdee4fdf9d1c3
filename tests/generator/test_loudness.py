import numpy as np
import pytest

from generator.loudness import FLOOR_LUFS, SHORT_TERM_SECONDS, jump, loudness, lufs, powers


def sine(hertz: float, amplitude: float, seconds: float = 1.0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    tone = amplitude * np.sin(2 * np.pi * hertz * np.arange(round(48_000 * seconds)) / 48_000)
    return np.stack([tone, tone], axis=1).astype(np.float32)


def test_the_standards_own_calibration() -> None:
    """BS.1770-4: a 997 Hz sine at full scale in one channel is at -3.01 LKFS; in both it is 3.01 more."""
    both = sine(997, 1.0)
    one = both * np.array([1, 0], np.float32)
    assert lufs(one) == pytest.approx(-3.01, abs=0.05)
    assert lufs(both) == pytest.approx(0.0, abs=0.05)


def test_bass_counts_less_and_treble_more() -> None:
    assert lufs(sine(40, 0.5)) < lufs(sine(997, 0.5)) - 2
    assert lufs(sine(4_000, 0.5)) > lufs(sine(997, 0.5)) + 2.5


def test_silence_is_at_the_floor() -> None:
    assert lufs(np.zeros((100, 2), np.float32)) == FLOOR_LUFS
    assert lufs(np.zeros((0, 2), np.float32)) == FLOOR_LUFS


@pytest.mark.parametrize("step", [0.0, 1.0, 6.0])
def test_a_jump_is_measured_in_loudness_units(step: float) -> None:
    sound = sine(1_000, 0.1, 2.0)
    sound[48_000:] *= 10 ** (step / 20)
    assert jump(sound, 48_000) == pytest.approx(step, abs=0.05)


def test_a_jump_between_bars_is_not_one_between_strokes() -> None:
    sound = sine(1_000, 0.1, 6.0)
    sound[3 * 48_000 : 3 * 48_000 + 19_200] *= 2
    assert jump(sound, 3 * 48_000) == pytest.approx(6, abs=0.1)
    assert jump(sound, 3 * 48_000, SHORT_TERM_SECONDS) == pytest.approx(1.46, abs=0.1)  # (0.4 · 4 + 2.6) / 3


def test_steps_add_up_to_the_whole() -> None:
    random = np.random.default_rng(1)
    sound = (0.1 * random.standard_normal(48_000 + 7)).astype(np.float32)
    stepwise = powers(sound, 960)
    assert stepwise.shape == (50,)
    assert loudness(float(stepwise.mean())) == pytest.approx(lufs(sound[:48_000, None]), abs=0.05)


@pytest.mark.parametrize("hertz", [40, 200, 997, 4_000])
def test_a_step_is_weighted_as_the_whole_is(hertz: float) -> None:
    tone = sine(hertz, 0.3)[:, 0]
    tone[24_000:] *= 0.5
    quiet, loud = (loudness(float(powers(tone, 960)[part].mean())) for part in (slice(30, 50), slice(5, 24)))
    assert loud == pytest.approx(lufs(sine(hertz, 0.3)[:, :1]), abs=0.2)
    assert loud - quiet == pytest.approx(6.02, abs=0.1)
