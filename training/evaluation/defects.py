"""What is wrong with a clip by any account: not finite, blank, constant, clipped, or noise where music was meant.

The only place that decides it; the benchmarks ask here too. Each limit lies between failures planted on purpose and
840 clips of recordings, 450 of them held out; the figures beside the limits are of these.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.picture import BANDS_PER_OCTAVE, log_spectrogram
from training.evaluation.excerpts import Excerpt, Sound
from training.manifest import SAMPLE_RATE

QUIET_DBFS: Final = -50.0  #: what is quieter is not heard at a table; recordings: -48.8 and more
LEAST_MOVEMENT_DB: Final = 1.1  #: noise: 0.7 at most; held chords: 0; recordings: 1.8 and more
NOISE_FLATNESS_DB: Final = -3.0  #: noise of any colour: -2.5; recordings: below -5.1, but for 1 in 121 (wind and drums)
MOST_FLAT_TOPS: Final = 3e-4  #: share of samples; recordings: 2.1e-4 at most, and those were mastered to the limit
MOST_FROZEN_SECONDS: Final = 3.0  #: recordings, with the silence that they begin and end in: 1.6 at most
MOST_OFFSET: Final = 0.7  #: half of the power is no sound; recordings: 0.35 at most

_BLOCK_COLUMNS: Final = 10  #: of the spectrogram: 0.2 s, so that the chance in noise averages out
_FLOOR_DB: Final = -90.0  #: what 16 bits can't hold is no movement
_FFT: Final = 8_192
_HOP: Final = 4_096
_NOISE_EDGES_HZ: Final = 150 * 2 ** np.arange(0, 6.5, 0.5)  #: half octaves up to 9.6 kHz, 12 bins wide and more
_LOUDNESS_EXPONENT: Final = 0.3  #: of power: Stevens' law; how much a band of a moment counts to the ear
_FLAT_TOLERANCE: Final = 1e-4  #: of the peak: three steps of 16 bits
_FLAT_RUN: Final = 3  #: samples; a sine above 40 Hz has none, at 16 bits


@dataclass(frozen=True, slots=True)
class Clip:
    """What was measured on a clip; all finite, for silence and for nothing at all as well.

    Attributes:
        label: how a person finds it again.
        not_finite: samples that are no number, or infinite.
        level: RMS in dBFS, where a square wave at full scale is 0; -120 for silence.
        movement: in dB, how much it changes in time; see :func:`movement`.
        flatness: in dB, how much its spectrum is that of noise; see :func:`flatness`.
        flat_tops: share of its samples in flat tops; see :func:`flat_tops`.
        frozen: seconds of the longest stretch in which no sample differs from the last.
        offset: its mean over its RMS: 1 if it is nothing but direct current, 0 for silence.
    """

    label: str
    not_finite: int
    level: float
    movement: float
    flatness: float
    flat_tops: float
    frozen: float
    offset: float

    @property
    def blank(self) -> bool:
        """Too quiet to be heard, or something that never changes, such as a hum or a hiss."""
        return is_blank(self.level, self.movement)

    @property
    def noise(self) -> bool:
        """Noise of whatever colour and however it swells; silence is none."""
        return self.level >= QUIET_DBFS and self.flatness > NOISE_FLATNESS_DB

    @property
    def clipped(self) -> bool:
        """Cut off at its peaks, so that it is heard."""
        return self.flat_tops > MOST_FLAT_TOPS

    @property
    def constant(self) -> bool:
        """One value for seconds, or direct current above all."""
        return self.frozen > MOST_FROZEN_SECONDS or self.offset > MOST_OFFSET


@dataclass(frozen=True, slots=True)
class Defects:
    """The clips in which something is wrong, by their labels; one may be in several lists.

    Attributes:
        clips: how many were looked at.
        not_finite: with a sample that is no number, or infinite.
        blank: too quiet, or never changing.
        clipped: cut off at their peaks.
        constant: one value for seconds, or direct current.
        noise: noise and not music.
    """

    clips: int
    not_finite: tuple[str, ...]
    blank: tuple[str, ...]
    clipped: tuple[str, ...]
    constant: tuple[str, ...]
    noise: tuple[str, ...]


def measure(clip: Excerpt) -> Clip:
    """Look at one clip, of 10 s where the limits are to hold; it may be shorter or longer."""
    sound = clip.heard
    power = float(np.mean(np.square(sound, dtype=np.float64))) if len(sound) else 0.0
    mean = abs(float(np.mean(sound, dtype=np.float64))) if len(sound) else 0.0
    return Clip(
        label=clip.label,
        not_finite=int((~np.isfinite(clip.sound)).sum()),
        level=level(sound),
        movement=movement(sound),
        flatness=flatness(sound),
        flat_tops=flat_tops(sound),
        frozen=(int(_runs(sound[1:] == sound[:-1]).max(initial=0)) + 1) / SAMPLE_RATE if len(sound) else 0.0,
        offset=mean / max(float(np.sqrt(power)), 1e-6),
    )


def summary(clips: Iterable[Clip]) -> Defects:
    """Which of them have which defect."""
    seen = tuple(clips)
    return Defects(
        clips=len(seen),
        not_finite=tuple(clip.label for clip in seen if clip.not_finite),
        blank=tuple(clip.label for clip in seen if clip.blank),
        clipped=tuple(clip.label for clip in seen if clip.clipped),
        constant=tuple(clip.label for clip in seen if clip.constant),
        noise=tuple(clip.label for clip in seen if clip.noise),
    )


def level(sound: Sound) -> float:
    """RMS in dBFS, where a square wave at full scale is 0; [samples] or [samples, channels]."""
    power = float(np.mean(np.square(sound, dtype=np.float64))) if len(sound) else 0.0
    return 10 * float(np.log10(max(power, 1e-12)))


def movement(sound: Sound) -> float:
    """How much a clip changes in time: deviation over blocks of 0.2 s of each octave's level, averaged, in dB.

    Args:
        sound: [samples] or [samples, channels]; what is shorter than 0.9 s does not move: 0.
    """
    decibels, _ = log_spectrogram(sound, SAMPLE_RATE)
    power = 10 ** (decibels / 10)
    octaves, blocks = len(power) // BANDS_PER_OCTAVE, power.shape[1] // _BLOCK_COLUMNS
    if blocks < 4:
        return 0.0
    # The first and last block look beyond the clip, where there is nothing: that edge is no movement.
    pooled = power[: octaves * BANDS_PER_OCTAVE, : blocks * _BLOCK_COLUMNS].reshape(
        octaves, BANDS_PER_OCTAVE, blocks, _BLOCK_COLUMNS
    )
    levels = 10 * np.log10(pooled.mean(axis=(1, 3))[:, 1:-1])
    return float(np.maximum(levels, _FLOOR_DB).std(axis=1).mean())


def is_blank(rms_dbfs: float, movement_db: float) -> bool:
    """Whether nobody would call it music: quieter than ``QUIET_DBFS``, or no more alive than a hum."""
    return rms_dbfs < QUIET_DBFS or movement_db < LEAST_MOVEMENT_DB


def flatness(sound: Sound) -> float:
    """How much like noise: spectral flatness within half octaves, so that noise of any colour is flat, in dB.

    Flatness is the geometric mean of a power spectrum over its arithmetic mean. For Gaussian noise the expectation is
    exp(-0.577): -2.5 dB; the partials of notes stand out and lower it. Moments and half octaves count as the ear weighs
    them. Silence is perfectly flat: 0.

    Args:
        sound: [samples]; held out to 0.17 s by silence if it is shorter.
    """
    padded = np.pad(sound, (0, max(0, _FFT - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FFT).astype(np.float32), axis=1)).astype(np.float64) ** 2 + 1e-12
    edges = np.round(_NOISE_EDGES_HZ * _FFT / SAMPLE_RATE).astype(int)
    widths = np.diff(edges)
    arithmetic = np.add.reduceat(power, edges, axis=1)[:, :-1] / widths
    geometric = np.add.reduceat(np.log(power), edges, axis=1)[:, :-1] / widths
    ratio = 10 / np.log(10) * (geometric - np.log(arithmetic))
    return float(np.average(ratio, weights=arithmetic**_LOUDNESS_EXPONENT))


def flat_tops(sound: Sound) -> float:
    """Share of samples in flat tops: three or more in a row at the clip's own highest or lowest value.

    So a sound that was cut off is found at whatever level it comes, and a limiter that bends is none.
    """
    peak = float(np.abs(sound).max(initial=0.0))
    if peak == 0.0:
        return 0.0
    count = 0
    for side in (sound, -sound):
        runs = _runs(side >= side.max() - _FLAT_TOLERANCE * peak) if side.max() > 0 else np.zeros(0, int)
        count += int(runs[runs >= _FLAT_RUN].sum())
    return count / len(sound)


def plants(seconds: float, random: np.random.Generator) -> dict[str, Sound]:
    """Sounds that are blank by any account and yet not silent, at -20 dBFS."""
    count = round(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    white = random.standard_normal(count)
    spectrum = np.fft.rfft(white)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), count)
    sounds = {
        "silence": 1e-5 * white,
        "white noise": white,
        "pink noise": pink,
        "tone": np.sin(2 * np.pi * 220 * time),
        "chord": np.sin(2 * np.pi * np.outer((130.81, 164.81, 196.0, 392.0), time)).sum(axis=0),
    }
    return {
        name: (sound * (1.0 if name == "silence" else 0.1 / np.sqrt(np.mean(sound**2)))).astype(np.float32)
        for name, sound in sounds.items()
    }


def _runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the stretches in which it is true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return edges[1::2] - edges[::2]
