"""The async buffer: frames come when they come, and one is due every 20 ms.

Pure logic, without clock, thread or network. The playhead counts frames of the *stream*: while nothing new is
there, the buffer holds (it extends what was heard, see ``bot.hold``) and the playhead waits, so that a generator
that is merely slow loses nothing of its music.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.hold import FADE_SAMPLES, HISTORY_SECONDS, Extension, equal_power
from generator.protocol import AHEAD_FRAMES, CHANNELS, FRAME_SAMPLES, FRAMES_PER_SECOND

Frame = NDArray[np.int16]  #: (FRAME_SAMPLES, CHANNELS)

FADE_FRAMES: Final = FADE_SAMPLES // FRAME_SAMPLES
RESUME_FRAMES: Final = FADE_FRAMES  #: so much must be there before it is played: a fade is not begun to be broken off
LEAD_FRAMES: Final = 15  #: a stream that is reopened begins this far ahead, the time that a first window takes at best
ROUNDING: Final = 0.01  #: of a frame's peak: by so much may frames differ that continue each other all the same
FURTHEST_FRAMES: Final = 3 * AHEAD_FRAMES  #: no honest server is further ahead; memory stays bounded before any other


@dataclass(slots=True)
class BufferCounts:
    """What befell the frames so far.

    Attributes:
        played: frames of the generator's that were handed out.
        held: frames that had to be made from what was heard, for want of others.
        late: frames that arrived after their place had been played.
        refused: frames too far ahead to be kept.
    """

    played: int = 0
    held: int = 0
    late: int = 0
    refused: int = 0


class JitterBuffer:
    """Frames by their place in the stream; :meth:`next` always has one to give."""

    def __init__(self) -> None:
        self.playhead = 0
        self.counts = BufferCounts()
        self._frames: dict[int, tuple[int, bytes]] = {}  # with the strand that the frame belongs to
        self._newest = -1
        self._strand = 0  # frames of one strand continue one another; where it changes there is a seam to be faded
        self._strand_heard = 0
        self._newest_strand = 0  # of the frame that came last
        self._other_stream = False
        self._repeats = False  # whether frames come that may have been heard already
        self._last_late = -2
        self._last_repeat = -2
        self._heard: deque[Frame] = deque(maxlen=HISTORY_SECONDS * FRAMES_PER_SECOND)
        self._extension: Extension | None = None
        self._faded = -1  # frames of the fade from the extension that are done; −1: only the extension is heard
        self._out, self._into = equal_power(FADE_SAMPLES)

    @property
    def started(self) -> bool:
        """Whether music was ever handed out."""
        return self.counts.played > 0

    @property
    def holding(self) -> bool:
        """Whether what is heard now is nothing but an extension of what was heard before."""
        return self.started and self._extension is not None and self._faded < 0

    @property
    def ready(self) -> int:
        """How many frames lie ready without a gap, from the place where playing goes on."""
        first = self._resume_place()
        place = first = self.playhead if first is None else first
        while place in self._frames:
            place += 1
        return place - first

    @property
    def can_start(self) -> bool:
        """Whether so much is there that a fade can be done in full."""
        return self._resume_place() is not None

    def resume_at(self, *, changed: bool, resumable: int | None = None) -> int:
        """Where a reopened stream should begin.

        Args:
            changed: whether it is to play something else than what lies ready, which then is not worth waiting for.
            resumable: place from which it could go on with the very music that came before.
        """
        end = self.playhead
        while end in self._frames:
            end += 1
        if changed:
            return min(end, self.playhead + LEAD_FRAMES)
        return end if resumable is None or resumable > end else resumable

    def begin_stream(self) -> None:
        """The frames that come from now on belong to another stream, and its first does not continue the old."""
        self._strand += 1
        self._other_stream, self._repeats = True, False

    def continue_stream(self) -> None:
        """The stream that has begun goes on from where the last one was: there is no seam where it begins."""
        self._strand, self._repeats = self._newest_strand, True

    def put(self, index: int, pcm: bytes) -> None:
        """Takes a frame in; one whose place is taken replaces what is there *and all that comes after*.

        The server sends in order, so what lies behind a replaced frame is of a future that will not be.
        """
        if index < self.playhead:
            if self._repeats:
                self._last_repeat = index
            else:
                self.counts.late += 1
                self._last_late = index
            return
        if index > self.playhead + FURTHEST_FRAMES:
            self.counts.refused += 1
            return
        if index == self._last_late + 1:
            # A change whose beginning came too late, and with it the server's own cross-fade.
            self._strand += 1
        if index == self._last_repeat + 1 and not self._agrees(index, pcm):
            # It was joined midway, and another machine may have made other sound of the same music.
            self._strand += 1
        if index in self._frames or self._other_stream:
            self._forget_from(index)
        self._other_stream = self._repeats = False
        self._frames[index] = (self._strand, pcm)
        self._newest_strand = self._strand
        self._newest = max(self._newest, index)

    def next(self) -> Frame:
        """The frame that is due now. Silence until the first music has come, and never again after that."""
        if not self.started and self._extension is None:
            if not self.can_start:
                return np.zeros((FRAME_SAMPLES, CHANNELS), np.int16)
            self._begin_extension()
        strand, _ = self._frames.get(self.playhead, (None, b""))
        if (self._extension is None or self._faded >= 0) and strand != self._strand_heard:
            self._begin_extension()
            self._faded = -1
        if self._extension is not None and self._faded < 0 and (place := self._resume_place()) is not None:
            self._skip_to(place)
            self._faded = 0
        frame = self._mix()
        self._heard.append(frame)
        return frame

    def _mix(self) -> Frame:
        if self._extension is None:
            return self._take()
        old = self._extension.take(FRAME_SAMPLES)
        if self._faded < 0:
            self.counts.held += 1
            return _to_int16(old)
        part = slice(self._faded * FRAME_SAMPLES, (self._faded + 1) * FRAME_SAMPLES)
        mixed = _to_int16(old * self._out[part] + self._take() * self._into[part])
        self._faded += 1
        if self._faded == FADE_FRAMES:
            self._extension, self._faded = None, -1
        return mixed

    def _take(self) -> Frame:
        self._strand_heard, pcm = self._frames.pop(self.playhead)
        frame = np.frombuffer(pcm, "<i2").reshape(FRAME_SAMPLES, CHANNELS)
        self.playhead += 1
        self.counts.played += 1
        return frame

    def _begin_extension(self) -> None:
        heard = np.concatenate(self._heard) if self._heard else np.zeros((0, CHANNELS), np.int16)
        self._extension = Extension(heard)

    def _resume_place(self) -> int | None:
        """The first place, the playhead or past a gap, from which a whole fade's frames lie ready."""
        if all(place in self._frames for place in range(self.playhead, self.playhead + RESUME_FRAMES)):
            return self.playhead
        run, before = 0, -2
        for place in sorted(self._frames):
            run, before = run + 1 if place == before + 1 else 1, place
            if run == RESUME_FRAMES:
                return place - RESUME_FRAMES + 1
        return None

    def _skip_to(self, place: int) -> None:
        for skipped in range(self.playhead, place):
            self._frames.pop(skipped, None)
        self.playhead = place

    def _agrees(self, index: int, pcm: bytes) -> bool:
        """Whether what lies ready at a place is, but for rounding, the same frame."""
        if index not in self._frames:
            return False
        one, other = (np.frombuffer(each, "<i2").astype(np.int32) for each in (self._frames[index][1], pcm))
        return bool(np.abs(one - other).max() <= 1 + ROUNDING * np.abs(one).max())

    def _forget_from(self, index: int) -> None:
        for place in range(index, self._newest + 1):
            self._frames.pop(place, None)
        self._newest = index


def _to_int16(samples: NDArray[np.float32]) -> Frame:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
