"""The figures of plans, on plans whose figures are known."""

import numpy as np
import pytest

from benchmarks.composer import Plans, measure, written
from generator.moods import MOODS
from generator.plan import FEATURES, LOUDNESS, ONSET
from tests.generator.tiny import tiny_checkpoint


def plans(beat_frames: int | None, seed: int = 0) -> Plans:
    """Eight stretches of 10 s: a little noise, and strokes every so many frames with a jump in loudness each."""
    random = np.random.default_rng(seed)
    made = 0.05 * random.random((8, FEATURES, 125))
    onsets = made[:, ONSET].transpose(0, 2, 1).reshape(8, -1).copy()
    if beat_frames is not None:
        onsets[:, beat_frames // 2 :: beat_frames] = 1.0
        struck = onsets.reshape(8, 125, -1).max(axis=2) > 0.5
        made[:, LOUDNESS] += struck
    made[:, ONSET] = onsets.reshape(8, 125, -1).transpose(0, 2, 1)
    return made


@pytest.mark.parametrize("beat_frames", [20, 25, 40])
def test_a_steady_beat_is_counted_and_heard_as_a_pulse(beat_frames: int) -> None:
    found = measure(plans(beat_frames))
    assert found["strong onsets a second"] == pytest.approx(50 / beat_frames, rel=0.05)
    assert found["pulse"] > 0.8
    assert found["rise with onset"] > 0.5
    assert found["loudness, step"] > 0.2


def test_noise_has_no_pulse_and_no_onset() -> None:
    found = measure(plans(None))
    assert found["strong onsets a second"] == 0
    assert found["pulse"] < 0.3
    assert abs(found["rise with onset"]) < 0.2


def test_what_is_written_is_another_stretch_each_time_and_always_the_same() -> None:
    checkpoint = tiny_checkpoint()
    made = written(MOODS[2], 4, 60, 7, checkpoint)
    assert made.shape == (4, FEATURES, 60)
    assert len({stretch.tobytes() for stretch in made}) == 4
    assert np.array_equal(made, written(MOODS[2], 4, 60, 7, checkpoint))
