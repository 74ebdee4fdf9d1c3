"""Each defect is found where it was planted, and nowhere else."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.evaluation import defects
from training.evaluation.defects import Clip, measure, summary
from training.evaluation.excerpts import Excerpt, Sound
from training.manifest import SAMPLE_RATE

SECONDS = 4.0
COUNT = round(SECONDS * SAMPLE_RATE)
TIME = np.arange(COUNT) / SAMPLE_RATE
DEFECTS = ("not_finite", "blank", "clipped", "constant", "noise")


def tune(seed: int = 2) -> Sound:
    """A plain one: eight decaying notes."""
    time = TIME[: COUNT // 8]
    pitches = 220 * 2 ** (np.random.default_rng(seed).integers(0, 24, 8) / 12)
    notes = [0.3 * np.exp(-6 * time) * np.sin(2 * np.pi * hertz * time) for hertz in pitches]
    return np.concatenate(notes).astype(np.float32)


def white(seed: int = 3) -> Sound:
    return (0.1 * np.random.default_rng(seed).standard_normal(COUNT)).astype(np.float32)


def look(sound: NDArray[np.floating[Any]], label: str = "made") -> Clip:
    return measure(Excerpt(sound.astype(np.float32), None, label))


def named(sound: NDArray[np.floating[Any]]) -> set[str]:
    found = summary([look(sound)])
    assert found.clips == 1
    return {name for name in DEFECTS if getattr(found, name)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("silence", {"blank"}),
        ("white noise", {"blank", "noise"}),
        ("pink noise", {"blank", "noise"}),
        ("tone", {"blank"}),
        ("chord", {"blank"}),
    ],
)
@pytest.mark.parametrize("seconds", [1.0, 4.0, 10.0])
def test_what_never_changes_is_blank(name: str, expected: set[str], seconds: float) -> None:
    assert named(defects.plants(seconds, np.random.default_rng(1))[name]) == expected


def test_nothing_is_wrong_with_a_tune_until_nobody_can_hear_it() -> None:
    assert named(tune()) == set()
    assert named(0.001 * tune()) == {"blank"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_not_finite_is_found_and_spoils_no_other_figure(value: float) -> None:
    spoilt = tune()
    spoilt[1000] = value
    assert named(spoilt) == {"not_finite"}
    assert look(spoilt).not_finite == 1


@pytest.mark.parametrize(
    "sound",
    [np.full(COUNT, np.nan), np.zeros(COUNT), np.zeros(0), np.zeros(1), np.full(3, 1e38), -np.ones(100)],
    ids=["not finite", "silence", "nothing", "one sample", "huge", "short"],
)
def test_figures_of_nothing_are_finite(sound: Sound) -> None:
    found = look(sound)
    assert found.blank
    assert all(np.isfinite(value) for name, value in asdict(found).items() if name != "label")


@pytest.mark.parametrize(
    "swell",
    [np.ones(COUNT), 0.6 + 0.4 * np.sin(2 * np.pi * 2 * TIME), np.exp(-8 * (TIME % 0.5))],
    ids=["steady", "swelling", "in bursts"],
)
@pytest.mark.parametrize("colour", [0.0, 0.5, 1.0], ids=["white", "pink", "brown"])
def test_noise_is_noise_of_any_colour_and_however_it_moves(colour: float, swell: Sound) -> None:
    spectrum = np.fft.rfft(white())
    noise = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** colour, COUNT) * swell
    assert look(0.1 * noise / noise.std()).noise


@pytest.mark.parametrize(("decibels", "noise"), [(-10, False), (10, False), (30, True)])
def test_a_tune_drowns_in_noise_and_not_before(decibels: float, noise: bool) -> None:
    assert look(tune() / tune().std() + 10 ** (decibels / 20) * white() / white().std()).noise is noise


@pytest.mark.parametrize("gain", [0.1, 1.0, 4.0])
def test_a_cut_off_peak_is_clipped_at_any_level_and_a_bent_one_is_not(gain: float) -> None:
    wave = tune() / np.abs(tune()).max()
    assert named(gain * np.clip(wave, -0.7, 0.7)) == {"clipped"}
    assert named(gain * np.clip(wave, -2.0, 0.7)) == {"clipped"}, "on one side alone"
    assert not look(gain * np.tanh(2 * wave)).clipped


def test_a_clipped_16_bit_sound_is_clipped_and_a_full_scale_one_is_not() -> None:
    wave = tune() / np.abs(tune()).max()
    for loud, clipped in ((1.0, False), (2.0, True)):
        pcm = np.clip(np.round(loud * 32_767 * wave), -32_768, 32_767) / 32_768
        assert look(pcm).clipped is clipped


@pytest.mark.parametrize("value", [0.0, 0.3, -0.001])
def test_a_value_that_stays_is_constant(value: float) -> None:
    assert named(np.full(COUNT, value)) >= {"blank", "constant"}


def test_direct_current_under_a_whisper_is_constant_and_a_little_under_a_tune_is_not() -> None:
    assert look(0.2 + 0.1 * tune()).constant
    assert not look(0.02 + tune()).constant


def test_a_generator_that_stops_is_constant() -> None:
    whole = np.concatenate([tune(), np.full(COUNT, tune()[-1])])
    assert look(whole).constant
    assert look(whole).frozen == pytest.approx(SECONDS, abs=0.01)


def test_the_clips_meant_are_named() -> None:
    found = summary([look(tune(), "one"), look(np.zeros(COUNT), "two"), look(white(), "three")])
    assert found == defects.Defects(3, (), ("two at 0:00", "three at 0:00"), (), ("two at 0:00",), ("three at 0:00",))


def test_level_of_a_sine_is_3_db_below_its_peak() -> None:
    assert defects.level(np.sin(2 * np.pi * 100 * TIME).astype(np.float32)) == pytest.approx(-3.01, abs=0.01)


@settings(max_examples=8)
@given(st.integers(0, 10_000), st.floats(-25.0, 5.0))
def test_a_gain_changes_the_level_and_nothing_else(seed: int, gain: float) -> None:
    sound = tune(seed) + 0.01 * white(seed)
    plain, other = look(sound), look(10 ** (gain / 20) * sound)
    assert other.level == pytest.approx(plain.level + gain, abs=0.01)
    assert other.flatness == pytest.approx(plain.flatness, abs=0.01)
    assert other.offset == pytest.approx(plain.offset, abs=1e-4)
    assert other.flat_tops == pytest.approx(plain.flat_tops, abs=1e-5)
