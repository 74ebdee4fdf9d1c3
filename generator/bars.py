"""The score as a client is told it: a section's bars, with key, tempo and chord in musicians' words. Torch-free."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from generator.protocol import Bar
from generator.score import phrase
from generator.section import BARS_A_PHRASE, Section
from generator.style import AEOLIAN, DORIAN, IONIAN, MIXOLYDIAN, PHRYGIAN

NOTES: Final = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
MODES: Final[dict[tuple[int, ...], str]] = {
    IONIAN: "major",
    DORIAN: "dorian",
    PHRYGIAN: "phrygian",
    MIXOLYDIAN: "mixolydian",
    AEOLIAN: "minor",
}
TRIADS: Final = {(4, 7): "", (3, 7): "m", (3, 6): "°"}  #: by third and fifth, in semitones; a mode has no other


def bars(section: Section, start: int, end: int, *, joined: bool) -> Iterator[Bar]:
    """The bars that begin from wire frame ``start`` up to ``end``.

    Args:
        section: what is played, with the bridge to it, if any.
        start: first frame.
        end: the one after the last.
        joined: whether to begin with the bar that sounds at ``start``, as where other music takes over.
    """
    place, here = start, section.at(start)
    number = here.bar_at(start)
    if not joined and here.downbeat(number) < start:
        place, here, number = _next(section, here, number)
    while place < end:
        yield _bar(here, number, place)
        place, here, number = _next(section, here, number)


def _next(section: Section, here: Section, number: int) -> tuple[int, Section, int]:
    """Place, section and number of the bar after one; a bridge's last is followed by the goal's first."""
    place = here.downbeat(number + 1)
    after = section.at(place)
    return place, after, number + 1 if after is here else after.bar_at(place)


def _bar(section: Section, number: int, place: int) -> Bar:
    section, style = replace(section, bridge=None), section.style  # as the composer asks for the phrase
    music = phrase(section, number // BARS_A_PHRASE)
    return Bar(
        place,
        section.downbeat(number),
        number,
        style.metre,
        section.tempo / 4,
        f"{NOTES[music.tonic]} {MODES[style.scale]}",
        _chord(music.tonic, style.scale, music.chords[number % BARS_A_PHRASE]),
        section.controls.mood,
        section.controls.intensity,
        section.controls.blend,
        section.toward is not None,
        section.origin,
        section.tonic_of(0),
    )


def _chord(tonic: int, scale: tuple[int, ...], degree: int) -> str:
    """The triad on a degree of a scale."""
    root, third, fifth = (scale[(degree + step) % 7] for step in (0, 2, 4))
    return NOTES[(tonic + root) % 12] + TRIADS[(third - root) % 12, (fifth - root) % 12]
