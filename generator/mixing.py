"""Sound joined, bounded and made into what is sent. Torch-free."""

from typing import Final

import numpy as np

from generator.stereo import Samples

KNEE: Final = 0.65  #: full scale; above it the limiter bends
CEILING: Final = (
    0.85  #: full scale; nothing is louder, so that what Opus adds to a peak is not clipped (EBU R 128: -1 dBTP)
)


def cross_fade(old: Samples, new: Samples) -> Samples:
    """Fade over by sines of a quarter turn, rid of what their correlation adds or (by up to half) takes away."""
    turn = np.linspace(0, np.pi / 2, len(old), dtype=np.float32)
    fading, rising = np.cos(turn), np.sin(turn)
    apart = fading**2 * float(old @ old) + rising**2 * float(new @ new)
    together = apart + 2 * fading * rising * float(old @ new)
    gain = np.sqrt(apart / np.maximum(together, apart / 2).clip(min=1e-12))
    joint: Samples = (gain * (fading * old + rising * new)).astype(np.float32)
    return joint


def limit(sound: Samples) -> Samples:
    """Leave sound below ``KNEE`` as it is and bend the rest smoothly towards ``CEILING``; full scale ±1."""
    size = np.abs(sound)
    bent = KNEE + (CEILING - KNEE) * np.tanh((size - KNEE) / (CEILING - KNEE))
    return np.where(size > KNEE, np.sign(sound) * bent, sound)


def to_pcm(sound: Samples) -> bytes:
    """[samples, 2], full scale ±1 → interleaved stereo, signed 16 bit, little-endian, limited."""
    return np.round(32_767 * limit(sound)).astype("<i2").tobytes()
