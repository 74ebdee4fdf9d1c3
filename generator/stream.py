"""One table's endless stream: windows spliced into frames, turned to another mood or volume where the ear is.

Synchronous and slow: a service calls it from a thread of its worker's, one call at a time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.bars import bars
from generator.composer import COLUMN_FRAMES
from generator.engine import BLIND_OVERLAP, Engine, Sound, State, Wanted, Window, always
from generator.leveller import MOMENTARY, POINT_FRAMES, SHORT_TERM, Leveller
from generator.loudness import powers
from generator.mixing import cross_fade, straight, tame, to_pcm
from generator.moods import MOODS
from generator.protocol import (
    AHEAD_FRAMES,
    FRAME_BYTES,
    FRAME_SAMPLES,
    FRAME_SECONDS,
    Bar,
    Controls,
    ProtocolError,
    Transition,
)
from generator.section import Section
from generator.snapshot import SHARP_FRAMES, Past, absolute, encode_past, half, relative
from generator.stereo import widen

HANDOVER: Final = 15  #: frames between computing a change and its landing: the wire, and what the client has encoded
ATTACK: Final = 1  #: frames of the cross-fade into a mood that grows out of what was heard: its downbeat stays sharp
RAMP: Final = 10  #: frames over which a change of volume is spread

#: Seconds for which a window can wait that somebody wants to hear at once: asked for now, it goes before what was due
#: until a second ago.
URGENT: Final = -1.0

#: What makes windows; see :meth:`generator.batching.Batcher.window`.
Make = Callable[[Engine, State, Section, int, float, Wanted], Window]


def alone(engine: Engine, state: State, section: Section, seed: int, _slack: float, wanted: Wanted) -> Window:
    """Makes a window in the caller's thread."""
    return engine.window(state, section, seed, wanted)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames in a row.

    Attributes:
        start: place of the first.
        frames: each ``FRAME_BYTES`` of PCM.
        lands: place at which a change of mood is first heard; ``None`` where nothing changed.
        bars: of the score, that begin in them or, where something changed, sound there; none of a model without one.
        seconds: what they took to make; of a pass that other streams shared, this one's share.
    """

    start: int
    frames: tuple[bytes, ...]
    lands: int | None = None
    bars: tuple[Bar, ...] = ()
    seconds: float = field(default=0.0, compare=False)


class Stream:
    """The music from ``start`` on.

    Sound is kept at unity gain from before the playhead to ``end``, so that a change can be spliced into what was sent
    but not heard yet.
    """

    def __init__(
        self,
        engine: Engine,
        seed: int,
        controls: Controls,
        volume: float = 1.0,
        start: int = 0,
        clock: Callable[[], float] = perf_counter,
        leveller: Leveller | None = None,
        newest: Callable[[], Engine] | None = None,
        origin: int | None = None,
        home: int | None = None,
        make: Make = alone,
    ) -> None:
        """Nothing sounds yet.

        Args:
            engine: makes the windows.
            seed: of everything that is drawn.
            controls: mood and intensity to begin in.
            volume: 0 to 1.
            start: place of the first frame.
            clock: seconds, by which the cost of a window is known.
            leveller: keeps loudness even.
            newest: tells before each window which engine makes it from now on; ``engine`` for ever if not given.
            origin: place of the score's first downbeat; ``start`` if not given.
            home: pitch class of its home key; drawn from the seed if not given.
            make: makes the windows.
        """
        self.engine, self.seed = engine, seed
        self._newest, self._make = newest, make
        self._closed = False
        self.section = Section(controls, seed, start if origin is None else origin, home)
        self.end = start
        self._clock = clock
        self._base = start  # place of the first frame kept
        self._sound: Sound = np.zeros(0, np.float32)  # from _base to end + overlap
        self._mel: Sound = np.zeros((engine.config.mel.bands, 0), np.float32)  # the same stretch, if there is a prefix
        self._powers = np.zeros(0)  # and the K-weighted power of each of its frames
        self._known = start  # place from which on the Mel is one that the engine understands
        self._heard = [(start, self.section)]  # what sounds from which frame on
        self._leveller = leveller or Leveller()
        self._levels: list[tuple[int, float]] = []  # of the leveller, dB; straight lines from point to point
        self._gains = [(start, float(volume))]  # of the volume, likewise
        self._urgent_seconds = 1.0  # until a window is there that cannot wait; a first guess, soon a measurement
        self._waited = 0.0  # for the last window
        self.continues = False  #: whether it goes on, to the sample, from where another stream was

    def advance(self, slack: float = URGENT, wanted: Wanted = always) -> Chunk:
        """The next window; begins where the last ended.

        Args:
            slack: seconds for which it can wait.
            wanted: asked meanwhile; once it says no, nothing has happened.

        Raises:
            CancelledError: it was not wanted any more.
        """
        begun = self._clock()
        self._take_newest()
        first, start = self.end == self._base, self.end
        held = len(self._sound) // FRAME_SAMPLES - (start - self._base)  # the overlap of whichever engine made it
        state = self._state(start, min(self.engine.overlap, held))
        window = self._compute(state, self.section, slack, wanted)
        self._splice(window, start, self._fade(state))
        return self._chunk(start, self._cost(begun, window), lands=first)

    def change(self, controls: Controls, playhead: Callable[[], int], transition: Transition = "sudden") -> Chunk:
        """Turn to other music, on the next beat that can be reached; or begin to, on the next bar.

        Args:
            controls: the new ones.
            playhead: tells the next frame that will be played; asked before and after computing.
            transition: whether the new music begins there, or a bridge to it.

        Returns:
            Frames that replace those from ``chunk.start`` on.
        """
        begun = self._clock()
        self._take_newest()
        reach = max(self._base, playhead() + math.ceil(self._urgent_seconds / FRAME_SECONDS) + HANDOVER)
        heard = self._section_at(reach)
        slow = transition == "slow" and self.end > self._base  # there is something to come from
        landing = min(self.end, heard.next_bar(reach) if slow else heard.next_beat(reach))
        # Another change was asked for, and is called back before it was heard; but what a bridge leads to may come now.
        if heard.controls == controls and (slow or heard.at(landing) is heard):
            section = heard
        else:
            section = heard.turning(controls, landing) if slow else heard.turned(controls, landing)
        state = self._state(landing, 0)
        window = self._compute(state, section, URGENT)
        # The ear may have passed the landing meanwhile: then the same music is joined a little later.
        last = min(self.end, window.begin + self.engine.window_frames - self.engine.overlap)
        splice = min(max(landing, playhead() + HANDOVER), last)
        self.section = section
        self._heard = [*(each for each in self._heard if each[0] < splice), (splice, section)]
        grown = state.mel.size and splice == landing
        self._splice(window, splice, ATTACK if grown else self._fade(state))
        return self._chunk(splice, self._cost(begun, window), lands=True)

    def set_volume(self, volume: float, playhead: int) -> Chunk:
        """Send again what is not heard yet, ramped to another gain.

        Args:
            volume: 0 to 1.
            playhead: the next frame that will be played.
        """
        start = min(self.end, max(self._base, playhead + HANDOVER))
        now = float(_line(self._gains, start, start + 1)[0])  # a ramp may be under way
        ramp = [(start, now), (start + RAMP, float(volume))]
        self._gains = [point for point in self._gains if point[0] < start] + ramp
        return Chunk(start, self._render(start, self.end))

    @property
    def controls(self) -> Controls:
        """What is played, or on its way."""
        return self.section.controls

    @property
    def volume(self) -> float:
        """The gain, or the one to which a ramp leads."""
        return self._gains[-1][1]

    def snapshot(self) -> bytes:
        """What :meth:`Player.resume` needs to go on from ``end`` as this stream will. Only once something sounds."""
        engine, end, base = self.engine, self.end, self._base
        held = len(self._sound) // FRAME_SAMPLES - (end - base)
        known = max(base, min(self._known, end + held), end + min(held, engine.overlap) - engine.prefix_frames)
        back = max(SHORT_TERM, engine.prefix_frames)
        begin = min(known, max(base, end - SHARP_FRAMES))
        past = Past(
            engine.digest,
            end,
            held,
            self.seed,
            self.section,
            self._section_at(end - 1),
            self._mel[:, (known - base) * engine.mels_a_frame :],
            self._sound[(begin - base) * FRAME_SAMPLES :],
            self._powers[max(0, end - base - back) : end - base],
            relative(self._levels, end, end - back),
            relative(self._gains, end, end - back),
        )
        return encode_past(past)

    def remember(self, past: Past) -> None:
        """Go on from another stream's past: in the same bar of the same piece, and to the sample if by the same model.

        Raises:
            ProtocolError: it is no past of this model's.
        """
        engine, position, held = self.engine, past.position, past.held
        self.section, self._heard = past.section, [(position, past.section)]
        self._gains = absolute(past.gains, position)
        if past.model != engine.digest:
            return
        frames, scale = len(past.powers), engine.mels_a_frame
        silent = frames + held - len(past.sound) // FRAME_SAMPLES
        unknown = frames + held - (past.mel.shape[1] // scale if scale else 0)
        if len(past.mel) != self._mel.shape[0] or past.mel.shape[1] != (frames + held - unknown) * scale:
            raise ProtocolError("this state's Mel is not of the model that it names")
        if not silent <= unknown <= frames + held or held > engine.window_frames:
            raise ProtocolError("this state's sound is not of the model that it names")
        # What is not sent is silent, and nobody asks for it.
        self._base, self._known = position - frames, position - frames + unknown
        self._sound = np.pad(past.sound, (silent * FRAME_SAMPLES, 0))
        self._mel = np.pad(past.mel, ((0, 0), (unknown * scale, 0)))
        self._powers = np.pad(past.powers, (0, held))
        self._levels = absolute(past.levels, position)
        self._heard.insert(0, (self._base, past.before))
        self.continues = frames > 0

    def close(self) -> None:
        """Nobody listens any more, so a window in hand need not be finished. Any thread."""
        self._closed = True

    def _cost(self, begun: float, window: Window) -> float:
        """Seconds since ``begun``, of those of waiting for the window only what was spent on it."""
        return self._clock() - begun - self._waited + window.seconds

    def _chunk(self, start: int, seconds: float, *, lands: bool) -> Chunk:
        """All frames from ``start`` on."""
        composed = self.engine.config.unet.plan_features > 0
        told = tuple(bars(self.section, start, self.end, joined=lands)) if composed else ()
        return Chunk(start, self._render(start, self.end), start if lands else None, told, seconds)

    def _take_newest(self) -> None:
        """Go on with the engine that is to play from now on, from what was heard if it can continue that."""
        engine = self.engine if self._newest is None else self._newest()
        if engine is self.engine:
            return
        mel = engine.translated(self._mel, self.engine)
        if mel is None:
            frames = len(self._sound) // FRAME_SAMPLES
            mel = np.zeros((engine.config.mel.bands, frames * engine.mels_a_frame), np.float32)
            self._known = self._base + frames
        self.engine, self._mel = engine, mel

    def _compute(self, state: State, section: Section, slack: float, wanted: Wanted = always) -> Window:
        controls = section.controls
        entropy = [self.seed, state.position, controls.intensity, *(MOODS.index(mood) for mood in controls.moods)]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        begin = self._clock()
        window = self._make(self.engine, state, section, seed, slack, lambda: wanted() and not self._closed)
        self._waited = self._clock() - begin
        # One that can wait waits for other tables, and says nothing of how soon a change is there.
        if slack <= URGENT:
            first = self.end == self._base
            self._urgent_seconds = self._waited if first else 0.5 * (self._urgent_seconds + self._waited)
        return window

    def _section_at(self, frame: int) -> Section:
        return next((section for place, section in reversed(self._heard) if place <= frame), self._heard[0][1])

    def _state(self, position: int, beyond: int) -> State:
        """What is heard up to ``position``, and what the next window shall keep for ``beyond`` frames after it."""
        engine = self.engine
        keep = min(engine.prefix_frames, position + beyond - max(self._base, self._known))
        keep -= keep % COLUMN_FRAMES
        if self.end == self._base or keep < max(1, beyond):
            return engine.beginning(position)
        first = position + beyond - keep - self._base
        sound = self._sound[first * FRAME_SAMPLES : (position - self._base) * FRAME_SAMPLES]
        mel = self._mel[:, first * engine.mels_a_frame : (first + keep) * engine.mels_a_frame]
        return State(position, self._section_at(position - 1), half(mel), half(sound))

    def _fade(self, state: State) -> int:
        """Frames over which a window takes over that continues ``state``, or knows nothing of what was heard."""
        return self.engine.overlap if state.mel.size else BLIND_OVERLAP

    def _splice(self, window: Window, splice: int, fade: int) -> None:
        """Let the window take over at ``splice``, at equal power whatever the correlation of the two sounds."""
        engine, offset, skip = self.engine, splice - self._base, splice - window.begin
        fresh = window.sound[skip * FRAME_SAMPLES :]
        old = self._sound[offset * FRAME_SAMPLES :][: fade * FRAME_SAMPLES]
        length = min(len(old), len(fresh))
        joint = cross_fade(old[:length], fresh[:length])
        self._sound = np.concatenate([self._sound[: offset * FRAME_SAMPLES], joint, fresh[length:]])
        scale = engine.mels_a_frame
        mel = window.mel[:, skip * scale : engine.window_frames * scale]
        self._mel = np.concatenate([self._mel[:, : offset * scale], mel], axis=1)
        self._known = min(self._known, splice)
        self._level(splice, length // FRAME_SAMPLES)
        self.end = window.begin + engine.window_frames - engine.overlap
        self._forget()

    def _level(self, splice: int, fade: int) -> None:
        """Let the gain of what sounds from ``splice`` on take over within ``fade`` frames."""
        first, sharp = max(self._base, splice - SHORT_TERM), max(self._base, splice - SHARP_FRAMES)
        raw = powers(self._sound[(sharp - self._base) * FRAME_SAMPLES :], FRAME_SAMPLES)[splice - sharp :]
        self._powers = np.concatenate([self._powers[: splice - self._base], raw])
        heard, fresh = self._powers[first - self._base : splice - self._base], raw[fade:]
        kept = [point for point in self._levels if point[0] < splice]
        if self._levels and splice > self._base:  # the line may begin later, but what was heard had its level too
            level = _line(self._levels, first, splice + 1)
            heard = heard * 10 ** (level[:-1] / 10)
            kept.append((splice, float(level[-1])))
        if len(fresh):
            intensity = self._section_at(splice).intensity(splice)
            # In a long fade there is no moment that could be a step.
            fading = raw[:fade] if kept and fade <= MOMENTARY // 2 else raw[:0]
            curve = self._leveller.curve(
                heard if kept else heard[:0], fresh, intensity, fading, kept[-1][1] if kept else 0
            )
            kept += [(splice + fade + POINT_FRAMES * number, float(gain)) for number, gain in enumerate(curve)]
        self._levels = kept

    def _forget(self) -> None:
        # A playhead lies at most AHEAD_FRAMES behind, plus a window that was begun with credit left.
        keep = AHEAD_FRAMES + self.engine.window_frames + self.engine.prefix_frames
        gone = self.end - self._base - keep
        if gone > 0:
            self._sound = self._sound[gone * FRAME_SAMPLES :].copy()
            self._mel = self._mel[:, gone * self.engine.mels_a_frame :].copy()
            self._powers = self._powers[gone:].copy()
            self._base += gone
        # Of what lies before, only the last still has a say.
        while len(self._heard) > 1 and self._heard[1][0] <= self._base:
            self._heard.pop(0)
        for points in (self._gains, self._levels):
            while len(points) > 1 and points[1][0] <= self._base:
                points.pop(0)

    def _render(self, start: int, end: int) -> tuple[bytes, ...]:
        # With a frame on either side, as far as they are known: what is loud there has a say.
        first = max(self._base, start - 1)
        last = min(end + 1, self._base + len(self._sound) // FRAME_SAMPLES)
        known = self._sound[: (last - self._base) * FRAME_SAMPLES]
        past, sound = np.split(known, [(first - self._base) * FRAME_SAMPLES])
        wide = tame(widen(past, sound) * self._gain(first, last)[:, None])
        pcm = to_pcm(wide[(start - first) * FRAME_SAMPLES :][: (end - start) * FRAME_SAMPLES])
        return tuple(pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm), FRAME_BYTES))

    def _gain(self, start: int, end: int) -> Sound:
        """Gain of each sample."""
        return straight(_line(self._gains, start, end + 1) * 10 ** (_line(self._levels, start, end + 1) / 20))


def _line(points: list[tuple[int, float]], start: int, end: int) -> NDArray[np.float64]:
    """The line through ``points`` at the places from ``start`` up to ``end``; 0 where there are no points."""
    # Counted from the start, for places can be too large for floating point.
    places, values = [place - start for place, _ in points], [value for _, value in points]
    return np.interp(np.arange(end - start), places or [0], values or [0.0])
