"""When a clip counts as blank: too quiet to be heard, or something that never changes, such as a hum or a hiss."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.picture import BANDS_PER_OCTAVE, log_spectrogram
from generator.protocol import SAMPLE_RATE

Sound = NDArray[np.float32]

QUIET_DBFS: Final = -50.0
BLOCK_COLUMNS: Final = 10  #: of the spectrogram: 0.2 s, so that the chance in noise averages out
MARGIN: Final = 1.5  #: how much more than the liveliest constant sound a clip must move
FLOOR_DB: Final = -90.0  #: what 16 bits can't hold is no movement


def level(sound: Sound) -> float:
    """RMS in dBFS, where a square wave at full scale is 0."""
    return 10 * float(np.log10(max(float(np.mean(np.square(sound, dtype=np.float64))), 1e-12)))


def movement(sound: Sound) -> float:
    """How much a clip changes in time: deviation over blocks of 0.2 s of each octave's level, averaged, in dB."""
    decibels, _ = log_spectrogram(sound, SAMPLE_RATE)
    power = 10 ** (decibels / 10)
    octaves, blocks = len(power) // BANDS_PER_OCTAVE, power.shape[1] // BLOCK_COLUMNS
    # The first and last block look beyond the clip, where there is nothing: that edge is no movement.
    pooled = power[: octaves * BANDS_PER_OCTAVE, : blocks * BLOCK_COLUMNS].reshape(
        octaves, BANDS_PER_OCTAVE, blocks, BLOCK_COLUMNS
    )
    levels = 10 * np.log10(pooled.mean(axis=(1, 3))[:, 1:-1])
    return float(np.maximum(levels, FLOOR_DB).std(axis=1).mean())


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


def threshold(seconds: float, random: np.random.Generator) -> float:
    """What a clip of this length must move by, so as not to be blank: well above all that is planted."""
    return MARGIN * max(movement(sound) for sound in plants(seconds, random).values())


def is_blank(rms_dbfs: float, movement_db: float, least_movement: float) -> bool:
    """Whether nobody would call it music: quieter than ``QUIET_DBFS``, or no more alive than a hum."""
    return rms_dbfs < QUIET_DBFS or movement_db < least_movement
