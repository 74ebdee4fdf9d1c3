"""Sound joined, bounded and made into what is sent. Torch-free."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.protocol import FRAME_SAMPLES, SAMPLE_RATE
from generator.stereo import Samples

LOUDEST: Final = 0.75  #: full scale; frames with a louder sample are turned down
KNEE: Final = LOUDEST  #: full scale; above it the limiter bends
CEILING: Final = (
    0.85  #: full scale; nothing is louder, so that what Opus adds to a peak is not clipped (EBU R 128: -1 dBTP)
)

BORDERS_HZ: Final = (500, 1_000, 2_000, 4_000, 8_000)  #: of the octaves that fade on their own


def cross_fade(old: Samples, new: Samples) -> Samples:
    """Fade over by sines of a quarter turn, rid of what their correlation adds or (by up to half) takes away.

    Octave by octave: of two windows the partials agree and the noise above them doesn't.
    """
    turn = np.linspace(0, np.pi / 2, len(old), dtype=np.float32)
    fading, rising = np.cos(turn), np.sin(turn)
    joint = np.zeros_like(old)
    for one, other in zip(_octaves(old), _octaves(new), strict=True):
        apart = fading**2 * float(one @ one) + rising**2 * float(other @ other)
        together = apart + 2 * fading * rising * float(one @ other)
        gain = np.sqrt(apart / np.maximum(together, apart / 2).clip(min=1e-12))
        joint += gain * (fading * one + rising * other)
    return joint


def _octaves(sound: Samples) -> list[Samples]:
    """Parts that add up to ``sound``."""
    if len(sound) == 0:
        return []
    frequencies, spectrum = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE), np.fft.rfft(sound)
    within = np.digitize(frequencies, BORDERS_HZ)
    parts = [np.fft.irfft(np.where(within == part, spectrum, 0), len(sound)) for part in range(len(BORDERS_HZ) + 1)]
    return [part.astype(np.float32) for part in parts]


def tame(sound: Samples) -> Samples:
    """Turn frames down in which a sample is louder than ``LOUDEST``, and the frames beside them on the way there.

    A bend of the wave would do, and does for what slips by; but what is flat at its top comes out of Opus with peaks.

    Args:
        sound: [frames · FRAME_SAMPLES, 2], full scale ±1.
    """
    if len(sound) == 0:
        return sound
    peaks = np.abs(sound).reshape(-1, FRAME_SAMPLES * 2).max(axis=1)
    gain = np.pad(np.minimum(1.0, LOUDEST / np.maximum(peaks, LOUDEST)), 1, mode="edge")
    quiet: Samples = sound * straight(np.minimum(gain[:-1], gain[1:]))[:, None]  # so no frame is above its own
    return quiet


def straight(edges: NDArray[np.float64]) -> Samples:
    """Gain of each sample: exact at the frames' edges, straight between them; [frames + 1] → [samples]."""
    samples = np.arange((len(edges) - 1) * FRAME_SAMPLES) / FRAME_SAMPLES
    return np.interp(samples, np.arange(len(edges)), edges).astype(np.float32)


def limit(sound: Samples) -> Samples:
    """Leave sound below ``KNEE`` as it is and bend the rest smoothly towards ``CEILING``; full scale ±1."""
    size = np.abs(sound)
    bent = KNEE + (CEILING - KNEE) * np.tanh((size - KNEE) / (CEILING - KNEE))
    return np.where(size > KNEE, np.sign(sound) * bent, sound)


def to_pcm(sound: Samples) -> bytes:
    """[samples, 2], full scale ±1 → interleaved stereo, signed 16 bit, little-endian, limited."""
    return np.round(32_767 * limit(sound)).astype("<i2").tobytes()
