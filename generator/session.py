"""One client's stream: reads what it asks, has the worker make it, sends it as the client has room. Torch-free."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from functools import partial
from typing import Final, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from generator.capacity import Capacity
from generator.metrics import Metrics
from generator.outbox import Outbox
from generator.playable import Chunk, Engine, Stream
from generator.protocol import (
    FRAME_SECONDS,
    FRAMES_PER_SECOND,
    MAX_MESSAGE_BYTES,
    MAX_OPEN_BYTES,
    MAX_STATE_BYTES,
    ClientMessage,
    Controls,
    MoodLands,
    Open,
    Opened,
    Pace,
    Playhead,
    Problem,
    ProtocolError,
    ServerEvent,
    SetMood,
    SetVolume,
    Snapshot,
    Transition,
    decode_client,
    decode_state,
    encode,
    encode_state,
    pack_frame,
)
from generator.settings import Settings
from generator.worker import Worker

T = TypeVar("T")
log = logging.getLogger(__name__)

#: How far the playhead is taken to have run on since the client last told of it.
EXTRAPOLATE_SECONDS: Final = 1.0
#: A window is due when no more than this lies ahead of the ear: behind two tables that change their mood without end, a
#: third must not be left without music.
HUNGRY_FRAMES: Final = 2 * FRAMES_PER_SECOND
#: How long a client that is being let go has to take the last words.
FAREWELL_SECONDS: Final = 2.0
POLICY, FAILED, TRY_LATER = 1008, 1011, 1013  # RFC 6455 and the IANA registry of close codes


class _Fatal(Exception):  # noqa: N818 - it ends a stream, not always by a fault
    """The stream is over; the client is told why."""

    def __init__(self, code: str, message: str, close: int) -> None:
        super().__init__(message)
        self.problem = Problem(code, message, fatal=True)
        self.close = close


class Session:
    """One accepted WebSocket, from its first message to its end.

    Its stream is the engine's, or that of the one beside.

    Four tasks share it, all on the event loop: one reads, one has windows made, one sends, one watches for a dead
    client. Only ``_ear`` is called from the worker's threads.
    """

    def __init__(
        self,
        socket: WebSocket,
        engine: Engine,
        beside: Engine | None,
        worker: Worker,
        capacity: Capacity,
        metrics: Metrics,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = socket
        self._engine = engine
        self._beside = beside
        self._worker = worker
        self._capacity = capacity
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._outbox = Outbox(0)  # replaced once the stream is open
        self._report = (0, clock(), False)  # the playhead, when it was told, and whether it was moving
        self._problems = 0
        self._heard = clock()  # when the client last said something
        self._blocked_since: float | None = None  # when the send in hand began
        self._wanted = asyncio.Event()  # something changed that the maker may wait for
        self._sendable = asyncio.Event()  # ... or the sender
        self._mood: SetMood | None = None  # asked for and not begun; the newest wins
        self._volume: float | None = None
        self._told = False  # whether the client wants to know the bars
        self._states = False  # ... or the states

    async def run(self) -> None:
        """Serve the client until it goes or is let go."""
        try:
            opening = await self._read_open()
            engine = self._beside if opening.beside else self._engine
            if engine is None:
                raise _Fatal("malformed", "no other model stands beside: start the generator with --beside", POLICY)
            if (refusal := self._capacity.claim()) is not None:
                raise _Fatal("full", refusal, TRY_LATER)
            try:
                self._outbox = Outbox(opening.start)
                self._report = (opening.start, self._clock(), False)
                await self._race(self._read(), self._make(engine, opening), self._send(), self._watch())
            finally:
                self._capacity.release()
        except _Fatal as end:
            await self._farewell(end)
        except WebSocketDisconnect:
            pass

    async def _race(self, *jobs: Coroutine[object, object, None]) -> None:
        """Run all jobs until the first ends; raise what it raised."""
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    # Reading

    async def _read_open(self) -> Open:
        try:
            async with asyncio.timeout(self._settings.open_seconds):
                message = await self._receive(MAX_OPEN_BYTES)
        except TimeoutError:
            raise _Fatal("malformed", "no stream was opened: send an open message first", POLICY) from None
        except ProtocolError as error:
            raise _Fatal("malformed", str(error), POLICY) from None
        if not isinstance(message, Open):
            raise _Fatal("malformed", "the first message opens the stream: send an open message", POLICY)
        return message

    async def _receive(self, most: int = MAX_MESSAGE_BYTES) -> ClientMessage:
        event = await self._socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code") or 1006)
        self._heard = self._clock()
        text = event.get("text")
        if text is None:
            raise ProtocolError("a client sends text, never binary")
        return decode_client(text, most)

    async def _read(self) -> None:
        while True:
            try:
                self._obey(await self._receive())
            except ProtocolError as error:
                self._complain(str(error))
            self._wanted.set()
            self._sendable.set()

    def _obey(self, message: ClientMessage) -> None:
        match message:
            case Open():
                raise ProtocolError("this stream is open already: open another connection for another stream")
            case SetMood():
                self._move_playhead(message.playhead)
                self._mood = message
            case SetVolume():
                self._move_playhead(message.playhead)
                self._volume = message.volume
            case Playhead():
                self._move_playhead(message.frame)

    def _move_playhead(self, frame: int) -> None:
        # What was never sent can't have been played; believing it would set the server off after a place far away.
        frame = min(frame, max(self._outbox.sent_end, self._outbox.playhead))
        last, at, moving = self._report
        now = self._clock()
        # Two messages within a frame's time say nothing about whether the client plays.
        moving = frame > last or (frame == last and moving and now - at < 5 * FRAME_SECONDS)
        self._report = (frame, now, moving)
        self._outbox.playhead = frame

    def _ear(self) -> int:
        """Place of the next frame that is played, as near as can be told between two reports. Any thread."""
        frame, at, moving = self._report
        if moving:
            run = min(self._clock() - at, EXTRAPOLATE_SECONDS) * FRAMES_PER_SECOND
            frame = max(frame, min(frame + int(run), self._outbox.sent_end))
        # A client that reconnects may still play what an earlier stream sent; this one has nothing before its start.
        return max(frame, self._outbox.start)

    def _complain(self, message: str) -> None:
        self._problems += 1
        if self._problems >= self._settings.max_problems:
            raise _Fatal("malformed", f"too many bad messages; the last: {message}", POLICY)
        self._metrics.problems.labels("malformed").inc()
        self._outbox.put_problem(encode(Problem("malformed", message)))

    # Making

    async def _make(self, engine: Engine, opening: Open) -> None:
        stream = self._resume(engine, opening) or engine.stream(
            opening.seed, opening.controls, opening.volume, opening.start, opening.origin, opening.home
        )
        self._put(Opened(engine.name, stream.continues))
        self._told, self._states = opening.bars, opening.states
        try:
            await self._play(stream, stream.controls)
        finally:
            stream.close()

    def _resume(self, engine: Engine, opening: Open) -> Stream | None:
        """The stream that goes on from the client's state, if it has one that can be used."""
        if opening.state is None:
            return None
        try:
            stream = engine.resume(decode_state(opening.state))
            if stream.end != opening.start:
                raise ProtocolError(f"a stream that goes on from this state starts at {stream.end}")
        except ProtocolError as error:
            self._metrics.problems.labels("state").inc()
            self._outbox.put_problem(encode(Problem("state", f"{error}, so the music begins anew")))
            return None
        # What was asked of the last server, and never made its way into the state, is asked again.
        if stream.volume != opening.volume and self._volume is None:
            self._volume = opening.volume
        if stream.controls != opening.controls and self._mood is None:
            self._mood = SetMood(opening.mood, opening.start, opening.intensity, opening.blend)
        return stream

    async def _play(self, stream: Stream, controls: Controls) -> None:
        chunk = await self._compute(stream.advance)
        landing = _landing(controls, chunk.start if chunk.lands is None else chunk.lands)
        turned: Transition = "sudden"
        self._hand_over(chunk, landing)
        self._count("first", chunk)
        while True:
            await self._tell_state(stream)
            await self._until_wanted(stream)
            # Volume before mood: it takes milliseconds.
            if self._volume is not None:
                volume, self._volume = self._volume, None
                self._hand_over(await self._compute(partial(self._turn_volume, stream, volume)))
                continue
            if self._mood is None:
                kind = "next"
                slack = max(0, stream.end - self._ear() - HUNGRY_FRAMES) * FRAME_SECONDS
                # A change throws away what is made of the old music, so it need not wait for it either.
                still_wanted = partial(self._plays_on, controls, turned)
                made = await self._compute(partial(_unless_dropped, stream, slack, still_wanted))
                if made is None:
                    continue
                chunk = made
            else:
                wanted, self._mood = self._mood, None
                if _plays(wanted, controls, turned):  # the same button pressed twice
                    self._put(landing)
                    continue
                kind, controls, turned = "change", wanted.controls, wanted.transition
                change = partial(stream.change, controls, self._ear, wanted.transition)
                chunk = await self._compute(change)
            if chunk.lands is not None:
                landing = _landing(controls, chunk.lands)
            self._hand_over(chunk, None if chunk.lands is None else landing)
            self._count(kind, chunk)

    def _turn_volume(self, stream: Stream, volume: float) -> Chunk:
        return stream.set_volume(volume, self._ear())

    def _plays_on(self, controls: Controls, turned: Transition) -> bool:
        """Whether nothing else is asked for than what plays. Any thread."""
        mood = self._mood
        return mood is None or _plays(mood, controls, turned)

    async def _until_wanted(self, stream: Stream) -> None:
        """Wait until the client wants something and has room for it."""
        while self._outbox.full or not (
            self._volume is not None or self._mood is not None or stream.end < self._outbox.limit
        ):
            self._wanted.clear()
            await self._wanted.wait()

    async def _compute(self, work: Callable[[], T]) -> T:
        """The result of ``work()`` on the worker."""
        try:
            return await self._worker.run(work)
        except Exception:
            log.exception("the engine failed on a stream")
            raise _Fatal(
                "engine",
                "the music engine failed on this stream: open it again, and if it goes on failing, "
                "look into the generator's log",
                FAILED,
            ) from None

    def _hand_over(self, chunk: Chunk, landing: MoodLands | None = None) -> None:
        """Queue a chunk for sending, in place of what it replaces, its landing told before its frames."""
        self._outbox.drop_from(chunk.start)
        if landing is not None:
            self._outbox.put_event(encode(landing))
        for bar in chunk.bars if self._told else ():
            self._outbox.put_event(encode(bar))
        self._outbox.put_frames(chunk.start, chunk.frames)
        self._sendable.set()

    async def _tell_state(self, stream: Stream) -> None:
        """Queue what another server needs to go on from the end of what is queued."""
        if not self._states:
            return
        state = await self._compute(stream.snapshot)
        if len(state) <= MAX_STATE_BYTES:
            self._outbox.put_snapshot(stream.end, encode(Snapshot(stream.end, encode_state(state))))
            self._sendable.set()

    def _count(self, kind: str, chunk: Chunk) -> None:
        audio_seconds, seconds = len(chunk.frames) * FRAME_SECONDS, chunk.seconds
        self._metrics.window(kind, audio_seconds, seconds)
        if kind == "next":  # a first window is the dearest, and of a change's not all is new
            self._capacity.measure(audio_seconds, seconds)
        self._put(Pace(audio_seconds, seconds))

    def _put(self, event: ServerEvent) -> None:
        self._outbox.put_event(encode(event))
        self._sendable.set()

    # Sending

    async def _send(self) -> None:
        while True:
            item = self._outbox.take()
            if item is None:
                self._sendable.clear()
                await self._sendable.wait()
                continue
            self._blocked_since = self._clock()
            if isinstance(item, str):
                await self._socket.send_text(item)
            else:
                await self._socket.send_bytes(pack_frame(*item))
                self._metrics.frames_sent.inc()
            self._blocked_since = None
            self._wanted.set()
            # A send doesn't yield while the socket's buffer has room, and others want a turn.
            await asyncio.sleep(0)

    async def _watch(self) -> None:
        patience = self._settings.idle_seconds
        while True:
            await asyncio.sleep(patience / 4)
            now, blocked = self._clock(), self._blocked_since
            if blocked is not None and now - blocked > patience and now - self._heard > patience:
                raise _Fatal("idle", f"nothing was heard or taken for {patience:g} seconds", POLICY)

    async def _farewell(self, end: _Fatal) -> None:
        log.info("a stream is let go: %s", str(end).encode("unicode_escape").decode())  # it may quote the client
        self._metrics.problems.labels(end.problem.code).inc()
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._socket.send_text(encode(end.problem))
                await self._socket.close(end.close, end.problem.code)


def _unless_dropped(stream: Stream, slack: float, wanted: Callable[[], bool]) -> Chunk | None:
    try:
        return stream.advance(slack, wanted)
    except CancelledError:
        return None


def _plays(wanted: SetMood, controls: Controls, turned: Transition) -> bool:
    """Whether what is wanted plays already, or is about to; what is turned to slowly may be wanted at once."""
    return wanted.controls == controls and (turned == "sudden" or wanted.transition == "slow")


def _landing(controls: Controls, frame: int) -> MoodLands:
    return MoodLands(controls.mood, controls.intensity, frame, controls.blend)
