"""A slow hand on the fader: windows of one loudness, and no step in loudness from one to the next. Torch-free.

A window of a diffusion model is as loud as it happens to come out, some LU up or down. Since a whole window is known
before a note of it is heard, its gain needs no attack and no release: it follows the window's own short-term loudness
to and fro about a target, and where the window takes over it begins such that the ear hears no step.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.loudness import MOMENTARY_SECONDS, loudness
from generator.protocol import FRAMES_PER_SECOND

Array = NDArray[np.float64]

POINT_FRAMES: Final = FRAMES_PER_SECOND // 2  #: between two points of a gain's curve
#: Frames over which loudness is momentary, and short-term (EBU Tech 3341); and a span between them.
MOMENTARY: Final = round(MOMENTARY_SECONDS * FRAMES_PER_SECOND)
SECOND: Final = FRAMES_PER_SECOND
SHORT_TERM: Final = 3 * FRAMES_PER_SECOND
SETTLING: Final = 4 * FRAMES_PER_SECOND  #: frames in which what was done for a seam's sake is undone
STROKE: Final = 1.5  #: LU of a momentary step that are the music's own
PHRASE: Final = 2.0  #: LU of a short-term step, likewise


@dataclass(frozen=True, slots=True)
class _Way:
    """Over a seam; attributes as the arguments of :meth:`Leveller.curve`."""

    heard: Array
    fading: Array
    fresh: Array
    points: NDArray[np.int64]
    level: float

    def step(self, gain: Array, span: int) -> float:
        """By how many LU the ``span`` frames that begin to be another window's differ from as many before them."""
        fade = len(self.fading)
        places, gains = (self.points, gain) if fade == 0 else ([0, *(self.points + fade)], [self.level, *gain])
        after = np.concatenate([self.fading, self.fresh])[:span]
        edges = 10 ** (np.interp(np.arange(len(after) + 1), places, gains) / 20)
        # Within a frame amplitude goes straight from edge to edge, and after a loud seam that is far.
        after = after * (edges[:-1] ** 2 + edges[:-1] * edges[1:] + edges[1:] ** 2) / 3
        return loudness(float(after.mean())) - loudness(float(self.heard[-span:].mean()))


@dataclass(frozen=True, slots=True)
class Leveller:
    """How loud the music is to be, and how firmly it is held there.

    Attributes:
        target: LUFS of the mid channel at intensity 3; both channels together are 3 LU more, and a little for the side.
        push: LU that a step of intensity is worth.
        firmness: which part of a window's distance from the target is taken away; the rest is its dynamics.
        reach: dB, the most that is added or taken.
    """

    target: float = -21.5
    push: float = 0.75
    firmness: float = 0.8
    reach: float = 18.0

    def curve(
        self, heard: Array, fresh: Array, intensity: float, fading: Array | None = None, level: float = 0.0
    ) -> Array:
        """The gain of a window.

        Args:
            heard: [any frames], power of each frame before the seam, as it was heard; empty at the beginning.
            fresh: [frames], power of each frame from the seam on, without gain; K-weighted mean squares all.
            intensity: of the music, 1 to 5.
            fading: [any frames], power of those between, in which the window took over, without gain.
            level: dB, the gain at their beginning, from which it goes to the window's own.

        Returns:
            [points], dB, at the seam and every ``POINT_FRAMES`` frames after it, past the last frame.
        """
        points = np.arange(-(-len(fresh) // POINT_FRAMES) + 1) * POINT_FRAMES
        way = _Way(heard, np.zeros(0) if fading is None else fading, fresh, points, level)
        distance = self.target - _short_term(fresh, points)
        gain = np.clip(self.firmness * distance + self.push * (intensity - 3), -self.reach, self.reach)
        if len(heard):
            steps = [way.step(gain, span) for span in (SECOND, SHORT_TERM)]
            gain = gain - sum(steps) / 2 * _fading(points, SETTLING)
            # A stroke after a lull may be louder than the lull, but only so much.
            step = way.step(gain, MOMENTARY)
            gain = gain - (step - np.clip(step, -STROKE, STROKE)) * _fading(points, SECOND)
            # Last, for it is what a listener would reach for the volume for; held for as long as it is measured over.
            step = way.step(gain, SHORT_TERM)
            gain = gain - (step - np.clip(step, -PHRASE, PHRASE)) * _fading(points - SHORT_TERM, SETTLING)
        return np.clip(gain, -self.reach, self.reach)


def _short_term(power: Array, points: NDArray[np.int64]) -> Array:
    """Loudness about each point, LUFS, under a bell that is half as high a second and a half to either side."""
    distance = np.abs(np.arange(len(power))[None, :] - points[:, None]) / SHORT_TERM
    weight = np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0.0)
    return np.array([loudness(float(mean)) for mean in weight @ power / weight.sum(1)])


def _fading(points: NDArray[np.int64], frames: int) -> Array:
    """From 1 at the first point to 0 after so many frames."""
    return np.clip(1 - points / frames, 0.0, 1.0)
