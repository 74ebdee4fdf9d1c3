"""What to play: per mood a mode, tempo, metre, harmony, phrase form and figure, written as a plan. Torch-free.

The composer has no memory. A plan is a pure function of a :class:`Section` and a place in it, so any stretch of an
endless piece can be written at any time, by anyone, in any order: that is what makes a window of the stream a pure
function too.

A section is laid out in bars; four bars make a phrase, four phrases a strophe of the form A A B A. A phrase that
returns keeps its chords and its melody's skeleton and varies the ornaments. Every strophe draws new material, and from
the second on may move to a neighbouring key.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.moods import MOODS, Mood
from generator.plan import BASS, BRIGHTNESS, CHROMA, FEATURES, LOUDNESS, ONSET, ONSET_PARTS
from generator.protocol import FRAME_SECONDS, Controls

Array = NDArray[np.float32]

COLUMN_SECONDS: Final = 0.08  #: what one column of a plan covers

BARS_A_PHRASE: Final = 4
FORM: Final = "AABA"
IONIAN: Final = (0, 2, 4, 5, 7, 9, 11)
DORIAN: Final = (0, 2, 3, 5, 7, 9, 10)
PHRYGIAN: Final = (0, 1, 3, 5, 7, 8, 10)
MIXOLYDIAN: Final = (0, 2, 4, 5, 7, 9, 10)
AEOLIAN: Final = (0, 2, 3, 5, 7, 8, 10)


@dataclass(frozen=True, slots=True)
class Style:
    """How a mood is composed.

    Attributes:
        scale: seven semitones above the tonic.
        tempo: beats a minute, lowest and highest.
        metre: beats a bar.
        progressions: four chords each, as scale degrees from 0.
        figure: onset strengths of a bar's half-beats, cycled, 0 to 1.
        density: chance that a half-beat moves the melody.
        swell: how far loudness rises and falls over a phrase, in deviations of the mood's own loudness.
    """

    scale: tuple[int, ...]
    tempo: tuple[float, float]
    metre: int
    progressions: tuple[tuple[int, int, int, int], ...]
    figure: tuple[float, ...]
    density: float
    swell: float


STYLES: Final[dict[Mood, Style]] = {
    Mood("epic"): Style(
        AEOLIAN, (84, 104), 4, ((0, 5, 2, 6), (0, 3, 5, 6), (0, 6, 5, 6)), (1, 0, 0.4, 0.3, 0.8, 0, 0.5, 0.3), 0.35, 0.6
    ),
    Mood("festival"): Style(
        MIXOLYDIAN, (112, 132), 3, ((0, 3, 0, 4), (0, 6, 3, 0), (0, 4, 3, 0)), (1, 0.3, 0.6, 0.5, 0.7, 0.5), 0.7, 0.3
    ),
    Mood("fight"): Style(
        PHRYGIAN,
        (132, 152),
        4,
        ((0, 0, 1, 0), (0, 5, 1, 0), (0, 3, 1, 6)),
        (1, 0.5, 0.7, 0.6, 1, 0.5, 0.8, 0.7),
        0.55,
        0.4,
    ),
    Mood("mysterious"): Style(
        PHRYGIAN, (56, 70), 4, ((0, 1, 0, 4), (0, 5, 1, 0), (0, 2, 1, 4)), (0.5, 0, 0, 0, 0.3, 0, 0, 0.2), 0.2, 0.5
    ),
    Mood("romance"): Style(
        IONIAN, (66, 80), 3, ((0, 5, 3, 4), (0, 2, 3, 4), (3, 4, 2, 5)), (0.7, 0.2, 0.4, 0.2, 0.4, 0.2), 0.4, 0.5
    ),
    Mood("sad"): Style(
        AEOLIAN, (54, 66), 4, ((0, 3, 5, 4), (0, 5, 3, 4), (0, 2, 3, 0)), (0.6, 0, 0.2, 0, 0.4, 0, 0.2, 0.1), 0.3, 0.5
    ),
    Mood("tavern"): Style(
        DORIAN,
        (104, 124),
        4,
        ((0, 6, 0, 6), (0, 3, 6, 0), (0, 2, 6, 0)),
        (1, 0.2, 0.6, 0.4, 0.9, 0.2, 0.6, 0.5),
        0.6,
        0.3,
    ),
    Mood("town"): Style(
        IONIAN,
        (84, 100),
        4,
        ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3)),
        (0.8, 0.2, 0.5, 0.2, 0.6, 0.2, 0.5, 0.3),
        0.5,
        0.3,
    ),
}


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of the stream in one mood.

    Attributes:
        controls: its mood and intensity.
        seed: the stream's; decides the home key and everything that is drawn.
        origin: the wire frame of its first downbeat.
    """

    controls: Controls
    seed: int
    origin: int

    @property
    def style(self) -> Style:
        """How its mood is composed."""
        return STYLES[self.controls.mood]

    @property
    def beat_seconds(self) -> float:
        """Length of a beat; intensity moves the tempo through the mood's range."""
        low, high = self.style.tempo
        share = (self.controls.intensity - 1) / 4
        return 60 / (low + (high - low) * share)

    def next_beat(self, frame: int) -> int:
        """The wire frame of the first beat at or after ``frame``."""
        beat = self.beat_seconds / FRAME_SECONDS
        return self.origin + round(math.ceil((frame - self.origin) / beat - 1e-9) * beat)


@dataclass(frozen=True)
class _Phrase:
    """One phrase's notes: chords [bars] as scale degrees; melody [bars · metre · 2] as scale degrees from 0 to 6."""

    tonic: int
    chords: tuple[int, ...]
    melody: tuple[int, ...]


def write_plan(section: Section, start: float, columns: int, statistics: NDArray[np.float32]) -> Array:
    """The plan of ``columns`` columns from wire frame ``start`` on, which may lie before the section.

    Args:
        section: what is played.
        start: wire frame, 20 ms each, of the first column's beginning.
        columns: how many.
        statistics: [moods + 1, 2, FEATURES], mean and deviation of measured plans by mood; they set the scale of
            loudness, brightness and onsets.

    Returns:
        [FEATURES, columns]
    """
    style, mood = section.style, MOODS.index(section.controls.mood)
    mean, deviation = statistics[mood]
    push = (section.controls.intensity - 3) / 2  # -1 to 1
    plan = np.zeros((FEATURES, columns), np.float32)
    begin = (start - section.origin) * FRAME_SECONDS
    for column in range(columns):
        here = begin + column * COLUMN_SECONDS
        beat = (here + COLUMN_SECONDS / 2) / section.beat_seconds
        bar, half_beat = math.floor(beat / style.metre), math.floor(2 * beat)
        phrase = _phrase(section, bar // BARS_A_PHRASE)
        in_phrase = bar % BARS_A_PHRASE
        chord = phrase.chords[in_phrase]
        note = phrase.melody[half_beat - bar * 2 * style.metre + in_phrase * 2 * style.metre]
        for degree, weight in ((chord, 0.7), (chord + 2, 0.5), (chord + 4, 0.6), (note, 1.0)):
            _raise(plan[CHROMA, column], _pitch(phrase.tonic, style.scale, degree), weight)
        strong = (half_beat // 2) % style.metre < style.metre / 2
        _raise(plan[BASS, column], _pitch(phrase.tonic, style.scale, chord), 1.0)
        _raise(plan[BASS, column], _pitch(phrase.tonic, style.scale, chord + 4), 0.25 if strong else 0.5)
        for part in range(ONSET_PARTS):
            strength = _onset(section, here + part * COLUMN_SECONDS / ONSET_PARTS)
            calm = mean[ONSET][part] - 0.4 * deviation[ONSET][part]
            plan[ONSET, column][part] = max(0.0, calm + (4.5 + 1.5 * push) * strength * deviation[ONSET][part])
        arch = math.sin(math.pi * ((beat / style.metre) % BARS_A_PHRASE) / BARS_A_PHRASE) - 0.5
        plan[LOUDNESS, column] = mean[LOUDNESS] + (0.6 * push + style.swell * arch) * deviation[LOUDNESS]
        plan[BRIGHTNESS, column] = mean[BRIGHTNESS] + (0.5 * push + 0.3 * arch) * deviation[BRIGHTNESS]
    return plan


def _raise(chroma: Array, pitch: int, weight: float) -> None:
    chroma[pitch] = max(chroma[pitch], weight)


def _pitch(tonic: int, scale: tuple[int, ...], degree: int) -> int:
    return (tonic + scale[degree % 7]) % 12


def _onset(section: Section, at: float) -> float:
    """Strength of the figure's stroke in the 20 ms from ``at`` seconds on, 0 for none."""
    half = section.beat_seconds / 2
    stroke = math.ceil(at / half - 1e-9)
    if not at <= stroke * half < at + COLUMN_SECONDS / ONSET_PARTS:
        return 0.0
    figure = section.style.figure
    return figure[int(stroke) % len(figure)]


@lru_cache(maxsize=4096)
def _phrase(section: Section, index: int) -> _Phrase:
    strophe, place = divmod(index, len(FORM))
    style, name = section.style, FORM[place]
    # Seeded by what the phrase is called and not where it stands, so that A returns.
    skeleton = np.random.default_rng([section.seed, _row(section), strophe % 2**32, ord(name)])
    chords = style.progressions[skeleton.integers(len(style.progressions))]
    length = BARS_A_PHRASE * style.metre * 2
    melody, note = [], int(skeleton.integers(3)) * 2
    for step in range(length):
        chord = chords[step // (style.metre * 2)]
        if step % (style.metre * 2) == 0:
            note = chord + int(skeleton.choice((0, 2, 4)))  # a bar begins on a tone of its chord
        elif skeleton.random() < style.density:
            note += int(skeleton.choice((-2, -1, 1, 2), p=(0.15, 0.35, 0.35, 0.15)))
        melody.append(note % 7)
    ornaments = np.random.default_rng([section.seed, _row(section), strophe % 2**32, place, 7])
    for step in range(1, length, 2):  # off-beats may differ each time
        if ornaments.random() < 0.3 * style.density:
            melody[step] = (melody[step] + int(ornaments.choice((-1, 1)))) % 7
    return _Phrase(_tonic(section, strophe), chords, tuple(melody))


def _tonic(section: Section, strophe: int) -> int:
    """The home key belongs to the stream, so a new mood begins in the key that was heard; strophes wander by fifths."""
    home = int(np.random.default_rng(section.seed).integers(12))
    wander = np.random.default_rng([section.seed, 5]).choice((-1, 0, 0, 1), size=64)
    return int(home + 7 * wander[: max(0, strophe) % 64].sum()) % 12


def _row(section: Section) -> int:
    return MOODS.index(section.controls.mood)
