"""A stretch of the stream in one mood, and its time: beats, bars, keys, and the bridges between moods. Torch-free.

A section is laid out in bars; four bars make a phrase, four phrases a strophe of the form A A B A.

A slow change of mood is a section of its own, the bridge: it leads into another on a bar line, and on its way tempo and
figures lie halfway between the two while loudness, brightness and the mood itself move from the one to the other.

Musical time is counted in whole numbers: a tempo is a whole number of quarter beats a minute and a frame is 1/3000 of a
minute, so a beat falls into the same frame whoever asks, from wherever, however long the stream has run.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.moods import MOODS, Mood
from generator.protocol import FRAMES_PER_SECOND, Controls
from generator.style import STEPS_A_BEAT, Style, mix

BEAT: Final = 60 * FRAMES_PER_SECOND * 4  #: frames times quarter beats a minute, of a beat
STEP: Final = BEAT // STEPS_A_BEAT  #: likewise, of a step
AWAY: Final = (-1, -1, 0, 1, 1)  #: fifths from home, where every other strophe may go

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
        end = frame + bridge.length
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
        return (_tempo(self.controls) + _tempo(self.goal)) // 2

    @property
    def beat_seconds(self) -> float:
        """Length of a beat."""
        return 240 / self.tempo

    @property
    def phrase_steps(self) -> int:
        """Steps in a phrase."""
        return BARS_A_PHRASE * self.style.bar

    @property
    def length(self) -> int:
        """Of a bridge, in frames: whole bars."""
        metre = self.style.metre
        return self._frames(metre * max(1, round(SLOW_SECONDS / (metre * self.beat_seconds))))

    @property
    def material(self) -> tuple[int, ...]:
        """What its tunes are drawn from, beside the place of a phrase: the stream, and the moods that play together."""
        moods = (*self.controls.moods, *(self.toward.moods if self.toward else ()))
        number = 0
        for mood in moods:
            number = 64 * number + MOODS.index(mood) + 1
        return self.seed, number

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
        way = (frames - self.origin) / self.length if self.toward else np.zeros(len(frames))
        return np.clip(way, 0.0, 1.0)

    def next_beat(self, frame: int) -> int:
        """The wire frame, nearest to its beat, of the first beat at or after ``frame``."""
        return self.at(frame)._next(1, frame)

    def next_bar(self, frame: int) -> int:
        """The same of the first downbeat."""
        here = self.at(frame)
        return here._next(here.style.metre, frame)

    def bar_at(self, frame: int) -> int:
        """The bar that sounds at a wire frame, counted from the origin; what leads here is not asked."""
        metre = self.style.metre
        bar = (frame - self.origin) * self.tempo // (BEAT * metre)
        return bar + 1 if self.downbeat(bar + 1) <= frame else bar  # rounding may let a bar begin half a frame early

    def downbeat(self, bar: int) -> int:
        """The wire frame of a bar's first beat."""
        return self.origin + self._frames(bar * self.style.metre)

    def tonic(self, frame: int) -> int:
        """The pitch class that is home at a wire frame."""
        here = self.at(frame)
        steps = (frame - here.origin) * here.tempo // STEP
        return here.tonic_of(steps // (here.phrase_steps * len(FORM)))

    def tonic_of(self, strophe: int) -> int:
        """The pitch class that is home in a strophe: every other one is at the section's home, the rest a fifth away.

        A section that wandered on and on would sound like another piece after a quarter of an hour.
        """
        home = self.home
        if home is None:
            home = int(np.random.default_rng(self.seed).integers(12))
        if strophe < 0 or strophe % 2 == 0:
            return home
        return (home + 7 * int(np.random.default_rng([self.seed, 5, strophe]).choice(AWAY))) % 12

    def _way_at(self, frame: int) -> float:
        return float(self.way(np.array([frame]))[0])

    def _next(self, beats: int, frame: int) -> int:
        # ⌊x + ½⌋ is not before a whole number as soon as x is at most ½ before it.
        units = -((1 - 2 * (frame - self.origin)) * self.tempo // (2 * BEAT * beats))
        return self.origin + self._frames(units * beats)

    def _frames(self, beats: int) -> int:
        """From the origin to a beat: ⌊(beats · beat) + ½⌋, where a beat is BEAT / tempo frames."""
        return (2 * BEAT * beats + self.tempo) // (2 * self.tempo)


def _shares(controls: Controls) -> tuple[float, ...]:
    return tuple((mood in controls.moods) / len(controls.moods) for mood in MOODS)


def _tempo(controls: Controls) -> int:
    low, high = _style(controls.mood, _shares(controls)).tempo
    return 4 * low + (high - low) * (controls.intensity - 1)


@lru_cache(maxsize=256)
def _style(lead: Mood, parts: tuple[float, ...]) -> Style:
    return mix(lead, parts)
