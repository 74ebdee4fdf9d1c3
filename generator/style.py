"""How each mood is composed, and what lies between moods. Torch-free.

How often notes begin and how strongly, and how long they last, is near to what ``benchmarks.composer`` measures of the
corpus's recordings, mood by mood.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from generator.moods import MOODS, Mood

IONIAN: Final = (0, 2, 4, 5, 7, 9, 11)
DORIAN: Final = (0, 2, 3, 5, 7, 9, 10)
PHRYGIAN: Final = (0, 1, 3, 5, 7, 8, 10)
MIXOLYDIAN: Final = (0, 2, 4, 5, 7, 9, 10)
AEOLIAN: Final = (0, 2, 3, 5, 7, 8, 10)

STEPS_A_BEAT: Final = 4

Pattern = tuple[float, ...]  #: how strongly each step of a bar is struck, 0 to 1
Rhythm = tuple[int, ...]  #: how many steps each note of a bar lasts


def _pattern(text: str) -> Pattern:
    """A bar, a character a step, in words of a beat: ``9`` is as strong as can be, a dot is a rest."""
    return tuple(0.0 if each == "." else int(each) / 9 for each in text.replace(" ", ""))


@dataclass(frozen=True, slots=True)
class Style:
    """How a mood is composed. A step is a quarter of a beat.

    Attributes:
        scale: seven semitones above the tonic.
        tempo: whole beats a minute, lowest and highest.
        metre: beats a bar.
        progressions: four chords each, a bar a chord, as scale degrees from 0.
        rhythms: of the tune, bar by bar.
        bass: strokes of the bass.
        chords: strokes of the accompaniment.
        broken: which tone of its chord each stroke of the accompaniment plays, in turn; empty for all at a time.
        low_drum: strokes of a deep drum.
        high_drum: strokes of what rattles: snare, tambourine, shaker.
        attack: how sharply notes begin.
        decay: seconds in which a struck or plucked note falls to a third.
        sustain: share of a note that is bowed or blown, and does not fall.
        rubato: deviation of a note's time from its step, seconds.
        density: how readily the tune is ornamented.
        swell: how far loudness rises and falls over a phrase, in deviations of the mood's own loudness.
    """

    scale: tuple[int, ...]
    tempo: tuple[int, int]
    metre: int
    progressions: tuple[tuple[int, int, int, int], ...]
    rhythms: tuple[Rhythm, ...]
    bass: Pattern
    chords: Pattern
    broken: tuple[int, ...]
    low_drum: Pattern
    high_drum: Pattern
    attack: float
    decay: float
    sustain: float
    rubato: float
    density: float
    swell: float

    @property
    def bar(self) -> int:
        """Steps in a bar."""
        return STEPS_A_BEAT * self.metre


#: A mood as it is, unmixed.
STYLES: Final[dict[Mood, Style]] = {
    Mood("epic"): Style(
        scale=AEOLIAN,
        tempo=(84, 104),
        metre=4,
        progressions=((0, 5, 2, 6), (0, 3, 5, 6), (0, 6, 5, 6), (0, 5, 3, 4), (0, 2, 6, 3)),
        rhythms=((8, 4, 4), (6, 2, 8), (4, 4, 8), (12, 4), (8, 8), (6, 2, 4, 4)),
        bass=_pattern("9..6 ..6. 8..6 ..6."),
        chords=_pattern("8... 5... 7... 5.5."),
        broken=(),
        low_drum=_pattern("9... ..5. 8... ...4"),
        high_drum=_pattern(".... 5... .... 5.3."),
        attack=0.95,
        decay=0.7,
        sustain=0.6,
        rubato=0.015,
        density=0.35,
        swell=0.6,
    ),
    Mood("festival"): Style(
        scale=MIXOLYDIAN,
        tempo=(112, 132),
        metre=3,
        progressions=((0, 3, 0, 4), (0, 6, 3, 0), (0, 4, 3, 0), (0, 3, 6, 0), (3, 0, 4, 0)),
        rhythms=((4, 2, 2, 2, 2), (4, 4, 4), (2, 2, 4, 4), (6, 2, 4), (8, 4), (2, 2, 2, 2, 4)),
        bass=_pattern("9... .... 4..."),
        chords=_pattern(".... 6... 6..."),
        broken=(),
        low_drum=_pattern("9... .... ...."),
        high_drum=_pattern("..4. 7... 6.4."),
        attack=1.0,
        decay=0.35,
        sustain=0.3,
        rubato=0.012,
        density=0.7,
        swell=0.3,
    ),
    Mood("fight"): Style(
        scale=PHRYGIAN,
        tempo=(132, 152),
        metre=4,
        progressions=((0, 0, 1, 0), (0, 5, 1, 0), (0, 3, 1, 6), (0, 1, 0, 6), (0, 5, 3, 1)),
        rhythms=((2, 2, 4, 2, 2, 4), (6, 6, 4), (4, 4, 2, 2, 4), (8, 2, 2, 4), (8, 8)),
        bass=_pattern("9..6 ..7. 8..6 ..7."),
        chords=_pattern("8... .... 6... ...."),
        broken=(),
        low_drum=_pattern("9... ..6. 9... 4..."),
        high_drum=_pattern(".... 9... .... 8.4."),
        attack=0.85,
        decay=0.25,
        sustain=0.35,
        rubato=0.008,
        density=0.55,
        swell=0.4,
    ),
    Mood("mysterious"): Style(
        scale=PHRYGIAN,
        tempo=(56, 70),
        metre=4,
        progressions=((0, 1, 0, 4), (0, 5, 1, 0), (0, 2, 1, 4), (0, 3, 1, 0), (0, 1, 5, 4)),
        rhythms=((12, 4), (6, 2, 8), (16,), (8, 8), (4, 12)),
        bass=_pattern("7... .... ..4. ...."),
        chords=_pattern("5... 4... 5... 4.3."),
        broken=(0, 1, 2, 1),
        low_drum=_pattern("6... .... .... ...."),
        high_drum=_pattern(".... .... ..3. ...."),
        attack=1.0,
        decay=1.2,
        sustain=0.75,
        rubato=0.06,
        density=0.2,
        swell=0.5,
    ),
    Mood("romance"): Style(
        scale=IONIAN,
        tempo=(66, 80),
        metre=3,
        progressions=((0, 5, 3, 4), (0, 2, 3, 4), (3, 4, 2, 5), (0, 3, 1, 4), (5, 3, 0, 4)),
        rhythms=((8, 4), (6, 2, 4), (4, 4, 4), (4, 2, 2, 4), (12,), (8, 2, 2)),
        bass=_pattern("7... .... ...."),
        chords=_pattern("..5. 4.5. 4.5."),
        broken=(0, 1, 2, 1, 2),
        low_drum=_pattern(".... .... ...."),
        high_drum=_pattern(".... .... ...."),
        attack=0.85,
        decay=0.9,
        sustain=0.65,
        rubato=0.05,
        density=0.4,
        swell=0.5,
    ),
    Mood("sad"): Style(
        scale=AEOLIAN,
        tempo=(54, 66),
        metre=4,
        progressions=((0, 3, 5, 4), (0, 5, 3, 4), (0, 2, 3, 0), (0, 5, 2, 6), (3, 0, 5, 4)),
        rhythms=((8, 4, 4), (12, 4), (6, 2, 8), (16,), (4, 4, 8)),
        bass=_pattern("6... .... 4... ...."),
        chords=_pattern("5... 4... 5... 4..."),
        broken=(0, 2, 1, 2),
        low_drum=_pattern(".... .... .... ...."),
        high_drum=_pattern(".... .... .... ...."),
        attack=0.9,
        decay=1.1,
        sustain=0.7,
        rubato=0.05,
        density=0.3,
        swell=0.5,
    ),
    Mood("tavern"): Style(
        scale=DORIAN,
        tempo=(104, 124),
        metre=4,
        progressions=((0, 6, 0, 6), (0, 3, 6, 0), (0, 2, 6, 0), (0, 6, 3, 0), (2, 6, 0, 0)),
        rhythms=((4, 2, 2, 4, 4), (2, 2, 2, 2, 4, 4), (6, 2, 4, 4), (4, 4, 2, 2, 4), (8, 4, 4)),
        bass=_pattern("9... 5... 8... 5..."),
        chords=_pattern("..5. ..6. ..5. ..64"),
        broken=(),
        low_drum=_pattern("8... .... 7... ...."),
        high_drum=_pattern("..3. 6... ..3. 7.3."),
        attack=1.0,
        decay=0.4,
        sustain=0.2,
        rubato=0.02,
        density=0.6,
        swell=0.3,
    ),
    Mood("town"): Style(
        scale=IONIAN,
        tempo=(84, 100),
        metre=4,
        progressions=((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3), (0, 2, 3, 4), (3, 0, 1, 4)),
        rhythms=((4, 4, 8), (6, 2, 4, 4), (4, 2, 2, 8), (8, 4, 4), (4, 4, 4, 4)),
        bass=_pattern("8... .... 6... ..4."),
        chords=_pattern("..5. 5.5. ..5. 5.5."),
        broken=(1, 2, 0, 2),
        low_drum=_pattern("7... .... 5... ...."),
        high_drum=_pattern(".... 6... .... 6.3."),
        attack=1.0,
        decay=0.55,
        sustain=0.35,
        rubato=0.015,
        density=0.5,
        swell=0.3,
    ),
}


def mix(lead: Mood, shares: Sequence[float]) -> Style:
    """A style between moods: harmony, metre and tune are the lead's, how fast and strong it goes is everybody's.

    Two scales or two metres at a time would be noise; two tempi have a middle.

    Args:
        lead: whose piece it is.
        shares: of each mood, in the order of ``MOODS``; they add up to 1.
    """
    parts = [(STYLES[mood], share) for mood, share in zip(MOODS, shares, strict=True) if share > 0]
    low, high = (round(sum(share * style.tempo[end] for style, share in parts)) for end in (0, 1))
    steps = range(STYLES[lead].bar)

    def together(patterns: Sequence[Pattern]) -> Pattern:
        # A bar of another length is cycled, or cut: its downbeat falls on the lead's.
        pairs = list(zip(patterns, (share for _, share in parts), strict=True))
        return tuple(sum(share * pattern[at % len(pattern)] for pattern, share in pairs) for at in steps)

    def middle(values: Sequence[float]) -> float:
        return sum(share * value for value, (_, share) in zip(values, parts, strict=True))

    styles = [style for style, _ in parts]
    return replace(
        STYLES[lead],
        tempo=(low, high),
        bass=together([style.bass for style in styles]),
        chords=together([style.chords for style in styles]),
        low_drum=together([style.low_drum for style in styles]),
        high_drum=together([style.high_drum for style in styles]),
        attack=middle([style.attack for style in styles]),
        decay=middle([style.decay for style in styles]),
        sustain=middle([style.sustain for style in styles]),
        rubato=middle([style.rubato for style in styles]),
        density=middle([style.density for style in styles]),
        swell=middle([style.swell for style in styles]),
    )
