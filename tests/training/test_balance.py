"""Spectral faults are found where they were planted, beside the same music without them."""

import numpy as np
import pytest

from tests.training.synthetic_music import Samples, at_level, drone, excerpt, noise, piece
from training.evaluation.balance import CENTRES_HZ, FLOOR_DB, Balance, compare, measure, summary
from training.manifest import SAMPLE_RATE

KEYS = (0, 3, 7, 10, 5, 1)
TIME = np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE
PATCH = SAMPLE_RATE * 8 // 100  #: samples in a patch of 8 frames


def clips() -> list[Samples]:
    """Six, in different keys and with breath above the notes, so that no comb of partials is common to all."""
    breath = [noise(10.0, seed) * (0.02 + 0.02 * np.sin(2 * np.pi * (0.3 + 0.1 * seed) * TIME)) for seed in range(6)]
    return [piece(10.0, keys=(key,)) + air for key, air in zip(KEYS, breath, strict=True)]


@pytest.fixture(scope="module")
def music() -> list[Samples]:
    return clips()


@pytest.fixture(scope="module")
def real(music: list[Samples]) -> Balance:
    return of(music)


def of(sounds: list[Samples]) -> Balance:
    return summary([measure(excerpt(sound)) for sound in sounds])


def echo(sound: Samples, milliseconds: float, gain: float) -> Samples:
    delay = round(milliseconds * SAMPLE_RATE / 1000)
    return sound + gain * np.pad(sound, (delay, 0))[: len(sound)]


def test_music_is_like_itself(real: Balance) -> None:
    found = compare(real, real)
    assert found.distance == 0.0
    assert found.texture == found.movement == 1.0
    assert found.texture_thirds == (1.0, 1.0, 1.0)
    assert found.flat_bands == ()
    assert found.comb < 0.35
    assert found.patches < 1.1


def test_white_noise_rises_by_10_db_a_decade() -> None:
    """It has the same power in each hertz, and a band a decade higher is ten times as wide."""
    levels = measure(excerpt(noise(10.0))).levels
    assert 10 * np.log10(np.sum(10 ** (levels / 10))) == pytest.approx(0.0, abs=0.01)
    assert levels[15:] - levels[5:-10] == pytest.approx(10.0, abs=0.7)


@pytest.mark.parametrize("hertz", [100.0, 1000.0, 10_000.0])
def test_a_tone_is_in_its_band(hertz: float) -> None:
    found = measure(excerpt(0.1 * np.sin(2 * np.pi * hertz * TIME)))
    band = int(np.argmin(np.abs(np.log(CENTRES_HZ / hertz))))
    assert found.levels[band] == pytest.approx(0.0, abs=0.1)
    assert np.delete(found.levels, [band - 1, band, band + 1]).max() < -50
    assert found.movement[band] < 0.1


def test_a_tilt_is_named_by_band(music: list[Samples], real: Balance) -> None:
    spectra = [np.fft.rfft(sound) for sound in music]
    tilt = np.maximum(np.fft.rfftfreq(len(music[0]), 1 / SAMPLE_RATE), 20) ** 0.5  # 10 dB a decade of power
    found = compare(of([np.fft.irfft(spectrum * tilt, len(TIME)) for spectrum in spectra]), real)
    middle = slice(10, 26)
    slope = np.polyfit(np.log10(CENTRES_HZ[middle]), np.array(found.differences)[middle], 1)[0]
    assert slope == pytest.approx(10.0, abs=1.0)
    assert found.distance > 3
    assert found.flat_bands == ()


def test_smooth_is_too_smooth_and_rough_too_rough(music: list[Samples], real: Balance) -> None:
    def shaken(sound: Samples) -> Samples:
        return sound * (1 + 0.5 * np.random.default_rng(0).choice([-1, 1], 1000).repeat(480))

    assert compare(of([drone(10.0)]), real).texture < 0.3
    assert compare(of([shaken(sound) for sound in music]), real).texture > 1.1


def test_dullness_shows_in_the_upper_third(music: list[Samples], real: Balance) -> None:
    """Partials in place of breath: what the bard's first networks did to cymbals."""
    found = compare(of([piece(10.0, keys=(key,), drums=False) for key in KEYS]), real)
    assert found.texture_thirds[2] < 0.4
    assert found.texture_thirds[0] > 0.6


@pytest.mark.parametrize("decibels", [-15, -20])
def test_a_whistle_in_all_is_a_flat_band(music: list[Samples], real: Balance, decibels: int) -> None:
    whistle = 0.1 * np.sqrt(2) * 10 ** (decibels / 20) * np.sin(2 * np.pi * 3000 * TIME)
    found = compare(of([sound + whistle for sound in music]), real)
    assert found.flat_bands == (3162,)


def test_noise_is_flat_everywhere(real: Balance) -> None:
    found = compare(of([noise(10.0)]), real)
    assert len(found.flat_bands) > 20
    assert found.movement < 0.3


@pytest.mark.parametrize(("milliseconds", "gain"), [(1.0, 0.9), (2.0, 0.5), (8.0, 0.8)])
def test_an_echo_in_all_is_a_comb(music: list[Samples], milliseconds: float, gain: float) -> None:
    found = compare(of([echo(sound, milliseconds, gain) for sound in music]), of(music))
    assert found.comb > 0.5
    assert found.comb_spacing == pytest.approx(1000 / milliseconds, rel=0.06)


@pytest.mark.parametrize("offset", [0, 3])
def test_borders_of_patches_are_seen_wherever_they_lie(music: list[Samples], real: Balance, offset: int) -> None:
    random = np.random.default_rng(0)

    def blocky(sound: Samples) -> Samples:
        gains = random.uniform(0.8, 1.25, len(sound) // PATCH + 2).repeat(PATCH)
        return sound * gains[480 * offset : 480 * offset + len(sound)]

    plain, found = compare(real, real), compare(of([blocky(sound) for sound in music]), real)
    assert found.patches > plain.patches + 0.04


def test_a_beat_is_no_border_of_patches(music: list[Samples]) -> None:
    hit = 0.3 * np.random.default_rng(0).standard_normal(2400) * np.exp(-np.arange(2400) / 300)
    beat = np.resize(np.pad(hit, (1200, 4 * PATCH - 3600)), len(TIME))
    assert of([sound + beat for sound in music]).patches < 1.25


def test_level_does_not_matter(music: list[Samples]) -> None:
    for plain, other in zip(_figures(of(music[:2])), _figures(of([0.1 * sound for sound in music[:2]])), strict=True):
        assert other == pytest.approx(plain, abs=0.05)


@pytest.mark.parametrize(
    "sound",
    [np.zeros(0), np.zeros(1), np.zeros(480_000), np.full(480_000, np.nan)],
    ids=["nothing", "one sample", "silence", "not finite"],
)
def test_silence_is_defined(sound: Samples, real: Balance) -> None:
    found = compare(measure(excerpt(sound)), real)
    assert found.texture == found.movement == 0.0
    assert found.flat_bands == ()
    assert (found.comb, found.comb_spacing, found.patches) == (0.0, 0.0, 1.0)
    assert max(found.differences) <= 0 or min(np.array(real.levels)) > FLOOR_DB
    assert all(np.isfinite(value) for value in found.differences)


def test_real_music_that_is_silent_divides_by_nothing(real: Balance) -> None:
    found = compare(real, measure(excerpt(np.zeros(480_000))))
    assert all(np.isfinite(value) for value in (*found.differences, found.texture, *found.texture_thirds))


def test_the_average_is_the_average() -> None:
    one, other = measure(excerpt(noise(2.0))), measure(excerpt(at_level(np.sin(2 * np.pi * 440 * TIME[:96_000]))))
    mean = summary([one, other])
    assert np.allclose(mean.levels, (one.levels + other.levels) / 2)
    assert np.allclose(mean.texture, (one.texture + other.texture) / 2)


def _figures(found: Balance) -> list[list[float]]:
    return [found.levels.tolist(), found.movement.tolist(), found.texture.tolist(), [float(found.patches)]]
