"""A piece of music of which everything is known: four bars of two seconds, over and over, for the card to listen to."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.excerpts import Excerpt, Sound
from training.manifest import SAMPLE_RATE

Samples = NDArray[np.floating[Any]]  #: of any precision; the card takes float32

BEAT = 0.5  #: seconds
BAR_BEATS = 4
CHORDS = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))
TUNE = ((0, 4, 7, 4), (9, 12, 9, 4), (5, 9, 12, 9), (7, 11, 14, 11))


def piece(
    seconds: float = 40.0,
    wander: float = 0.0,
    bars: Sequence[int] = (0, 1, 2, 3),
    keys: Sequence[int] = (0,),
    drums: bool = True,
) -> Sound:
    """Tune, chords, bass and drums, in C major at 120 beats a minute, at -20 dBFS.

    Args:
        seconds: how long.
        wander: by what part its tempo rises and falls, every 13 s; pitches stay.
        bars: which of the four follows which.
        keys: semitones by which each bar in turn is moved.
        drums: whether there are any.
    """
    random = np.random.default_rng(0)
    beats = np.arange(0, 2 * seconds / BEAT, 1 / 16)
    tempo = 1 + wander * np.sin(2 * np.pi * beats * BEAT / 13 + 1)
    times = np.concatenate(([0.0], np.cumsum(BEAT / 16 / tempo)))[:-1]
    whole = np.zeros(round((seconds + 3) * SAMPLE_RATE))

    def play(sound: NDArray[np.float64], beat: float) -> None:
        start = round(float(np.interp(beat, beats, times)) * SAMPLE_RATE)
        room = whole[start : start + len(sound)]
        room += sound[: len(room)]

    for number in range(int(seconds * (1 + wander) / BEAT / BAR_BEATS) + 1):
        bar, key, first = bars[number % len(bars)], keys[number % len(keys)], number * BAR_BEATS
        for place, degree in enumerate(TUNE[bar]):
            play(_note(72 + degree % 12 + key, 0.9 * BEAT, 3.0, 0.1), first + place)
            if drums:
                play(_hit(0.08 + 0.07 * (place % 2 == 0), random), first + place)
                play(_hit(0.04, random), first + place + 0.5)
        for degree in CHORDS[bar]:
            play(_note(60 + degree + key, BAR_BEATS * BEAT, 1.0, 0.06), first)
        play(_note(36 + CHORDS[bar][0] + key, BAR_BEATS * BEAT, 0.7, 0.12), first)
    return at_level(whole[: round(seconds * SAMPLE_RATE)])


def song(seed: int, lively: bool, seconds: float = 40.0, wander: float = 0.0) -> Sound:
    """Chords, a tune and a key of its own for each seed; a lively one has drums and runs twice as fast."""
    random = np.random.default_rng([seed, lively])
    scale = np.array([0, 2, 4, 5, 7, 9, 11]) + int(random.integers(12))
    beat = 0.4 if lively else 0.8
    whole, time, number = np.zeros(round((seconds + 4) * SAMPLE_RATE)), 0.0, 0
    while time < seconds:
        speed = 1 + wander * np.sin(2 * np.pi * time / 13 + 1)
        parts = [(72, int(random.integers(7)), 0.9 * beat, 3.0, 0.1)]
        if number % BAR_BEATS == 0:
            root = int(random.integers(7))
            chord = [(48, (root + third) % 7, BAR_BEATS * beat, 1.0, 0.06) for third in (0, 2, 4)]
            parts += [*chord, (36, root, BAR_BEATS * beat, 0.7, 0.12)]
        start = round(time * SAMPLE_RATE)
        for octave, degree, length, decay, loudness in parts:
            note = _note(octave + int(scale[degree]), length, decay, loudness)
            whole[start : start + len(note)] += note[: len(whole) - start]
        if lively:
            hit = _hit(0.15, random)
            whole[start : start + len(hit)] += hit
        time, number = time + beat / speed, number + 1
    return at_level(whole[: round(seconds * SAMPLE_RATE)])


def notes_at_random(seconds: float = 40.0) -> Sound:
    """Two notes a second of any pitch at any time."""
    random = np.random.default_rng(5)
    whole = np.zeros(round((seconds + 1) * SAMPLE_RATE))
    for start in random.integers(0, round(seconds * SAMPLE_RATE), round(2 * seconds)):
        note = _note(60 + int(random.integers(0, 24)), 0.5, 3.0, 0.1)
        whole[start : start + len(note)] += note
    return at_level(whole[: round(seconds * SAMPLE_RATE)])


def drone(seconds: float = 40.0) -> Sound:
    """One note, held."""
    return at_level(_note(45, seconds, 0.0, 0.1))


def noise(seconds: float = 40.0, seed: int = 0) -> Sound:
    """White."""
    return at_level(np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE)))


def excerpt(sound: Samples) -> Excerpt:
    """To be measured."""
    return Excerpt(sound.astype(np.float32), None, "made")


def at_level(sound: Samples) -> Sound:
    """At -20 dBFS."""
    level: Sound = (0.1 * sound / np.sqrt(np.mean(np.square(sound)))).astype(np.float32)
    return level


@cache
def _note(pitch: float, seconds: float, decay: float, loudness: float) -> NDArray[np.float64]:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    partials = sum((np.sin(2 * np.pi * k * hertz * time) / k**1.2 for k in range(1, 7)), np.zeros(len(time)))
    envelope = np.exp(-decay * time) * np.minimum(1, time / 0.005) * np.minimum(1, (seconds - time) / 0.02)
    note: NDArray[np.float64] = loudness * partials * envelope
    return note


def _hit(loudness: float, random: np.random.Generator) -> NDArray[np.float64]:
    time = np.arange(SAMPLE_RATE // 10) / SAMPLE_RATE
    return loudness * random.standard_normal(len(time)) * np.exp(-50 * time)
