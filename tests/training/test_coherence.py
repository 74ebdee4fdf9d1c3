"""Each figure of coherence falls for the fault that it is made for, and for no other."""

from dataclasses import asdict

import numpy as np
import pytest

from tests.training.synthetic_music import drone, excerpt, noise, notes_at_random, piece
from training.evaluation.coherence import Coherence, measure
from training.evaluation.excerpts import Sound
from training.manifest import SAMPLE_RATE

FIGURES = ("beat", "steadiness", "key", "repetition", "density")
SHUFFLED = np.random.default_rng(5).integers(0, 4, 40).tolist()
MODULATING = (0, 6, 1, 8, 3, 10, 4, 11, 5, 2, 9, 7)


@pytest.fixture(scope="module")
def sound() -> Coherence:
    return measure(excerpt(piece()))


def ratios(found: Coherence, sound: Coherence) -> dict[str, float]:
    return {name: getattr(found, name) / getattr(sound, name) for name in FIGURES}


def test_a_metronomic_piece_has_all(sound: Coherence) -> None:
    assert sound.beat > 0.9
    assert sound.steadiness > 0.85
    assert sound.key > 0.6
    assert sound.repetition > 0.5
    assert sound.density == pytest.approx(4.0, abs=0.1), "four notes and drums a second, of which half fall together"


@pytest.mark.parametrize(
    ("planted", "fallen", "most"),
    [
        ({"wander": 0.05}, "steadiness", 0.6),
        ({"wander": 0.1}, "steadiness", 0.6),
        ({"keys": MODULATING}, "key", 0.5),
        ({"bars": SHUFFLED}, "repetition", 0.35),
    ],
    ids=["a tempo that wanders a little", "a tempo that wanders", "modulating in every bar", "bars shuffled"],
)
def test_a_fault_lowers_its_own_figure_alone(
    planted: dict[str, float], fallen: str, most: float, sound: Coherence
) -> None:
    found = ratios(measure(excerpt(piece(**planted))), sound)  # type: ignore[arg-type]
    assert found.pop(fallen) < most
    assert min(found.values()) > 0.65, found


def test_without_drums_there_are_fewer_onsets_and_all_else_stands(sound: Coherence) -> None:
    found = ratios(measure(excerpt(piece(drums=False))), sound)
    assert found.pop("density") == pytest.approx(0.5, abs=0.05)
    assert found.pop("beat") > 0.5
    assert min(found.values()) > 0.95


def test_noise_has_none(sound: Coherence) -> None:
    found = measure(excerpt(noise()))
    assert found.density == 0.0
    assert found.repetition < 0.05
    assert max(ratios(found, sound).values()) < 0.3


def test_notes_at_random_are_notes_and_nothing_else(sound: Coherence) -> None:
    found = measure(excerpt(notes_at_random()))
    assert found.density == pytest.approx(2.0, abs=0.3)
    others = ratios(found, sound)
    del others["density"]
    assert max(others.values()) < 0.4, others


def test_a_drone_has_a_key_and_nothing_else() -> None:
    found = measure(excerpt(drone()))
    assert found.key > 0.4
    assert found.beat < 0.02
    assert found.steadiness < 0.1
    assert found.repetition < 0.02, "what never changes does not repeat"
    assert found.density < 0.1


def test_the_figures_rise_with_the_music_in_the_noise() -> None:
    mixed = [measure(excerpt(noise(20.0) * (1 - part) + piece(20.0) * part)) for part in (0.0, 0.3, 0.7)]
    for name in FIGURES:
        values = [getattr(found, name) for found in mixed]
        assert values == sorted(values), name
        assert values[-1] > 1.5 * values[0], name


@pytest.mark.parametrize("gain", [0.03, 3.0])
def test_level_does_not_matter(gain: float) -> None:
    clip = piece(10.0)
    plain, other = (asdict(measure(excerpt(sound))) for sound in (clip, gain * clip))
    assert other == pytest.approx(plain, abs=0.02)


def test_tuning_does_not_matter() -> None:
    """A quarter tone down, by resampling: as fast as makes no difference."""
    clip = piece(12.0)
    places = np.arange(10 * SAMPLE_RATE) * 2 ** (-0.5 / 12)
    lower = np.interp(places, np.arange(len(clip)), clip).astype(np.float32)
    assert measure(excerpt(lower)).key == pytest.approx(measure(excerpt(clip[: len(lower)])).key, abs=0.05)


@pytest.mark.parametrize(
    "sound",
    [np.zeros(0), np.zeros(1), np.zeros(480_000), np.full(480_000, np.nan), np.full(480_000, 0.3), noise(0.05)],
    ids=["nothing", "one sample", "silence", "not finite", "direct current", "too short"],
)
def test_what_is_nothing_scores_nothing(sound: Sound) -> None:
    found = asdict(measure(excerpt(sound)))
    assert found.pop("key") < 0.35
    assert found == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-9)


@pytest.mark.parametrize("seconds", [0.3, 3.0, 9.0])
def test_shorter_than_a_clip_has_what_can_be_had(seconds: float) -> None:
    found = measure(excerpt(piece(seconds)))
    assert (found.steadiness, found.repetition) == (0.0, 0.0)
    assert found.key > 0.3
    assert (found.beat > 0.5) == (seconds >= 4)


def test_the_same_sound_has_the_same_figures() -> None:
    clip = excerpt(piece(10.0))
    assert measure(clip) == measure(clip)
