"""The notes of a phrase: tune, accompaniment, bass and drums, in a mood's style. Torch-free.

A phrase that returns keeps the chords and the tune's skeleton of all its bars but the last, which is another, as tunes
do when they are repeated; and it varies the rest: ornaments, strokes, and who plays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.section import BARS_A_PHRASE, FORM, Section
from generator.style import Pattern, Rhythm, Style

LONGEST: Final = 16  #: steps of the longest note
REACH: Final = 9  #: scale degrees between the tune's lowest and highest note
MOVES: Final = (-2, -1, -1, 1, 1, 2)  #: of the tune, scale degrees from note to note
ACCENTS: Final = (1.0, 0.7, 0.82, 0.7)  #: of a beat's four steps, in the tune
HUMAN: Final = 0.18  #: deviation of a stroke's strength from what is written
BREATH: Final = 3.0  #: by how many times his own lateness a player follows the others, in the middle of a phrase
WEAK: Final = 0.62  #: strokes up to this strong are sometimes left out
LEFT_OUT: Final = 0.25  #: so often
GHOST: Final = 0.3  #: strength of strokes that nobody wrote down


class Voice(IntEnum):
    """Who plays a note."""

    TUNE = 0
    CHORD = 1
    BASS = 2
    LOW_DRUM = 3
    HIGH_DRUM = 4


#: How likely each voice has its part in a phrase. The bass always has.
PRESENT: Final = {Voice.TUNE: 0.9, Voice.CHORD: 0.9, Voice.LOW_DRUM: 0.75, Voice.HIGH_DRUM: 0.6}


class Fullness(IntEnum):
    """How many play in a phrase."""

    THIN = 0  #: no drums, and softly
    USUAL = 1
    FULL = 2  #: strongly, and with strokes that nobody wrote down


@dataclass(frozen=True)
class Notes:
    """Notes as columns of a table, [notes] each.

    Attributes:
        step: at which each begins, from the phrase's beginning.
        length: steps that it is held.
        voice: a ``Voice``.
        pitch: its pitch class; of drums, 0.
        height: how high in its voice's range, 0 to 1.
        velocity: how strongly it is played, 0 to about 1.7.
        late: seconds by which it is played after its step; nobody is a clock.
    """

    step: NDArray[np.int64]
    length: NDArray[np.int64]
    voice: NDArray[np.int64]
    pitch: NDArray[np.int64]
    height: NDArray[np.float64]
    velocity: NDArray[np.float64]
    late: NDArray[np.float64]


@dataclass(frozen=True)
class Phrase:
    """Four bars.

    Attributes:
        tonic: pitch class of its scale's first degree.
        chords: a bar a chord, as scale degrees from 0.
        tune: (step, length, degree) of the tune's skeleton; degrees count on beyond 6.
        notes: everything that sounds.
    """

    tonic: int
    chords: tuple[int, ...]
    tune: tuple[tuple[int, int, int], ...]
    notes: Notes


class _Writer:
    """Collects notes."""

    def __init__(self, style: Style, tonic: int, random: np.random.Generator) -> None:
        self.style, self.tonic, self.random = style, tonic, random
        self.breath = BREATH * style.rubato * random.standard_normal()
        self.rows: list[tuple[int, int, Voice, int, float, float, float]] = []

    def write(
        self, voice: Voice, step: int, length: int, velocity: float, degree: int = 0, height: float = 0.0
    ) -> None:
        """Add a note, as strong as a person happens to play it."""
        played = velocity * min(1.6, max(0.3, 1 + HUMAN * self.random.standard_normal()))
        drum = voice in (Voice.LOW_DRUM, Voice.HIGH_DRUM)
        pitch = 0 if drum else (self.tonic + self.style.scale[degree % 7]) % 12
        # All begin a bar together, and all breathe together.
        alone = self.style.rubato * abs(self.random.standard_normal()) if step % self.style.bar else 0.0
        together = self.breath * math.sin(math.pi * step / (BARS_A_PHRASE * self.style.bar))
        self.rows.append((step, length, voice, pitch, height, played, alone + together))

    def leaves_out(self, velocity: float) -> bool:
        """Whether a stroke is not played this time."""
        return velocity <= WEAK and self.random.random() < LEFT_OUT

    def notes(self) -> Notes:
        """The table."""
        columns = list(zip(*self.rows, strict=True))
        step, length, voice, pitch = (np.array(column, np.int64) for column in columns[:4])
        height, velocity, late = (np.array(column, np.float64) for column in columns[4:])
        return Notes(step, length, voice, pitch, height, velocity, late)


@lru_cache(maxsize=1024)
def phrase(section: Section, index: int) -> Phrase:
    """A phrase of a section, counted from its origin; before that there are phrases, too."""
    strophe, place = divmod(index, len(FORM))
    # Seeded by what the phrase is called and not where it stands, so that A returns.
    skeleton = np.random.default_rng([*section.material, strophe % 2**32, ord(FORM[place])])
    chords: tuple[int, ...] = section.style.progressions[skeleton.integers(len(section.style.progressions))]
    tune = _tune(section.style, chords, skeleton)
    if FORM[place] in FORM[:place]:
        ending = np.random.default_rng([*section.material, strophe % 2**32, place, 8])
        chords, tune = _ended_otherwise(section.style, chords, tune, ending)
    fresh = np.random.default_rng([*section.material, strophe % 2**32, place, 7])
    intensity = (section.controls.intensity + section.goal.intensity) / 2
    fullness = _fullness(fresh, intensity, first=index == 0)
    silent = frozenset() if index == 0 else _silent(fresh, fullness)
    return _perform(section.style, section.tonic_of(strophe), chords, tune, fullness, silent, fresh)


def _fullness(random: np.random.Generator, intensity: float, *, first: bool) -> Fullness:
    """Thin or full at times: more often full the higher the intensity, and usual where a mood begins."""
    drawn, middle = random.random(), (intensity - 3) / 2
    if first:
        return Fullness.USUAL
    if drawn < 0.25 - 0.2 * middle:
        return Fullness.THIN
    return Fullness.FULL if drawn > 0.75 - 0.2 * middle else Fullness.USUAL


def _silent(random: np.random.Generator, fullness: Fullness) -> frozenset[Voice]:
    """Who rests in a phrase; never both the tune and its accompaniment."""
    silent = {voice for voice, chance in PRESENT.items() if random.random() > chance}
    if fullness is Fullness.THIN:
        silent |= {Voice.LOW_DRUM, Voice.HIGH_DRUM}
    if Voice.TUNE in silent:
        silent -= {Voice.CHORD}
    return frozenset(silent)


def _perform(
    style: Style,
    tonic: int,
    chords: tuple[int, ...],
    tune: tuple[tuple[int, int, int], ...],
    fullness: Fullness,
    silent: frozenset[Voice],
    random: np.random.Generator,
) -> Phrase:
    """Everything that sounds over a tune's skeleton; what is drawn here differs each time that it returns."""
    writer = _Writer(style, tonic, random)
    strength = (0.8, 1.0, 1.12)[fullness]
    if Voice.TUNE not in silent:
        for step, length, degree in _ornamented(tune, style, random):
            accent = ACCENTS[step % len(ACCENTS)] if step % style.bar else 1.1
            writer.write(Voice.TUNE, step, length, strength * accent, degree, degree / REACH)
    for bar, chord in enumerate(chords):
        first, full = bar * style.bar, fullness is Fullness.FULL
        if Voice.CHORD not in silent:
            _accompany(writer, first, chord, strength)
        _bass(writer, first, chord, strength)
        if Voice.LOW_DRUM not in silent:
            _drum(writer, first, style.low_drum, Voice.LOW_DRUM, strength, busy=full)
        if Voice.HIGH_DRUM not in silent:
            _drum(writer, first, style.high_drum, Voice.HIGH_DRUM, strength, busy=full or bar == len(chords) - 1)
    return Phrase(tonic, chords, tune, writer.notes())


def _tune(style: Style, chords: tuple[int, ...], random: np.random.Generator) -> tuple[tuple[int, int, int], ...]:
    """A motive of a bar, an answer, the motive again on another chord, and a close on a long note."""
    motive, answer = (style.rhythms[at] for at in random.integers(len(style.rhythms), size=2))
    close = _close(style, random)
    shape = random.choice(MOVES, size=len(motive))
    notes: list[tuple[int, int, int]] = []
    degree = int(random.integers(2, 6))
    for bar, rhythm in enumerate((motive, answer, motive, close)):
        moves = shape if bar in (0, 2) else random.choice(MOVES, size=len(rhythm))
        notes += _bar(bar, style.bar, rhythm, moves.tolist(), degree, chords[bar])
        degree = notes[-1][2]
    return tuple(notes)


def _ended_otherwise(
    style: Style, chords: tuple[int, ...], tune: tuple[tuple[int, int, int], ...], random: np.random.Generator
) -> tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]]:
    """The same phrase with another last bar, on a chord with which the mood's phrases end."""
    last = style.progressions[random.integers(len(style.progressions))][-1]
    kept = tuple(note for note in tune if note[0] < (BARS_A_PHRASE - 1) * style.bar)
    rhythm = _close(style, random)
    moves = random.choice(MOVES, size=len(rhythm)).tolist()
    end = _bar(BARS_A_PHRASE - 1, style.bar, rhythm, moves, kept[-1][2], last)
    return (*chords[:-1], last), (*kept, *end)


def _close(style: Style, random: np.random.Generator) -> Rhythm:
    """A phrase's last bar."""
    return (style.bar // 2, style.bar - style.bar // 2) if random.random() < 0.5 else (style.bar,)


def _bar(
    number: int, steps: int, rhythm: Rhythm, moves: Sequence[int], degree: int, chord: int
) -> list[tuple[int, int, int]]:
    """A bar of the tune, from the degree before it on."""
    notes, step = [], number * steps
    for at, (length, move) in enumerate(zip(rhythm, moves, strict=True)):
        degree = _within(degree + move)
        if at == 0 or (number == BARS_A_PHRASE - 1 and at == len(rhythm) - 1):
            degree = _on_chord(degree, chord)  # a bar begins on a tone of its chord, and the close ends so
        notes.append((step, length, degree))
        step += length
    return notes


def _within(degree: int) -> int:
    """Turned back at the ends of the tune's range."""
    return -degree if degree < 0 else 2 * REACH - degree if degree > REACH else degree


def _on_chord(degree: int, chord: int) -> int:
    """The nearest tone of a chord."""
    tones = [tone for tone in range(REACH + 1) if (tone - chord) % 7 in (0, 2, 4)]
    return min(tones, key=lambda tone: abs(tone - degree))


def _ornamented(
    tune: tuple[tuple[int, int, int], ...], style: Style, random: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Some long notes broken in two by a neighbour; where a note begins, it stays."""
    notes = []
    for step, length, degree in tune:
        if length >= 4 and random.random() < 0.35 * style.density:
            half = length // 2
            notes.append((step, half, degree))
            notes.append((step + half, length - half, _within(degree + int(random.choice((-1, 1))))))
        else:
            notes.append((step, length, degree))
    return notes


def _accompany(writer: _Writer, first: int, chord: int, strength: float) -> None:
    style = writer.style
    for number, (at, velocity, length) in enumerate(_strokes(style.chords)):
        if writer.leaves_out(velocity):
            continue
        tones = (2 * style.broken[number % len(style.broken)],) if style.broken else (0, 2, 4)
        for tone in tones:
            writer.write(Voice.CHORD, first + at, length, strength * velocity, chord + tone, 0.4)


def _bass(writer: _Writer, first: int, chord: int, strength: float) -> None:
    for at, velocity, length in _strokes(writer.style.bass):
        fifth = at >= writer.style.bar / 2 and at % 4 == 0 and writer.random.random() < 0.5
        writer.write(Voice.BASS, first + at, length, strength * velocity, chord + 4 * fifth)


def _drum(writer: _Writer, first: int, pattern: Pattern, voice: Voice, strength: float, *, busy: bool) -> None:
    if not any(pattern):
        return
    for at, velocity, _ in _strokes(pattern):
        if not writer.leaves_out(velocity):
            writer.write(voice, first + at, 2, strength * velocity)
    if busy:  # somebody adds a stroke or two of their own
        free = [at for at in range(0, len(pattern), 2) if not pattern[at]]
        for at in writer.random.permutation(free)[: max(1, len(free) // 4)].tolist():
            writer.write(voice, first + at, 2, GHOST * strength)


@lru_cache(maxsize=512)
def _strokes(pattern: Pattern) -> tuple[tuple[int, float, int], ...]:
    """(step, strength, steps up to the next stroke or the bar's end) of a bar."""
    struck = [at for at, strength in enumerate(pattern) if strength]
    ends = [*struck[1:], len(pattern)]
    return tuple((at, pattern[at], min(LONGEST, end - at)) for at, end in zip(struck, ends, strict=True))
