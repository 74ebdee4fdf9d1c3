"""What to play: per mood a mode, tempo, metre, harmony, phrase form and figure, written as a plan. Torch-free.

The composer has no memory. A plan is a pure function of a :class:`Section` and a place in it, so any stretch of an
endless piece can be written at any time, by anyone, in any order: that is what makes a window of the stream a pure
function too.

A section is laid out in bars; four bars make a phrase, four phrases a strophe of the form A A B A. A phrase that
returns keeps its chords and its melody's skeleton and varies the ornaments. Every strophe draws new material, and from
the second on may move to a neighbouring key.

Musical time is counted in whole numbers: a tempo is a whole number of quarter beats a minute and a frame is 1/3000 of a
minute, so a beat falls into the same frame whoever asks, from wherever, however long the stream has run.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.moods import MOODS, Mood
from generator.plan import BASS, BRIGHTNESS, CHROMA, FEATURES, LOUDNESS, ONSET, ONSET_PARTS
from generator.protocol import FRAMES_PER_SECOND, Controls

Array = NDArray[np.float32]

COLUMN_FRAMES: Final = 4  #: wire frames that one column of a plan covers: 80 ms, an onset in each
HALF_BEAT: Final = 60 * FRAMES_PER_SECOND * 2  #: frames times quarter beats a minute, of half a beat
STROPHES: Final = 64  #: after which the keys' wandering begins again

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
        tempo: whole beats a minute, lowest and highest.
        metre: beats a bar.
        progressions: four chords each, as scale degrees from 0.
        figure: onset strengths of a bar's half-beats, cycled, 0 to 1.
        density: chance that a half-beat moves the melody.
        swell: how far loudness rises and falls over a phrase, in deviations of the mood's own loudness.
    """

    scale: tuple[int, ...]
    tempo: tuple[int, int]
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
        home: pitch class of its first tonic; the stream's own, drawn from the seed, where not given.
    """

    controls: Controls
    seed: int
    origin: int
    home: int | None = None

    @property
    def style(self) -> Style:
        """How its mood is composed."""
        return STYLES[self.controls.mood]

    @property
    def tempo(self) -> int:
        """Quarter beats a minute; intensity moves it through the mood's range."""
        low, high = self.style.tempo
        return 4 * low + (high - low) * (self.controls.intensity - 1)

    @property
    def beat_seconds(self) -> float:
        """Length of a beat."""
        return 240 / self.tempo

    def next_beat(self, frame: int) -> int:
        """The wire frame, nearest to its beat, of the first beat at or after ``frame``."""
        # Beat k falls to frame ⌊(k · beat) + ½⌋, where a beat is 2 · HALF_BEAT / tempo frames.
        beat = -((1 - 2 * (frame - self.origin)) * self.tempo // (4 * HALF_BEAT))
        return self.origin + (4 * HALF_BEAT * beat + self.tempo) // (2 * self.tempo)

    def tonic(self, frame: int) -> int:
        """The pitch class that is home at a wire frame."""
        half_beats = (frame - self.origin) * self.tempo // HALF_BEAT
        return _tonic(self, half_beats // (2 * self.style.metre * BARS_A_PHRASE * len(FORM)))


@dataclass(frozen=True)
class _Phrase:
    """One phrase's notes: chords [bars] as scale degrees; melody [bars · metre · 2] as scale degrees from 0 to 6."""

    tonic: int
    chords: tuple[int, ...]
    melody: tuple[int, ...]


def write_plan(section: Section, start: int, columns: int, statistics: NDArray[np.float32]) -> Array:
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
    style, column = section.style, np.arange(columns)
    mean, deviation = statistics[_row(section)]
    push = (section.controls.intensity - 3) / 2  # -1 to 1
    plan = np.zeros((FEATURES, columns), np.float32)

    middle = (start - section.origin + COLUMN_FRAMES // 2 + COLUMN_FRAMES * column) * section.tempo
    bar, step = np.divmod(middle // HALF_BEAT, 2 * style.metre)
    number, in_phrase = np.divmod(bar, BARS_A_PHRASE)
    phrases = [_phrase(section, each) for each in number.tolist()]
    tonic = np.array([phrase.tonic for phrase in phrases])
    chord = np.array([phrase.chords[at] for phrase, at in zip(phrases, in_phrase, strict=True)])
    melody_step = in_phrase * 2 * style.metre + step
    note = np.array([phrase.melody[at] for phrase, at in zip(phrases, melody_step, strict=True)])

    def sound(part: slice, degree: NDArray[np.int64], weight: NDArray[np.float64] | float) -> None:
        row = part.start + (tonic + np.array(style.scale)[degree % 7]) % 12
        plan[row, column] = np.maximum(plan[row, column], weight)

    for degree, weight in ((chord, 0.7), (chord + 2, 0.5), (chord + 4, 0.6), (note, 1.0)):
        sound(CHROMA, degree, weight)
    sound(BASS, chord, 1.0)
    sound(BASS, chord + 4, np.where(step // 2 < style.metre / 2, 0.25, 0.5))

    calm = mean[ONSET] - 0.4 * deviation[ONSET]
    strokes = _strokes(section, start, columns * ONSET_PARTS).reshape(columns, ONSET_PARTS)
    plan[ONSET] = np.maximum(0, calm + (4.5 + 1.5 * push) * strokes * deviation[ONSET]).T
    length = HALF_BEAT * 2 * style.metre * BARS_A_PHRASE
    wave = np.sin(2 * np.pi * (middle % length) / length) / 2  # a phrase swells, ebbs, and ends where it began
    # Training brings every recording to one RMS, so each mood's own mean is equally loud: a change of scene is no
    # change of volume. One mean for all would make dark moods 7 dB louder than bright ones.
    plan[LOUDNESS] = mean[LOUDNESS] + (0.6 * push + style.swell * wave) * deviation[LOUDNESS]
    plan[BRIGHTNESS] = mean[BRIGHTNESS] + (0.5 * push + 0.3 * wave) * deviation[BRIGHTNESS]
    return plan


def _strokes(section: Section, start: int, frames: int) -> NDArray[np.float64]:
    """How strongly the figure strikes within each wire frame from ``start`` on, 0 for not at all, [frames]."""
    begin = (start - section.origin + np.arange(frames)) * section.tempo
    stroke = -(-begin // HALF_BEAT)  # the first half-beat not before the frame
    figure = np.array(section.style.figure)
    return np.where(stroke * HALF_BEAT < begin + section.tempo, figure[stroke % len(figure)], 0.0)


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
    """Strophes wander from the section's home by at most a fifth at a time, and in the end the same way back."""
    home = section.home
    if home is None:
        home = int(np.random.default_rng(section.seed).integers(12))
    steps = np.random.default_rng([section.seed, 5]).choice((-1, 0, 0, 1), size=STROPHES // 2)
    fifths = np.concatenate([steps, -steps[::-1]])[: max(0, strophe) % STROPHES].sum()
    return int(home + 7 * fifths) % 12


def _row(section: Section) -> int:
    return MOODS.index(section.controls.mood)
