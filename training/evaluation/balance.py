"""Spectral balance against real music, and the faults that a spectrogram shows: smoothness, flat bands, combs.

*Texture* is how much a spectrogram changes from one 10 ms frame to the next. A network that averages over what it can't
know makes it smooth, and breath, bow and cymbals are lost; docs/model-log.md follows it from model to model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.config import BARD
from training.evaluation.excerpts import Excerpt, Sound
from training.evaluation.spectra import BANDS, FRAMES_PER_SECOND, amplitude_mel, amplitude_spectra, moving_mean
from training.manifest import SAMPLE_RATE

Values = NDArray[np.float64]

#: Third octaves from 20 Hz to 20 kHz, IEC 61260-1, base 10.
CENTRES_HZ: Final[Values] = 1000 * 10 ** (np.arange(-17, 14) / 10)
FLOOR_DB: Final = -60.0  #: below the whole: what is quieter is not heard beside it, and codecs cut it away
AUDIBLE_DB: Final = -45.0  #: below the whole: what a fault in a band must reach to be called one
FLAT: Final = 0.5  #: of real movement; no band of halves of real music, split by recording, is below it

_EDGES_HZ: Final[Values] = 1000 * 10 ** (np.arange(-17.5, 14) / 10)
_FFT: Final = 16_384  #: bins of 3 Hz, so that the band at 20 Hz has one
_LEVEL: Final = 0.1  #: RMS at which texture is measured, the one that the models learn at
_MEL_FLOOR: Final = 1e-4  #: as in ``generator.mel``
_DB_PER_E: Final = 20 / np.log(10)
_PATCH_FRAMES: Final = BARD.unet.patch[1]
_PATCH_SPAN: Final = 10 * FRAMES_PER_SECOND  #: frames; a stream's windows, and so its patches, shift against each other
_RIPPLE_FFT: Final = 4_096
_RIPPLE_HZ: Final = (200, 12_000)
_RIPPLE_SMOOTHING: Final = 171  #: bins: 2 kHz; what is broader is balance and no ripple
_COMB_HZ: Final = (60, 2_000)  #: spacings of teeth that are looked for: echoes after 0.5 to 17 ms
_EQUAL: Final = 0.85
_RIPPLE_LEAST_DB: Final = 0.5  #: of a ripple before it counts: chance, where many excerpts are averaged
_THIRDS: Final = (0, BANDS // 3, 2 * BANDS // 3)  #: of the Mel: up to 1.4 kHz, up to 4.9 kHz, above


@dataclass(frozen=True, slots=True, eq=False)
class Balance:
    """The spectrum of an excerpt, or the average of many.

    Attributes:
        levels: [31], dB of each third octave relative to the whole; ``FLOOR_DB`` at least, as for silence.
        movement: [31], dB by which each third octave's level deviates in time; 0 for silence.
        texture: [bands of the Mel], dB by which each changes from frame to frame; 0 for silence.
        ripple: dB by bins of 12 Hz from 200 Hz to 12 kHz: the mean spectrum without its broad shape.
        patches: change at the borders of the network's patches in time, over the mean change: 1 where there are none.
    """

    levels: Values
    movement: Values
    texture: Values
    ripple: Values
    patches: Values


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one balance differs from real music's.

    Attributes:
        differences: dB by third octave, positive where there is too much.
        distance: dB, the mean of their magnitudes.
        texture: frame-to-frame change over real: below 1 is too smooth, above is too rough.
        texture_thirds: the same in the lower, middle and upper third of the Mel.
        movement: how levels move in time over how real ones do; near 0 for a steady hum or hiss.
        flat_bands: Hz, audible third octaves that move less than half as much as real ones.
        comb: 0 to 1, how regular the ripple of the mean spectrum is: teeth of a comb at one spacing.
        comb_spacing: Hz between its teeth, or a small multiple where they are closer than 150 Hz; 0 for none.
        patches: change at patch borders over mean change.
    """

    differences: tuple[float, ...]
    distance: float
    texture: float
    texture_thirds: tuple[float, float, float]
    movement: float
    flat_bands: tuple[int, ...]
    comb: float
    comb_spacing: float
    patches: float


def measure(excerpt: Excerpt) -> Balance:
    """The balance of one excerpt; what is shorter than 0.4 s is held out by silence."""
    sound = excerpt.heard
    powers = _third_octaves(sound)
    whole = powers.sum(axis=1).mean()
    decibels = _decibels(powers / max(whole, 1e-20))
    rms = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0
    change = _frame_changes(sound * np.float32(_LEVEL / rms)) if rms > 1e-5 else np.zeros((BANDS, 1))
    return Balance(
        levels=_decibels(powers.mean(axis=0) / max(whole, 1e-20)),
        movement=decibels.std(axis=0),
        texture=change.mean(axis=1),
        ripple=_ripple(sound),
        patches=np.array(_patch_borders(change.mean(axis=0))),
    )


def summary(found: Sequence[Balance]) -> Balance:
    """The average of one or more: what all have in common stands out, and the notes of each do not."""
    return Balance(
        **{each.name: np.mean([getattr(one, each.name) for one in found], axis=0) for each in fields(Balance)}
    )


def compare(found: Balance, real: Balance) -> Comparison:
    """How ``found`` differs from ``real``, which is music's."""
    differences = found.levels - real.levels
    flat = (found.movement < FLAT * real.movement) & (found.levels > AUDIBLE_DB)
    thirds = np.add.reduceat(found.texture, _THIRDS) / np.maximum(np.add.reduceat(real.texture, _THIRDS), 1e-9)
    comb, spacing = _comb(found.ripple)
    return Comparison(
        differences=tuple(differences.tolist()),
        distance=float(np.abs(differences).mean()),
        texture=float(found.texture.mean() / max(real.texture.mean(), 1e-9)),
        texture_thirds=(float(thirds[0]), float(thirds[1]), float(thirds[2])),
        movement=float(found.movement.mean() / max(real.movement.mean(), 1e-9)),
        flat_bands=tuple(np.round(CENTRES_HZ[flat]).astype(int).tolist()),
        comb=comb,
        comb_spacing=spacing,
        patches=float(found.patches),
    )


def _third_octaves(sound: Sound) -> Values:
    """Power by frame of 0.17 s and third octave, [frames, 31]; bins at an edge are shared out."""
    power = np.square(amplitude_spectra(sound, _FFT, _FFT // 2), dtype=np.float64)
    up_to = np.pad(np.cumsum(power, axis=1), ((0, 0), (1, 0)))
    place = _EDGES_HZ * _FFT / SAMPLE_RATE + 0.5
    below = place.astype(int)
    inside = up_to[:, below] + (place - below) * (up_to[:, below + 1] - up_to[:, below])
    return np.diff(inside, axis=1)


def _decibels(ratio: Values) -> Values:
    decibels: Values = np.maximum(10 * np.log10(np.maximum(ratio, 1e-12)), FLOOR_DB)
    return decibels


def _frame_changes(sound: Sound) -> Values:
    """Magnitude of the change of each Mel band from frame to frame, dB, [bands, frames − 1]."""
    mel = np.log(np.maximum(amplitude_mel(sound), _MEL_FLOOR))
    changes: Values = (_DB_PER_E * np.abs(np.diff(mel, axis=1))).astype(np.float64)
    return changes


def _patch_borders(change: Values) -> float:
    """The most that one place in a patch changes, over all; the median over patches, since beats are no borders."""
    ratios = []
    for first in range(0, len(change) - _PATCH_SPAN + 2, _PATCH_SPAN):
        span = change[first : first + _PATCH_SPAN]
        patches = np.median(span[: len(span) // _PATCH_FRAMES * _PATCH_FRAMES].reshape(-1, _PATCH_FRAMES), axis=0)
        ratios.append(patches.max() / patches.mean() if patches.mean() > 0 else 1.0)
    return float(np.mean(ratios)) if ratios else 1.0


def _ripple(sound: Sound) -> Values:
    power = np.square(amplitude_spectra(sound, _RIPPLE_FFT, _RIPPLE_FFT // 2), dtype=np.float64)
    low, high = (round(hertz * _RIPPLE_FFT / SAMPLE_RATE) for hertz in _RIPPLE_HZ)
    mean = (10 * np.log10(power[:, low:high] + 1e-12)).mean(axis=0)
    ripple: Values = mean - moving_mean(mean, _RIPPLE_SMOOTHING)
    return ripple


def _comb(ripple: Values) -> tuple[float, float]:
    """The ripple's highest autocorrelation, 0 to 1, and the spacing in Hz at which it has it."""
    tapered = ripple * np.hanning(len(ripple))
    correlation = np.fft.irfft(np.abs(np.fft.rfft(tapered, 2 * len(ripple))) ** 2)
    chance = _RIPPLE_LEAST_DB**2 * len(ripple) / 2
    low, high = (round(hertz * _RIPPLE_FFT / SAMPLE_RATE) for hertz in _COMB_HZ)
    inner = correlation[low : high + 1]
    crest = (inner >= correlation[low - 1 : high]) & (inner >= correlation[low + 1 : high + 2]) & (inner > 0)
    if not crest.any():
        return 0.0, 0.0
    best = inner[crest].max()
    # Every second tooth has nearly the spacing's own correlation: the smallest of equals is the spacing.
    first = low + int(np.flatnonzero(crest & (inner >= _EQUAL * best))[0])
    return float(best / (correlation[0] + chance)), first * SAMPLE_RATE / _RIPPLE_FFT
