"""What to play, as a plan: a section's notes, and how they would be heard in a recording. Torch-free.

The composer has no memory. A plan is a pure function of a :class:`Section` and a place in it, so any stretch of an
endless piece can be written at any time, by anyone, in any order: that is what makes a window of the stream a pure
function too.

The network learnt from plans that were measured of recordings, where a note is no number but a stroke that dies away:
it raises onsets, loudness and brightness together, its pitch stands out while it sounds, and all between the notes is
never quite still. So the notes are played before they are written down.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.moods import MOODS
from generator.plan import BASS, BRIGHTNESS, CHROMA, FEATURES, LOUDNESS, ONSET, ONSET_PARTS
from generator.protocol import FRAMES_PER_SECOND
from generator.score import Notes, Voice, phrase
from generator.section import STEP, Section
from generator.style import Style

Array = NDArray[np.float32]
Values = NDArray[np.float64]

COLUMN_FRAMES: Final = 4  #: wire frames that one column of a plan covers: 80 ms, an onset in each
LOOK_BACK: Final = 7 * FRAMES_PER_SECOND  #: frames after its beginning in which any note has died away
RELEASE: Final = 0.12  #: seconds in which a note falls to a third once it is let go
DRUM: Final = 0.2  #: seconds in which a drum does
BLUR: Final = 0.04  #: seconds by which a column's spectrum hears a note before it begins: half a column
AUDIBLE: Final = 1e-3  #: strength below which a note is silent

#: What each voice gives: onset, loudness, brightness (± as it lies above or below the middle), chroma.
ONSETS: Final = np.array([0.55, 0.32, 0.5, 1.0, 0.8])
LOUD: Final = np.array([0.8, 0.45, 0.6, 1.0, 0.5])
BRIGHT: Final = np.array([0.5, 0.1, -0.5, -0.9, 1.3])
PITCHED: Final = np.array([1.0, 0.5, 0.35, 0.0, 0.0])
HEIGHT: Final = 0.5  #: brightness that the tune gains from its lowest note to its highest

SHINE: Final = 0.5  #: brightness that a note has more while it begins
SHINE_SECONDS: Final = 0.08

HUSH: Final = 0.15  #: strength of a room where nobody plays
AFTERSTROKE: Final = 0.3  #: of an onset, in the 20 ms after it
BASS_BLUR: Final = (0.12, 0.45, 1.0, 0.45, 0.12)  #: semitones run into one another in the bass of a short spectrum
MOVEMENT: Final = 0.45  #: deviation of loudness and of brightness within a phrase, over that of a mood's recordings
CALM: Final = 0.35  #: deviations of onset strength by which its calm lies under its mean
ALIVE: Final = 0.2  #: of those, by which it is no dead calm
STROKE: Final = 4.5  #: deviations of onset strength that a stroke of strength 1 is worth
JITTER: Final = 0.22  #: deviation of what moves between the notes, in those of a mood's recordings
JITTER_FRAMES: Final = 24  #: over which it turns to something else
USUAL_INTENSITY: Final = 3
USUAL_PHRASES: Final = (1, 6, 11, 16)  #: each at another place of its strophe
SHARPENED: Final = 0.15  #: brightness that the network adds to what it is told, and that is not told it therefore
LEAST_MOVEMENT: Final = 0.05  #: of level and tone, so that what stands still is not blown up
JITTERS: Final = 4099  #: frames after which that comes again; no multiple of anything musical


def write_plan(section: Section, start: int, columns: int, statistics: NDArray[np.float32]) -> Array:
    """The plan of ``columns`` columns from wire frame ``start`` on, which may lie before the section.

    Args:
        section: what is played.
        start: wire frame, 20 ms each, of the first column's beginning.
        columns: how many.
        statistics: [moods + 1, 2, FEATURES], mean and deviation of measured plans by mood; they set the scale of
            loudness, brightness and onsets, and how far a pitch stands out.

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

    first = start - section.origin
    place = first + COLUMN_FRAMES // 2 + COLUMN_FRAMES * np.arange(columns)
    heard = _hear(section, first, columns)
    mean, deviation, push = _levels(section, section.origin + place, statistics)
    still = _jitter(section.seed, place)

    plan = np.zeros((FEATURES, columns), np.float32)
    for part, pitches in ((CHROMA, heard.chroma), (BASS, heard.bass)):
        floor = np.clip((mean[part].mean(axis=0) - pitches.mean(axis=0)) / (1 - pitches.mean(axis=0)), 0, 0.5)
        plan[part] = floor + (1 - floor) * pitches

    onsets = heard.onsets.reshape(columns, ONSET_PARTS).T
    alive = np.abs(_jitter(section.seed, first + np.arange(columns * ONSET_PARTS))[0]).reshape(columns, ONSET_PARTS).T
    calm = mean[ONSET] - (CALM - ALIVE * alive) * deviation[ONSET]
    plan[ONSET] = np.maximum(0, calm + STROKE * (1 + push / 3) * section.style.attack * onsets * deviation[ONSET])

    usual = _usual(section)
    length = section.phrase_steps * STEP
    wave = np.sin(2 * np.pi * ((place * section.tempo) % length) / length) / 2  # a phrase swells, and ends as it began
    # Training brings every recording to one RMS, so each mood's own mean is equally loud: a change of scene is no
    # change of volume. One mean for all would make dark moods 7 dB louder than bright ones.
    loud = MOVEMENT * (heard.level - usual.level) / usual.level_deviation + JITTER * still[1]
    bright = MOVEMENT * (heard.tone - usual.tone) / usual.tone_deviation + JITTER * still[2]
    plan[LOUDNESS] = mean[LOUDNESS] + (loud + 0.6 * push + section.style.swell * wave) * deviation[LOUDNESS]
    bright += 0.5 * push + 0.3 * wave
    plan[BRIGHTNESS] = mean[BRIGHTNESS] - SHARPENED + bright * deviation[BRIGHTNESS]
    return plan


@dataclass(frozen=True)
class _Heard:
    """Notes as they sound: by column (chroma and bass [12, columns], level and tone) and by frame (onsets)."""

    chroma: Values
    bass: Values
    onsets: Values
    level: Values
    tone: Values


def _hear(section: Section, first: int, columns: int) -> _Heard:
    """How the notes sound in columns from a frame on, counted from the section's origin."""
    style, frames = section.style, columns * COLUMN_FRAMES
    notes, begin, held, chord = _notes(section, first, frames)
    since = (first + COLUMN_FRAMES // 2 + COLUMN_FRAMES * np.arange(columns) - begin[:, None]) / FRAMES_PER_SECOND
    strength = notes.velocity[:, None] * _envelope(since, held[:, None] / FRAMES_PER_SECOND, notes.voice, style)
    strength = np.where(strength < AUDIBLE, 0.0, strength)

    # Sums are cumulative ones: whether there are more notes that are silent here must not change a bit of them.
    def total(weights: Values) -> Values:
        sums: Values = np.cumsum(weights[:, None] * strength, axis=0)[-1]
        return sums

    loud = total(LOUD[notes.voice])
    bright = BRIGHT[notes.voice] + HEIGHT * (notes.voice == Voice.TUNE) * (notes.height - 0.5)
    shine = np.cumsum(strength * np.exp(-np.abs(since) / SHINE_SECONDS), axis=0)[-1]
    onsets = np.zeros(frames + 1)
    inside = (begin >= first - 1) & (begin < first + frames)
    np.maximum.at(onsets, begin[inside] - first + 1, (ONSETS[notes.voice] * notes.velocity)[inside])
    pitched = np.zeros((12, columns))
    np.maximum.at(pitched, notes.pitch, PITCHED[notes.voice][:, None] * strength)
    deep = np.zeros((12, columns))
    low = notes.voice == Voice.BASS
    np.maximum.at(deep, notes.pitch[low], strength[low])
    # Where all is silent, the chord is still in the air.
    for tone in (0, 2, 4):
        classes = (chord[0] + np.array(style.scale)[(chord[1] + tone) % 7]) % 12
        for pitches, least in ((pitched, 0.05), (deep, 0.05 if tone == 0 else 0.01)):
            pitches[classes, np.arange(columns)] = np.maximum(pitches[classes, np.arange(columns)], least)
    deep = np.max([weight * np.roll(deep, at - 2, axis=0) for at, weight in enumerate(BASS_BLUR)], axis=0)
    return _Heard(
        chroma=pitched / pitched.max(axis=0),
        bass=deep / deep.max(axis=0),
        onsets=np.maximum(onsets[1:], AFTERSTROKE * onsets[:-1]),
        level=np.log(HUSH + loud),
        tone=(total(LOUD[notes.voice] * bright) + SHINE * shine) / (HUSH + loud),
    )


def _notes(
    section: Section, first: int, frames: int
) -> tuple[Notes, NDArray[np.int64], NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All that may sound in ``frames`` frames; where each begins and how long it is held; tonic and chord by column."""
    tempo, length = section.tempo, section.phrase_steps
    numbers = range((first - LOOK_BACK) * tempo // (STEP * length), (first + frames) * tempo // (STEP * length) + 1)
    phrases = [phrase(section, number) for number in numbers]
    offsets = np.repeat([number * length for number in numbers], [len(each.notes.step) for each in phrases])
    columns = ("step", "length", "voice", "pitch", "height", "velocity", "late")
    notes = Notes(*(np.concatenate([getattr(each.notes, name) for each in phrases]) for name in columns))
    step = notes.step + offsets
    frame = step * STEP // tempo  # that it falls into
    held = (step + notes.length) * STEP // tempo - frame
    begin = frame + np.round(notes.late * FRAMES_PER_SECOND).astype(np.int64)

    middle = (first + COLUMN_FRAMES // 2 + COLUMN_FRAMES * np.arange(frames // COLUMN_FRAMES)) * tempo // STEP
    number, inside = np.divmod(middle, length)
    by_number = dict(zip(numbers, phrases, strict=True))
    tonic = np.array([by_number[each].tonic for each in number.tolist()], np.int64)
    bars = (inside // section.style.bar).tolist()
    chord = np.array([by_number[each].chords[bar] for each, bar in zip(number.tolist(), bars, strict=True)], np.int64)
    return notes, begin, held, (tonic, chord)


def _envelope(since: Values, held: Values, voice: NDArray[np.int64], style: Style) -> Values:
    """Strength of notes, 0 to 1, [notes, columns], ``since`` seconds after each began that is ``held`` seconds."""
    drum = (voice >= Voice.LOW_DRUM)[:, None]
    after = np.maximum(since, 0)
    sounding = style.sustain + (1 - style.sustain) * np.exp(-after / style.decay)
    released = np.exp(-np.maximum(after - held, 0) / RELEASE)
    rise = np.clip((since + BLUR) / (2 * BLUR), 0, 1)
    return rise * np.where(drum, np.exp(-after / DRUM), sounding * released)


@dataclass(frozen=True)
class _Usual:
    """What is usual in a style: mean and deviation of level and tone."""

    level: float
    level_deviation: float
    tone: float
    tone_deviation: float


def _usual(section: Section) -> _Usual:
    """Of some phrases in its style at middle intensity; what is written are differences from it, in deviations."""
    controls = replace(section.controls, intensity=USUAL_INTENSITY)
    toward = section.toward and replace(section.toward, intensity=USUAL_INTENSITY)
    return _usual_of(Section(controls, 0, 0, 0, toward))


@lru_cache(maxsize=256)
def _usual_of(section: Section) -> _Usual:
    frames = section.phrase_steps * STEP // section.tempo
    heard = [_hear(section, number * frames, frames // COLUMN_FRAMES) for number in USUAL_PHRASES]
    level = np.concatenate([each.level for each in heard])
    tone = np.concatenate([each.tone for each in heard])
    return _Usual(
        float(level.mean()),
        max(LEAST_MOVEMENT, float(level.std())),
        float(tone.mean()),
        max(LEAST_MOVEMENT, float(tone.std())),
    )


def _levels(
    section: Section, frames: NDArray[np.int64], statistics: NDArray[np.float32]
) -> tuple[Values, Values, Values]:
    """Mean and deviation of each feature at wire frames, both [FEATURES, frames], and the push, -1 to 1, [frames]."""
    way = section.way(frames)
    before, after = (
        statistics[[MOODS.index(mood) for mood in controls.moods]].mean(0, dtype=np.float64)[:, :, None]
        for controls in (section.controls, section.goal)
    )
    mean, deviation = before + way * (after - before)
    intensity = section.controls.intensity + way * (section.goal.intensity - section.controls.intensity)
    return mean, deviation, (intensity - 3) / 2


def _jitter(seed: int, frames: NDArray[np.int64]) -> Values:
    """Three standard normal numbers for each frame, always the same, [3, frames]; only the first is without memory."""
    return _jitter_table(seed)[:, frames % JITTERS]


@lru_cache(maxsize=64)
def _jitter_table(seed: int) -> Values:
    table = np.random.default_rng([seed, 11]).standard_normal((3, JITTERS))
    bell = np.hanning(2 * JITTER_FRAMES + 1)
    around = np.concatenate([table, table[:, : 2 * JITTER_FRAMES]], axis=1)  # the last leads back to the first
    for row in (1, 2):
        table[row] = np.convolve(around[row], bell / np.linalg.norm(bell), "valid")
    return table
