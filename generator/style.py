"""How each mood is composed, and what lies between moods. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from generator.moods import MOODS, Mood

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


#: A mood as it is, unmixed.
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


def mix(lead: Mood, shares: Sequence[float]) -> Style:
    """A style between moods: harmony and metre are the lead's, how fast, dense and strong it goes is everybody's.

    Two scales or two metres at a time would be noise; two tempi have a middle.

    Args:
        lead: whose piece it is.
        shares: of each mood, in the order of ``MOODS``; they add up to 1.
    """
    parts = [(STYLES[mood], share) for mood, share in zip(MOODS, shares, strict=True) if share > 0]
    low, high = (round(sum(share * style.tempo[end] for style, share in parts)) for end in (0, 1))
    # A bar of another length is cycled, or cut: its downbeat falls on the lead's.
    figure = tuple(
        sum(share * style.figure[at % len(style.figure)] for style, share in parts)
        for at in range(len(STYLES[lead].figure))
    )
    return replace(
        STYLES[lead],
        tempo=(low, high),
        figure=figure,
        density=sum(share * style.density for style, share in parts),
        swell=sum(share * style.swell for style, share in parts),
    )
