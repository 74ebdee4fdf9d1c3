"""A table without Discord: the same client, buffer and mood changes, heard by a list."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bot.client import Away, ClientEvent, Endpoint, GeneratorClient, Wish
from bot.errors import DemoError
from bot.jitter_buffer import BufferCounts, Frame, JitterBuffer
from bot.playout import AHEAD_PACKETS
from generator.moods import Mood
from generator.protocol import FRAME_SECONDS, FRAMES_PER_SECOND, Controls, MoodLands, Opened, Pace, Problem

PATIENCE: Final = 3  #: so often a generator that has not played a note may fail; a table would try for ever
FIRST_SOUND_SECONDS: Final = 180.0  #: a cold start of the generator, and its first window
GIVE_UP_SECONDS: Final = 30.0  #: how long --fast waits for a generator that went away, before it holds like a table
#: What lies between the buffer and the ear at a real table: packets that are made ahead of the player thread.
PACKET_SECONDS: Final = AHEAD_PACKETS * FRAME_SECONDS


@dataclass(frozen=True, slots=True)
class Order:
    """What to play.

    Attributes:
        moods: in this order, for the same time each.
        seconds: altogether.
        seed: of the music.
        fast: as fast as frames come, rather than at the pace of a table.
    """

    moods: tuple[Mood, ...]
    seconds: float
    seed: int
    fast: bool = False

    def changes(self) -> dict[int, Mood]:
        """The moods by the frame at which each is asked for; the one that plays already is not asked for again."""
        frames = round(self.seconds * FRAMES_PER_SECOND)
        return {
            frames * place // len(self.moods): mood
            for place, (before, mood) in enumerate(zip((None, *self.moods), self.moods, strict=False))
            if mood != before
        }


@dataclass(slots=True)
class Change:
    """One mood, asked for and heard.

    Attributes:
        asked: frames heard when it was asked for.
        asked_at: the clock then.
        landed: frames heard when its first was due; None while it is not heard yet.
        delay: seconds from the command to the ear.
    """

    mood: Mood
    asked: int
    asked_at: float
    landed: int | None = None
    delay: float | None = None


@dataclass(slots=True)
class Performance:
    """What the table heard, and how it fared."""

    frames: list[Frame] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    model: str | None = None
    audio_seconds: float = 0.0  #: made by the generator
    compute_seconds: float = 0.0  #: that it took for that
    first_sound: float = 0.0  #: seconds from the start to the first music
    underruns: int = 0  #: frames that came too late for their 20 ms, as this process counts
    interrupted: bool = False
    counts: BufferCounts = field(default_factory=BufferCounts)

    @property
    def realtime_factor(self) -> float | None:
        """How much faster than played the music was made."""
        return self.audio_seconds / self.compute_seconds if self.compute_seconds > 0 else None

    @property
    def seams(self) -> list[int]:
        """The frames at which one mood gave way to another."""
        return [change.landed for change in self.changes[1:] if change.landed is not None]


Report = Callable[[Performance, JitterBuffer], None]


class Stage:
    """Plays an order once."""

    def __init__(self, order: Order, endpoint: Endpoint, report: Report) -> None:
        """A stage that is still dark.

        Args:
            order: what to play.
            endpoint: where the generator is.
            report: shown how things stand, once a frame.
        """
        self._order = order
        self._report = report
        self._stop = asyncio.Event()
        self._moods = order.changes()
        self._buffer = JitterBuffer()
        self._done = Performance(counts=self._buffer.counts)
        self._lands: dict[Mood, int] = {}
        self._turning: Mood | None = None  # a mood that was asked for and of which no frame has come yet
        self._news = asyncio.Event()
        self._reason = "it has sent nothing yet"
        self._fatal: str | None = None
        self._outages = 0
        self._client = GeneratorClient(endpoint, self, Wish(Controls(order.moods[0]), 1.0), seed=order.seed)

    async def perform(self) -> Performance:
        """What was heard, until the order is done or stopped.

        Raises:
            DemoError: not a single frame came.
        """
        clock = asyncio.get_running_loop().time
        begun = clock()
        self._client.start()
        try:
            await self._first_sound()
            self._done.first_sound = clock() - begun
            if not self._stop.is_set():
                await self._play(clock)
        finally:
            await self._client.close()
        self._done.model = self._client.model
        self._done.interrupted = self._stop.is_set()
        return self._done

    def stop(self) -> None:
        """Ends the performance early; what was heard so far counts."""
        self._stop.set()
        self._news.set()

    # bot.client.Listener

    def stream_begins(self, *, changed: bool, resumable: int | None) -> int:
        """Where the stream should begin."""
        self._buffer.begin_stream()
        return self._buffer.resume_at(changed=changed, resumable=resumable)

    def frame(self, index: int, pcm: bytes) -> None:
        """A frame came."""
        self._buffer.put(index, pcm)
        if self._turning is not None and index >= self._lands.get(self._turning, index + 1):
            self._turning = None
        self._news.set()

    def event(self, event: ClientEvent) -> None:
        """Something happened on the line."""
        match event:
            case Away():
                self._reason = event.reason
                self._outages += 1
            case Opened(continues=True):
                self._buffer.continue_stream()
            case Problem(fatal=True):
                self._fatal = event.message
            case MoodLands():
                self._lands[event.mood] = event.frame
            case Pace():
                self._done.audio_seconds += event.audio_seconds
                self._done.compute_seconds += event.compute_seconds
            case _:
                pass
        self._news.set()

    # The course of it

    async def _first_sound(self) -> None:
        try:
            await self._wait(self._decided, FIRST_SOUND_SECONDS)
        except TimeoutError:
            raise DemoError(f"no music after {FIRST_SOUND_SECONDS:g} seconds: {self._fatal or self._reason}") from None
        if self._fatal is not None or self._outages >= PATIENCE:
            raise DemoError(self._fatal or self._reason)

    def _decided(self) -> bool:
        return self._buffer.can_start or self._fatal is not None or self._outages >= PATIENCE

    async def _play(self, clock: Callable[[], float]) -> None:
        begun = clock()
        total = round(self._order.seconds * FRAMES_PER_SECOND)
        for heard in range(total):
            if heard in self._moods:
                mood = self._moods[heard]
                if self._done.changes:  # the first was asked for when the stream was opened, and has landed
                    self._lands.pop(mood, None)
                    self._turning = mood
                    self._client.set_mood(Controls(mood))
                self._done.changes.append(Change(mood, heard, clock()))
            if self._order.fast:
                await self._supply()
            else:
                await self._until(begun + heard * FRAME_SECONDS, clock)
            if self._stop.is_set():
                return
            self._done.frames.append(self._buffer.next())
            self._client.advance(self._buffer.playhead)
            self._notice_landing(clock())
            self._report(self._done, self._buffer)

    def _notice_landing(self, now: float) -> None:
        change = self._done.changes[-1]
        lands = self._lands.get(change.mood)
        if change.landed is not None or lands is None or self._buffer.playhead <= lands:
            return
        change.landed = len(self._done.frames) - 1
        if self._order.fast:
            # The clock says nothing about a table here; what counts is how much of the old mood was still heard.
            change.delay = (change.landed - change.asked) * FRAME_SECONDS + PACKET_SECONDS
        else:
            change.delay = now - change.asked_at + PACKET_SECONDS

    async def _until(self, due: float, clock: Callable[[], float]) -> None:
        late = clock() - due
        # At a table the packets made ahead would bridge less than this; more is silence at the ear.
        if late > PACKET_SECONDS:
            self._done.underruns += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, -late)):
                await self._stop.wait()

    async def _supply(self) -> None:
        """Returns when the next frame can be had without extending what was heard, or won't come.

        Nor are frames taken while the generator works on a change: it reckons with a table's pace, so what it lands
        on would be long past.
        """
        await asyncio.sleep(0)  # frames come in on this very loop
        with contextlib.suppress(TimeoutError):
            await self._wait(lambda: self._turning is None and self._buffer.can_start, GIVE_UP_SECONDS)

    async def _wait(self, true: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not true() and not self._stop.is_set():
                self._news.clear()
                await self._news.wait()
