"""One table's endless stream: windows spliced into frames, turned to another mood or volume where the ear is.

Synchronous and slow: a service calls it from its worker thread, one call at a time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.composer import Section
from generator.engine import Engine, Sound, State, Window
from generator.moods import MOODS
from generator.protocol import AHEAD_FRAMES, CHANNELS, FRAME_SAMPLES, FRAME_SECONDS, Controls

HANDOVER: Final = 15  #: frames between computing a change and its landing: the wire, and what the client has encoded
SPLICE: Final = 4  #: frames of a cross-fade, where the windows' own overlap is not longer
RAMP: Final = 10  #: frames over which a change of volume is spread
KNEE: Final = 0.7  #: full scale; above it the limiter bends
CEILING: Final = 0.95  #: full scale; nothing is louder


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames in a row.

    Attributes:
        start: place of the first.
        frames: each ``FRAME_BYTES`` of PCM.
        lands: place at which a change of mood is first heard; ``None`` where nothing changed.
    """

    start: int
    frames: tuple[bytes, ...]
    lands: int | None = None


class Stream:
    """The music from ``start`` on.

    Sound is kept at unity gain from before the playhead to ``end``, so that a change can be spliced into what was sent but
    not heard yet.
    """

    def __init__(self, engine: Engine, seed: int, controls: Controls, volume: float = 1.0, start: int = 0) -> None:
        self.engine, self.seed = engine, seed
        self.section = Section(controls, seed, start)
        self.end = start
        self._base = start  # place of the first frame kept
        self._sound: Sound = np.zeros(0, np.float32)  # from _base to end + overlap
        self._mel: Sound = np.zeros((engine.config.mel.bands, 0), np.float32)  # the same stretch
        self._sections = [self.section]
        self._gains = [(start, float(volume))]
        self._window_seconds = 1.0  # a first guess, soon a measurement

    def advance(self) -> Chunk:
        """The next window; begins where the last ended."""
        first = self.end == self._base
        window = self._compute(self._state(self.end), self.section)
        start = self.end
        self._splice(window, start)
        return Chunk(start, self._render(start, self.end), start if first else None)

    def change(self, controls: Controls, playhead: Callable[[], int]) -> Chunk:
        """Turn to another mood or intensity, on the next beat that can be reached.

        Args:
            controls: the new ones.
            playhead: tells the next frame that will be played; asked before and after computing.

        Returns:
            Frames that replace those from ``chunk.start`` on.
        """
        reach = playhead() + math.ceil(self._window_seconds / FRAME_SECONDS) + HANDOVER
        landing = min(self.end, max(self._base, self._heard_section(reach).next_beat(reach)))
        section = Section(controls, self.seed, landing)
        window = self._compute(self._state(landing), section)
        # The ear may have passed the landing meanwhile: then the same music is joined a little later.
        splice = max(landing, min(playhead() + HANDOVER, window.begin + self.engine.window_frames - 2 * SPLICE))
        self.section = section
        self._sections.append(section)
        self._splice(window, min(splice, self.end))
        return Chunk(min(splice, self.end), self._render(min(splice, self.end), self.end), min(splice, self.end))

    def set_volume(self, volume: float, playhead: int) -> Chunk:
        """Send again what is not heard yet, ramped to another gain.

        Args:
            volume: 0 to 1.
            playhead: the next frame that will be played.
        """
        start = min(self.end, max(self._base, playhead + HANDOVER))
        self._gains = [point for point in self._gains if point[0] < start] + [(start, float(volume))]
        return Chunk(start, self._render(start, self.end))

    def _compute(self, state: State, section: Section) -> Window:
        mood = MOODS.index(section.controls.mood)
        entropy = [self.seed, state.position, mood, section.controls.intensity]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        begin = perf_counter()
        window = self.engine.window(state, section, seed)
        took = perf_counter() - begin
        self._window_seconds = took if self.end == self._base else 0.5 * (self._window_seconds + took)
        return window

    def _heard_section(self, frame: int) -> Section:
        return next((section for section in reversed(self._sections) if section.origin <= frame), self._sections[0])

    def _state(self, position: int) -> State:
        """What was heard, and is still to be heard, up to ``position``."""
        if self.end == self._base:
            return self.engine.beginning(position)
        keep = min(self.engine.prefix_frames, position + self.engine.overlap - self._base)
        first = position + self.engine.overlap - keep - self._base
        sound = self._sound[first * FRAME_SAMPLES :][: keep * FRAME_SAMPLES]
        scale = self.engine.mels_a_frame
        mel = self._mel[:, round(first * scale) :][:, : round(keep * scale)]
        return State(position, self._heard_section(position - 1), mel, sound)

    def _splice(self, window: Window, splice: int) -> None:
        """Let the window take over at ``splice``, at equal power whatever the correlation of the two sounds."""
        engine, offset = self.engine, (splice - self._base) * FRAME_SAMPLES
        fresh = window.sound[(splice - window.begin) * FRAME_SAMPLES :]
        old = self._sound[offset:][: engine.overlap * FRAME_SAMPLES]
        length = min(len(old), len(fresh))
        fresh = np.concatenate([_cross_fade(old[:length], fresh[:length]), fresh[length:]])
        self._sound = np.concatenate([self._sound[:offset], fresh])
        column, skip = round((splice - self._base) * engine.mels_a_frame), splice - window.begin
        self._mel = np.concatenate([self._mel[:, :column], window.mel[:, round(skip * engine.mels_a_frame) :]], axis=1)
        self.end = window.begin + engine.window_frames - engine.overlap
        self._forget()

    def _forget(self) -> None:
        # A playhead lies at most AHEAD_FRAMES behind, plus a window that was begun with credit left.
        keep = AHEAD_FRAMES + self.engine.window_frames + self.engine.prefix_frames
        gone = self.end - self._base - keep
        if gone > 0:
            self._sound = self._sound[gone * FRAME_SAMPLES :].copy()
            self._mel = self._mel[:, round(gone * self.engine.mels_a_frame) :].copy()
            self._base += gone
            later = [section for section in self._sections if section.origin > self._base]
            self._sections = [self._heard_section(self._base), *later]

    def _render(self, start: int, end: int) -> tuple[bytes, ...]:
        sound = self._sound[(start - self._base) * FRAME_SAMPLES : (end - self._base) * FRAME_SAMPLES]
        pcm = to_pcm(sound * self._gain(start, end))
        size = len(pcm) // max(1, end - start)
        return tuple(pcm[index : index + size] for index in range(0, len(pcm), size)) if size else ()

    def _gain(self, start: int, end: int) -> Sound:
        """Gain sample by sample: each change a straight ramp over ``RAMP`` frames."""
        places = np.arange(start * FRAME_SAMPLES, end * FRAME_SAMPLES)
        gain = np.full(len(places), self._gains[0][1], np.float32)
        for (_, before), (frame, after) in zip(self._gains[:-1], self._gains[1:], strict=True):
            share = np.clip((places - frame * FRAME_SAMPLES) / (RAMP * FRAME_SAMPLES), 0, 1)
            gain = np.where(places >= frame * FRAME_SAMPLES, before + (after - before) * share, gain).astype(np.float32)
        # Only the newest settled gain matters to frames that are still to come.
        while len(self._gains) > 1 and self._gains[1][0] + RAMP < self._base:
            self._gains.pop(0)
        return gain


class Player:
    """An engine as a service wants it: something that opens streams."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def name(self) -> str:
        """The model that plays."""
        return self.engine.name

    def stream(self, seed: int, controls: Controls, volume: float = 1.0, start: int = 0) -> Stream:
        """Begin a stream; arguments as for :class:`Stream`."""
        return Stream(self.engine, seed, controls, volume, start)


def _cross_fade(old: Sound, new: Sound) -> Sound:
    """Fade over at constant power: sines of a quarter turn, divided by what their correlation would add."""
    if not len(old):
        return new
    turn = np.linspace(0, np.pi / 2, len(old), dtype=np.float32)
    energy = math.sqrt(float(old @ old) * float(new @ new))
    correlation = max(0.0, float(old @ new) / energy) if energy > 0 else 0.0
    power = 1 + correlation * np.sin(2 * turn)
    return ((np.cos(turn) * old + np.sin(turn) * new) / np.sqrt(power)).astype(np.float32)


def limit(sound: Sound) -> Sound:
    """Leave sound below ``KNEE`` as it is and bend the rest smoothly towards ``CEILING``; full scale ±1."""
    size = np.abs(sound)
    bent = KNEE + (CEILING - KNEE) * np.tanh((size - KNEE) / (CEILING - KNEE))
    return np.where(size > KNEE, np.sign(sound) * bent, sound)


def to_pcm(sound: Sound) -> bytes:
    """Mono samples, full scale ±1 → interleaved stereo, signed 16 bit, little-endian."""
    pcm: NDArray[np.int16] = np.round(32_767 * limit(sound)).astype("<i2")
    return np.repeat(pcm, CHANNELS).tobytes()
