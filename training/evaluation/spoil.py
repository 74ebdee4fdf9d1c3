"""Long streams spoilt on purpose, so that the card can be seen to notice. Each makes a new sound."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from training.evaluation.excerpts import Sound

_BLOCK: Final = 1 << 20  #: samples


def shuffle(sound: Sound, splices: Sequence[int], random: np.random.Generator) -> tuple[Sound, list[int]]:
    """What lies between the splices in another order: hard cuts between places that have nothing to do with each other.

    Returns:
        The sound, and where its cuts are.
    """
    windows = np.split(sound, splices)
    order = random.permutation(len(windows))
    cuts = np.cumsum([len(windows[number]) for number in order])[:-1]
    return np.concatenate([windows[number] for number in order]), cuts.tolist()


def click(sound: Sound, splices: Sequence[int], height: float = 0.1) -> Sound:
    """One sample at each splice moved by ``height``, full scale 1."""
    spoilt = sound.copy()
    spoilt[np.asarray(splices, np.int64)] += np.float32(height)
    return spoilt


def step(sound: Sound, splices: Sequence[int], decibels: float = 6.0) -> Sound:
    """Every second window louder by ``decibels``."""
    spoilt = sound.copy()
    bounds = [*splices, len(sound)]
    for first, last in zip(bounds[::2], bounds[1::2], strict=False):
        spoilt[first:last] *= np.float32(10 ** (decibels / 20))
    return spoilt


def swell(sound: Sound, decibels: float = 6.0) -> Sound:
    """Slowly louder: at the end by ``decibels``."""
    gain = np.linspace(0, decibels / 20, len(sound), dtype=np.float32)
    spoilt: Sound = sound * np.power(np.float32(10), gain)
    return spoilt


def rise(sound: Sound, semitones: float = 1.0) -> Sound:
    """Slowly higher, and faster: at the end by ``semitones``. Ends earlier by as much as it has run ahead."""
    octaves = semitones / 12
    # The place that is heard is the integral of a speed that grows from 1 to 2^octaves.
    scale = len(sound) / (octaves * np.log(2))
    length = int(len(sound) * np.log2(1 + (len(sound) - 2) / scale) / octaves)
    spoilt = np.empty(min(length, len(sound)), np.float32)
    for first in range(0, len(spoilt), _BLOCK):  # half an hour of places would take a gigabyte
        when = np.arange(first, min(first + _BLOCK, len(spoilt))) / len(sound)
        place = scale * (np.exp2(octaves * when) - 1)
        whole = place.astype(np.int64)
        spoilt[first : first + _BLOCK] = sound[whole] + (place - whole) * (sound[whole + 1] - sound[whole])
    return spoilt
