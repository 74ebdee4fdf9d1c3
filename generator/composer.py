"""What to play: key, chords, melody and figure in each mood's style, written as a plan. Torch-free.

The composer has no memory. A plan is a pure function of a :class:`Section` and a place in it, so any stretch of an
endless piece can be written at any time, by anyone, in any order: that is what makes a window of the stream a pure
function too.

A section is laid out in bars; four bars make a phrase, four phrases a strophe of the form A A B A. A phrase that
returns keeps its chords and its melody's skeleton and varies the ornaments. Every strophe draws new material, and from
the second on may move to a neighbouring key.

A slow change of mood is a section of its own, the bridge: it leads into another on a bar line, and on its way tempo and
figure lie halfway between the two while loudness, brightness and the mood itself move from the one to the other.

Musical time is counted in whole numbers: a tempo is a whole number of quarter beats a minute and a frame is 1/3000 of a
minute, so a beat falls into the same frame whoever asks, from wherever, however long the stream has run.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.moods import MOODS, Mood
from generator.plan import BASS, BRIGHTNESS, CHROMA, FEATURES, LOUDNESS, ONSET, ONSET_PARTS
from generator.protocol import FRAMES_PER_SECOND, Controls
from generator.style import Style, mix

Array = NDArray[np.float32]

COLUMN_FRAMES: Final = 4  #: wire frames that one column of a plan covers: 80 ms, an onset in each
HALF_BEAT: Final = 60 * FRAMES_PER_SECOND * 2  #: frames times quarter beats a minute, of half a beat
STROPHES: Final = 64  #: in which the keys wander away from home and back

BARS_A_PHRASE: Final = 4
FORM: Final = "AABA"
SLOW_SECONDS: Final = 10.0  #: what a bridge lasts, to the next whole bar


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of the stream in one mood, or on its way to another.

    Attributes:
        controls: its mood and intensity.
        seed: the stream's; decides the home key and everything that is drawn.
        origin: the wire frame of its first downbeat.
        home: pitch class of its first tonic; the stream's own, drawn from the seed, where not given.
        toward: of a bridge, where it leads.
        bridge: what sounds before ``origin``, if this was reached slowly.
    """

    controls: Controls
    seed: int
    origin: int
    home: int | None = None
    toward: Controls | None = None
    bridge: "Section | None" = None

    def turned(self, controls: Controls, frame: int) -> "Section":
        """Other music from a wire frame on, in the key that is heard there."""
        return Section(controls, self.seed, frame, self.tonic(frame))

    def turning(self, controls: Controls, frame: int) -> "Section":
        """Other music to which a bridge leads that begins at a wire frame, from the nearer end of another bridge."""
        here = self.at(frame)
        nearest = here.goal if here._way_at(frame) >= 0.5 else here.controls
        bridge = Section(nearest, self.seed, frame, self.tonic(frame), controls)
        end = frame + bridge._length
        return Section(controls, self.seed, end, bridge.tonic(end), bridge=bridge)

    def at(self, frame: int) -> "Section":
        """What sounds at a wire frame: this, or the bridge to it."""
        return self if self.bridge is None or frame >= self.origin else self.bridge

    @property
    def goal(self) -> Controls:
        """Where it leads: its own controls if it is no bridge."""
        return self.toward or self.controls

    @property
    def style(self) -> Style:
        """How it is composed; a bridge's lies halfway."""
        before, after = _shares(self.controls), _shares(self.goal)
        return _style(self.controls.mood, tuple((one + two) / 2 for one, two in zip(before, after, strict=True)))

    @property
    def tempo(self) -> int:
        """Quarter beats a minute; intensity moves it through the style's range."""
        low, high = self.style.tempo
        return 4 * low + (high - low) * (self.controls.intensity + self.goal.intensity - 2) // 2

    @property
    def beat_seconds(self) -> float:
        """Length of a beat."""
        return 240 / self.tempo

    def shares(self, frame: int) -> tuple[float, ...]:
        """How much of each mood sounds at a wire frame, in the order of ``MOODS``; they add up to 1."""
        here = self.at(frame)
        way, before, after = here._way_at(frame), _shares(here.controls), _shares(here.goal)
        return tuple(one + way * (two - one) for one, two in zip(before, after, strict=True))

    def intensity(self, frame: int) -> float:
        """Intensity at a wire frame, 1 to 5."""
        here = self.at(frame)
        return here.controls.intensity + here._way_at(frame) * (here.goal.intensity - here.controls.intensity)

    def way(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """How far a bridge has come at wire frames, 0 to 1; 0 for what leads nowhere."""
        way = (frames - self.origin) / self._length if self.toward else np.zeros(len(frames))
        return np.clip(way, 0.0, 1.0)

    def next_beat(self, frame: int) -> int:
        """The wire frame, nearest to its beat, of the first beat at or after ``frame``."""
        return self.at(frame)._next(1, frame)

    def next_bar(self, frame: int) -> int:
        """The same of the first downbeat."""
        here = self.at(frame)
        return here._next(here.style.metre, frame)

    def tonic(self, frame: int) -> int:
        """The pitch class that is home at a wire frame."""
        here = self.at(frame)
        half_beats = (frame - here.origin) * here.tempo // HALF_BEAT
        return _tonic(here, half_beats // (2 * here.style.metre * BARS_A_PHRASE * len(FORM)))

    def _way_at(self, frame: int) -> float:
        return float(self.way(np.array([frame]))[0])

    def _next(self, beats: int, frame: int) -> int:
        # ⌊x + ½⌋ is not before a whole number as soon as x is at most ½ before it.
        units = -((1 - 2 * (frame - self.origin)) * self.tempo // (4 * HALF_BEAT * beats))
        return self.origin + self._frames(units * beats)

    def _frames(self, beats: int) -> int:
        """From the origin to a beat: ⌊(beats · beat) + ½⌋, where a beat is 2 · HALF_BEAT / tempo frames."""
        return (4 * HALF_BEAT * beats + self.tempo) // (2 * self.tempo)

    @property
    def _length(self) -> int:
        """Of a bridge, in frames: whole bars."""
        metre = self.style.metre
        return self._frames(metre * max(1, round(SLOW_SECONDS / (metre * self.beat_seconds))))


def _shares(controls: Controls) -> tuple[float, ...]:
    return tuple((mood in controls.moods) / len(controls.moods) for mood in MOODS)


@lru_cache(maxsize=256)
def _style(lead: Mood, parts: tuple[float, ...]) -> Style:
    return mix(lead, parts)


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
    if section.bridge is not None:  # a column belongs to what sounds in its middle
        before = min(columns, max(0, -(-(section.origin - start - COLUMN_FRAMES // 2) // COLUMN_FRAMES)))
        parts = [
            write_plan(section.bridge, start, before, statistics),
            write_plan(replace(section, bridge=None), start + before * COLUMN_FRAMES, columns - before, statistics),
        ]
        return np.concatenate(parts, axis=1)

    style, column = section.style, np.arange(columns)
    place = start + COLUMN_FRAMES // 2 + COLUMN_FRAMES * column
    plan = np.zeros((FEATURES, columns), np.float32)

    middle = (place - section.origin) * section.tempo
    bar, step = np.divmod(middle // HALF_BEAT, 2 * style.metre)
    number, in_phrase = np.divmod(bar, BARS_A_PHRASE)
    phrases = [_phrase(section, each) for each in number.tolist()]
    tonic = np.array([phrase.tonic for phrase in phrases], np.int64)
    chord = np.array([phrase.chords[at] for phrase, at in zip(phrases, in_phrase, strict=True)], np.int64)
    melody_step = in_phrase * 2 * style.metre + step
    note = np.array([phrase.melody[at] for phrase, at in zip(phrases, melody_step, strict=True)], np.int64)

    def sound(part: slice, degree: NDArray[np.int64], weight: NDArray[np.float64] | float) -> None:
        row = part.start + (tonic + np.array(style.scale)[degree % 7]) % 12
        plan[row, column] = np.maximum(plan[row, column], weight)

    for degree, weight in ((chord, 0.7), (chord + 2, 0.5), (chord + 4, 0.6), (note, 1.0)):
        sound(CHROMA, degree, weight)
    sound(BASS, chord, 1.0)
    sound(BASS, chord + 4, np.where(step // 2 < style.metre / 2, 0.25, 0.5))

    mean, deviation, push = _levels(section, place, statistics)
    calm = mean[ONSET] - 0.4 * deviation[ONSET]
    strokes = _strokes(section, start, columns * ONSET_PARTS).reshape(columns, ONSET_PARTS).T
    plan[ONSET] = np.maximum(0, calm + (4.5 + 1.5 * push) * strokes * deviation[ONSET])
    length = HALF_BEAT * 2 * style.metre * BARS_A_PHRASE
    wave = np.sin(2 * np.pi * (middle % length) / length) / 2  # a phrase swells, ebbs, and ends where it began
    # Training brings every recording to one RMS, so each mood's own mean is equally loud: a change of scene is no
    # change of volume. One mean for all would make dark moods 7 dB louder than bright ones.
    plan[LOUDNESS] = mean[LOUDNESS] + (0.6 * push + style.swell * wave) * deviation[LOUDNESS]
    plan[BRIGHTNESS] = mean[BRIGHTNESS] + (0.5 * push + 0.3 * wave) * deviation[BRIGHTNESS]
    return plan


def _levels(
    section: Section, frames: NDArray[np.int64], statistics: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each feature at wire frames, both [FEATURES, frames], and the push, -1 to 1, [frames]."""
    way = section.way(frames)
    before, after = (
        statistics[[MOODS.index(mood) for mood in controls.moods]].mean(0, dtype=np.float64)[:, :, None]
        for controls in (section.controls, section.goal)
    )
    mean, deviation = before + way * (after - before)
    intensity = section.controls.intensity + way * (section.goal.intensity - section.controls.intensity)
    return mean, deviation, (intensity - 3) / 2


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
    skeleton = np.random.default_rng([section.seed, _material(section), strophe % 2**32, ord(name)])
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
    ornaments = np.random.default_rng([section.seed, _material(section), strophe % 2**32, place, 7])
    for step in range(1, length, 2):  # off-beats may differ each time
        if ornaments.random() < 0.3 * style.density:
            melody[step] = (melody[step] + int(ornaments.choice((-1, 1)))) % 7
    return _Phrase(_tonic(section, strophe), chords, tuple(melody))


def _tonic(section: Section, strophe: int) -> int:
    """Strophes wander from the section's home by at most a fifth at a time, back the same way, and then elsewhere."""
    home = section.home
    if home is None:
        home = int(np.random.default_rng(section.seed).integers(12))
    walk, step = divmod(max(0, strophe), STROPHES)
    steps = np.random.default_rng([section.seed, 5, walk % 2**32]).choice((-1, 0, 0, 1), size=STROPHES // 2)
    fifths = np.concatenate([steps, -steps[::-1]])[:step].sum()
    return int(home + 7 * fifths) % 12


def _material(section: Section) -> int:
    """A number for the moods that play together; a mood's own row where it plays alone."""
    number = 0
    for mood in (*section.controls.moods, *(section.toward.moods if section.toward else ())):
        number = 64 * number + MOODS.index(mood) + 1
    return number - 1
