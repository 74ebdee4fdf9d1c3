import numpy as np
import pytest

from training.evaluation.ear import Ear
from training.evaluation.excerpts import Sound
from training.evaluation.musicnn import HOP, PATCH_FRAMES
from training.evaluation.musicnn import SAMPLE_RATE as EAR_RATE
from training.manifest import SAMPLE_RATE


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear()


def chord(*frequencies: float, seconds: float = 3.2) -> Sound:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones: Sound = np.sum([0.1 * np.sin(2 * np.pi * frequency * t) for frequency in frequencies], 0).astype(np.float32)
    return tones


def test_like_is_near_and_unlike_is_far(ear: Ear) -> None:
    hiss = np.random.default_rng(0).normal(0, 0.1, round(3.2 * SAMPLE_RATE)).astype(np.float32)
    one, near, far = ear.listen([chord(220, 277, 330), chord(221, 278, 331), hiss])
    assert 3 * np.linalg.norm(one - near) < np.linalg.norm(one - far)


def test_each_sound_is_heard_for_itself_and_alike_at_each_time(ear: Ear) -> None:
    sounds = [chord(220), chord(330)]
    together = ear.listen(sounds)
    assert together.dtype == np.float32
    assert together.shape == (2, 200)
    assert np.array_equal(together[1:], ear.listen(sounds[1:]))
    assert ear.listen([]).shape == (0, 200)


def test_all_of_a_sound_is_heard(ear: Ear) -> None:
    seconds = PATCH_FRAMES * HOP / EAR_RATE
    one, other = chord(220, 277, 330, seconds=seconds), chord(1200, 3100, seconds=seconds)
    both, first, last = ear.listen([np.concatenate([one, other]), one, other])
    assert np.linalg.norm(both - (first + last) / 2) < 0.1 * np.linalg.norm(first - last)


def test_what_can_not_be_played_is_heard_as_it_would_sound(ear: Ear) -> None:
    broken = chord(220)
    broken[1000:2000] = np.nan
    broken[3000], broken[4000] = np.inf, -np.inf
    broken[5000:6000] = 1e30
    mended = np.where(np.isfinite(broken), np.clip(broken, -1, 1), 0).astype(np.float32)
    with np.errstate(all="raise"):
        heard = ear.listen([broken, mended])
    assert np.isfinite(heard).all()
    assert np.array_equal(*heard)
    nothing, silence = ear.listen([np.full(3 * SAMPLE_RATE, np.nan, np.float32), np.zeros(3 * SAMPLE_RATE, np.float32)])
    assert np.array_equal(nothing, silence)


def test_a_short_sound_is_one_followed_by_silence(ear: Ear) -> None:
    short = chord(220, seconds=1)
    filled = np.pad(short, (0, 2 * SAMPLE_RATE))
    one, other = ear.listen([short, filled])
    assert np.abs(one - other).max() < 1e-3
    assert np.isfinite(ear.listen([np.zeros(0, np.float32)])).all()
