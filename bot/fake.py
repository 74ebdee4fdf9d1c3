"""A generator that plays one sine a mood, and both of a blend: the real protocol on a real socket, without a model.

For tests and trials. It can be told to stall, to break all lines, to go away and to come back.
"""

import asyncio
import contextlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
from aiohttp import WSMsgType, web
from numpy.typing import NDArray

from generator.moods import MOODS, Mood
from generator.protocol import (
    AHEAD_FRAMES,
    AUTHORIZATION_HEADER,
    CHANNELS,
    FRAME_SAMPLES,
    FRAME_SECONDS,
    FRAMES_PER_SECOND,
    MAX_OPEN_BYTES,
    SAMPLE_RATE,
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
    decode_client,
    decode_state,
    encode,
    encode_state,
    pack_frame,
)

#: Hz, a whole tone apart from 440 on: told apart with ease, also after Opus.
PITCHES: Final[dict[Mood, float]] = {mood: 440 * 2 ** (place / 6) for place, mood in enumerate(MOODS)}
AMPLITUDE: Final = 8_000.0  #: at full volume, in units of int16
FADE_FRAMES: Final = 10
SLOW_FADE_FRAMES: Final = 100  #: of a slow transition
LATENCY_FRAMES: Final = 10  #: a change lands this far past the playhead


@dataclass(eq=False)
class _Stream:
    """One client's stream. Phases are running sums, so that a change of pitch or volume never clicks."""

    controls: Controls
    volume: float
    place: int
    playhead: int
    fade: int = FADE_FRAMES
    phases: dict[Mood, float] = field(default_factory=dict)
    gains: dict[Mood, float] = field(default_factory=dict)
    past: dict[int, tuple[dict[Mood, float], dict[Mood, float]]] = field(default_factory=dict)

    def turn_back(self, place: int) -> None:
        """Continue from ``place``, as it was then; or from the first place that there was."""
        place = max(place, min(self.past, default=self.place))
        if place in self.past:
            self.phases, self.gains = self.past[place]
            self.place = place

    def snapshot(self) -> Snapshot:
        """What :meth:`resumed` needs."""
        body = [asdict(self.controls), self.volume, self.place, self.phases, self.gains]
        return Snapshot(self.place, encode_state(json.dumps(body).encode()))

    @classmethod
    def resumed(cls, state: str) -> "_Stream":
        """A stream that goes on from a :meth:`snapshot`."""
        controls, volume, place, phases, gains = json.loads(decode_state(state))
        return cls(Controls(**controls), volume, place, place, phases=phases, gains=gains)

    def render(self) -> bytes:
        """The next frame; gains approach their goals in steps of a fade's length."""
        self.past[self.place] = (dict(self.phases), dict(self.gains))
        self.past.pop(self.place - 3 * AHEAD_FRAMES, None)
        moods = self.controls.moods
        goals = dict.fromkeys(self.gains, 0.0) | dict.fromkeys(moods, self.volume / len(moods))
        ramp = np.arange(1, FRAME_SAMPLES + 1) / FRAME_SAMPLES
        sound: NDArray[np.float64] = np.zeros(FRAME_SAMPLES)
        for mood, goal in goals.items():
            gain = self.gains.get(mood, 0.0 if self.gains else goal)
            step = max(-1 / self.fade, min(1 / self.fade, goal - gain))
            turn = 2 * math.pi * PITCHES[mood] / SAMPLE_RATE
            phase = self.phases.get(mood, 0.0)
            sound += (gain + step * ramp) * np.sin(phase + turn * np.arange(FRAME_SAMPLES))
            self.phases[mood] = (phase + turn * FRAME_SAMPLES) % (2 * math.pi)
            self.gains[mood] = gain + step
        self.place += 1
        return np.repeat(np.rint(sound * AMPLITUDE).astype("<i2"), CHANNELS).tobytes()


class FakeGenerator:
    """``async with FakeGenerator() as fake``: listens on loopback at ``fake.url``.

    Attributes:
        opens: each stream's opening message, in order.
        changes: each change of mood that was asked of a stream, in order.
        speed: frames made per frame's time; below 1 it is too slow.
        stalled: set it, and no frame is sent though the lines stand.
        forgetful: set it, and no stream goes on from a client's state.
        deaf: set it, and what clients ask of a stream is not done.
        problem: sent to each client in answer to its opening, where set.
    """

    def __init__(self, token: str | None = None, speed: float = math.inf) -> None:
        """A generator that is not there yet.

        Args:
            token: what clients must show, if any.
            speed: frames made per frame's time; below 1 it is too slow.
        """
        self.opens: list[Open] = []
        self.changes: list[SetMood] = []
        self.stalled = False
        self.forgetful = False
        self.deaf = False
        self.problem: Problem | None = None
        self._token = token
        self.speed = speed
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._sockets: set[web.WebSocketResponse] = set()
        self._streams: set[_Stream] = set()

    async def __aenter__(self) -> "FakeGenerator":
        await self.come()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    @property
    def url(self) -> str:
        """Base URL; the same after :meth:`leave` and :meth:`come`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def lines(self) -> int:
        """How many clients are connected."""
        return len(self._sockets)

    @property
    def wishes(self) -> list[tuple[Controls, float]]:
        """What each stream was asked for last, and its volume."""
        return [(stream.controls, stream.volume) for stream in self._streams]

    async def come(self) -> None:
        """Listens."""
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/v1/stream", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def leave(self) -> None:
        """Is gone, as if killed: no line is closed with a word."""
        self.break_lines()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def break_lines(self) -> None:
        """Aborts every connection."""
        for socket in list(self._sockets):
            # Through the request, since aiohttp has no public way to drop a WebSocket without saying goodbye.
            transport = socket._req.transport if socket._req is not None else None
            if transport is not None:
                transport.abort()

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._token is not None and request.headers.get(AUTHORIZATION_HEADER) != f"Bearer {self._token}":
            raise web.HTTPUnauthorized
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        maker: asyncio.Task[None] | None = None
        stream: _Stream | None = None
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                try:
                    asked = decode_client(message.data, MAX_OPEN_BYTES)
                except ProtocolError as error:
                    await _tell(socket, Problem("malformed", str(error)))
                    continue
                if isinstance(asked, Open):
                    self.opens.append(asked)
                    if self.problem is not None:
                        await _tell(socket, self.problem)
                        if self.problem.fatal:
                            break
                    if asked.state is None or self.forgetful:
                        stream = _Stream(asked.controls, float(asked.volume), asked.start, asked.start)
                    else:
                        stream = _Stream.resumed(asked.state)
                        stream.controls, stream.volume = asked.controls, float(asked.volume)
                    await _tell(socket, Opened("sines", asked.state is not None and not self.forgetful))
                    await _tell(socket, MoodLands(asked.mood, asked.intensity, asked.start, asked.blend))
                    self._streams.add(stream)
                    maker = asyncio.create_task(self._make(socket, stream))
                elif stream is not None and not self.deaf:
                    if isinstance(asked, SetMood):
                        self.changes.append(asked)
                    await _obey(socket, stream, asked)
        finally:
            self._sockets.discard(socket)
            if stream is not None:
                self._streams.discard(stream)
            if maker is not None:
                maker.cancel()
                await asyncio.gather(maker, return_exceptions=True)
        return socket

    async def _make(self, socket: web.WebSocketResponse, stream: _Stream) -> None:
        with contextlib.suppress(ConnectionError):
            made = 0
            while True:
                if self.stalled or stream.place >= stream.playhead + AHEAD_FRAMES:
                    await asyncio.sleep(FRAME_SECONDS / 4)
                    continue
                place = stream.place
                await socket.send_bytes(pack_frame(place, stream.render()))
                made += 1
                if stream.place % FRAMES_PER_SECOND == 0:
                    await _tell(socket, stream.snapshot())
                if made % 50 == 0:
                    await _tell(socket, Pace(1.0, 1.0 / self.speed))
                await asyncio.sleep(FRAME_SECONDS / self.speed)


async def _obey(socket: web.WebSocketResponse, stream: _Stream, asked: SetMood | SetVolume | Playhead) -> None:
    stream.playhead = asked.frame if isinstance(asked, Playhead) else asked.playhead
    if isinstance(asked, Playhead):
        return
    if isinstance(asked, SetVolume):
        stream.volume = float(asked.volume)
        stream.fade = FADE_FRAMES
    else:
        stream.controls = asked.controls
        stream.fade = FADE_FRAMES if asked.transition == "sudden" else SLOW_FADE_FRAMES
    stream.turn_back(asked.playhead + LATENCY_FRAMES)
    if isinstance(asked, SetMood):
        await _tell(socket, MoodLands(asked.mood, asked.intensity, stream.place, asked.blend))


async def _tell(socket: web.WebSocketResponse, event: ServerEvent) -> None:
    await socket.send_str(encode(event))
