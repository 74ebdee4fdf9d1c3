"""One table's line to a generator: reconnects, goes on from a state that it was told, and asks for the newest wish."""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import aiohttp

from bot.backoff import Backoff, Round
from bot.errors import GeneratorError
from bot.jitter_buffer import LEAD_FRAMES
from generator.protocol import (
    AHEAD_FRAMES,
    AUTHORIZATION_HEADER,
    MAX_OPEN_BYTES,
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
    decode_server,
    encode,
    unpack_frame,
)

log = logging.getLogger(__name__)

PLAYHEAD_EVERY: Final = 10  #: frames
HANDSHAKE_SECONDS: Final = 10.0
BRISK_HANDSHAKE_SECONDS: Final = 2.0  #: where there is another address to try
HEARTBEAT_SECONDS: Final = 10.0
STALLED_SECONDS: Final = 30.0  #: without a word from a server that owes us frames
STEADY_SECONDS: Final = 5.0  #: a connection that lived so long with music was no failed attempt
FATAL_BACKOFF_SECONDS: Final = 5.0  #: what a person has to mend is not mended by haste
UNAUTHORISED: Final = "unauthorised"
_DOORS: Final = frozenset({UNAUTHORISED, "full"})  #: problems that say nothing of the state that a stream began with
_REFUSALS: Final = (401, 403)  #: HTTP statuses of a handshake without the right token


@dataclass(frozen=True, slots=True)
class Connected:
    """The line stands (again); frames will follow."""


@dataclass(frozen=True, slots=True)
class Away:
    """The line is down and will be tried again. ``reason`` is a sentence."""

    reason: str


ClientEvent = ServerEvent | Connected | Away


class Endpoint(Protocol):
    """Where the generator is: fixed addresses, or a child process that has another after each start."""

    @property
    def token(self) -> str | None:
        """The shared secret."""

    async def urls(self) -> Sequence[str]:
        """Base URLs, any of which will do, waited for if need be.

        Raises:
            GeneratorError: there will be none soon; the message says why.
        """


@dataclass(frozen=True, slots=True)
class FixedEndpoint:
    """A generator that somebody else runs, or several that share a token."""

    address: str | tuple[str, ...]
    token: str | None = None

    async def urls(self) -> Sequence[str]:
        """The addresses."""
        return (self.address,) if isinstance(self.address, str) else self.address


class Listener(Protocol):
    """Who receives the stream; called on the event loop."""

    def stream_begins(self, *, changed: bool, resumable: int | None) -> int:
        """A stream is about to be opened.

        Args:
            changed: whether it plays something else than the last one did.
            resumable: place from which it can go on with the very music of the last one. If it does,
                :attr:`Opened.continues` is set, before its first frame.

        Returns:
            Place of the first frame that it should send.
        """

    def frame(self, index: int, pcm: bytes) -> None:
        """A frame came."""

    def event(self, event: ClientEvent) -> None:
        """Something else came, or happened."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the table should hear."""

    controls: Controls
    volume: float
    transition: Transition = "sudden"  #: by which the controls are reached


class GeneratorClient:
    """Keeps one stream alive until it is closed. All methods belong on the event loop and none waits."""

    def __init__(
        self,
        endpoint: Endpoint,
        listener: Listener,
        wish: Wish,
        *,
        seed: int,
        rng: random.Random | None = None,
        stalled_seconds: float = STALLED_SECONDS,
    ) -> None:
        """A client that does nothing until :meth:`start`.

        Args:
            endpoint: where the generator is.
            listener: who receives what comes.
            wish: what to play first.
            seed: of the music; tables of different seeds begin with different addresses.
            rng: for the jitter of the back-off.
            stalled_seconds: how long a silent server is believed in.
        """
        self.connected = False
        self.model: str | None = None
        self.pace: Pace | None = None
        self._endpoint = endpoint
        self._listener = listener
        self._wish = wish
        self._seed = seed
        self._backoff = Backoff(rng or random.Random())  # noqa: S311 - jitter, not a secret
        self._round = Round(seed)
        self._stalled_seconds = stalled_seconds
        self._playhead = 0
        self._sent_playhead = 0
        self._sent: Wish | None = None  # what the server was last asked for
        self._landed: Controls | None = None  # what the frames that came last are
        self._newest = -1  # place of the last frame that came
        self._start = 0  # place of the stream's first frame
        self._snapshot: Snapshot | None = None  # the newest state from which the music can go on
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._fatal = False
        self._reopen = False  # the stream was ended for another that begins where the ear is

    @property
    def wish(self) -> Wish:
        """What was asked for last."""
        return self._wish

    def start(self) -> None:
        """Connects, in the background."""
        self._task = asyncio.create_task(self._run(), name="generator-client")

    def set_mood(self, controls: Controls, transition: Transition = "sudden") -> None:
        """Asks for other music: now, or as soon as the line stands. The newest wins; the same again does nothing."""
        self._wish = Wish(controls, self._wish.volume, transition)
        self._news.set()

    def set_volume(self, volume: float) -> None:
        """Asks for a gain of 0 to 1: now, or as soon as the line stands."""
        self._wish = replace(self._wish, volume=volume)
        self._news.set()

    def advance(self, playhead: int) -> None:
        """Tells the place of the next frame to be played."""
        self._playhead = playhead
        if playhead - self._sent_playhead >= PLAYHEAD_EVERY:
            self._news.set()

    async def close(self) -> None:
        """Ends the stream."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as session:
            fatal = False  # in this round
            while True:
                self._fatal = False
                begun, reason = loop.time(), "the music generator closed the line"
                try:
                    await self._stream(session)
                    if self._reopen:
                        continue
                except aiohttp.WSServerHandshakeError as error:
                    reason = self._refusal(error.status)
                except GeneratorError as error:
                    reason = str(error)
                except ProtocolError as error:
                    reason, self._snapshot = f"the music generator speaks another protocol than this bot: {error}", None
                except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
                    reason = f"the music generator can't be reached: {str(error) or type(error).__name__}"
                except Exception:  # a line that ends for ever would be heard by nobody
                    log.exception("a stream's line stumbled")
                    reason, self._snapshot = "the music generator sent what this bot does not understand", None
                if self.connected and loop.time() - begun >= STEADY_SECONDS:
                    self._backoff.reset()
                    self._round.reset()
                self.connected = False
                fatal = fatal or self._fatal
                self._listener.event(Away(reason))
                if not self._round.fail():
                    await asyncio.sleep(self._backoff.next(FATAL_BACKOFF_SECONDS if fatal else 0.0))
                    fatal = False

    def _refusal(self, status: int) -> str:
        if status not in _REFUSALS:
            return f"the music generator refused the line with HTTP status {status}"
        sentence = "the music generator refuses this bot's token: set BARDCAST_TOKEN to the same value on both sides"
        self._problem(Problem(UNAUTHORISED, sentence, fatal=True))
        return sentence

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        """One connection, from its opening to its end."""
        url = self._round.pick(await self._endpoint.urls())
        token = self._endpoint.token
        headers = {AUTHORIZATION_HEADER: f"Bearer {token}"} if token else {}
        async with asyncio.timeout(HANDSHAKE_SECONDS if self._round.addresses == 1 else BRISK_HANDSHAKE_SECONDS):
            socket = await session.ws_connect(
                f"{url}/v1/stream", headers=headers, heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_OPEN_BYTES
            )
        try:
            # Not "sent before": a change that the last server took and never played is still to be made.
            other_volume = self._sent is not None and self._sent.volume != self._wish.volume
            changed = self._reopen or other_volume or self._landed != self._wish.controls
            resumable = None if changed or self._snapshot is None else self._snapshot.frame
            start = self._start = self._listener.stream_begins(changed=changed, resumable=resumable)
            self._snapshot = self._snapshot if start == resumable else None
            self._reopen = False
            wish = self._sent = self._wish
            # A server takes the start for the playhead until it is told better.
            self._sent_playhead = self._playhead if start == self._playhead else -PLAYHEAD_EVERY
            self._news.set()
            self._newest = start - 1
            controls, state = wish.controls, None if self._snapshot is None else self._snapshot.state
            asked = (controls.mood, self._seed, wish.volume, controls.intensity, start, controls.blend)
            await socket.send_str(encode(Open(*asked, states=True, state=state)))
            sender = asyncio.create_task(self._send(socket), name="generator-client-sender")
            try:
                await self._receive(socket)
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
        finally:
            await socket.close()

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Sends what is new, and only the newest of it."""
        while True:
            await self._news.wait()
            self._news.clear()
            wish, sent, playhead = self._wish, self._sent, self._playhead
            self._sent = wish
            if wish != sent and self._start > playhead + 2 * LEAD_FRAMES:
                # A server can't change what a stream before this one has sent, and all of that need not be heard first.
                self._reopen = True
                await socket.close()
                return
            if sent is None or wish.volume != sent.volume:
                await socket.send_str(encode(SetVolume(wish.volume, playhead)))
            if sent is None or replace(wish, volume=sent.volume) != sent:
                asked = wish.controls
                change = SetMood(asked.mood, playhead, asked.intensity, asked.blend, wish.transition)
                await socket.send_str(encode(change))
            if playhead - self._sent_playhead >= PLAYHEAD_EVERY:
                self._sent_playhead = playhead
                await socket.send_str(encode(Playhead(playhead)))

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            try:
                async with asyncio.timeout(self._stalled_seconds):
                    message = await socket.receive()
            except TimeoutError:
                # A server that has sent all that it may is silent by right: a table that still joins plays nothing.
                if self._newest + 1 >= self._playhead + AHEAD_FRAMES - PLAYHEAD_EVERY:
                    continue
                raise GeneratorError(
                    f"the music generator has sent nothing for {self._stalled_seconds:g} seconds"
                ) from None
            if message.type is aiohttp.WSMsgType.BINARY:
                self._connect()
                self._newest, pcm = unpack_frame(message.data)
                if self._snapshot is not None and self._newest < self._snapshot.frame:
                    self._snapshot = None  # of a future that will not be
                self._listener.frame(self._newest, pcm)
            elif message.type is aiohttp.WSMsgType.TEXT:
                event = decode_server(message.data)
                if isinstance(event, Problem):
                    if self._problem(event):
                        raise GeneratorError(event.message)
                    continue
                if isinstance(event, Snapshot):
                    self._snapshot = event
                    continue
                if isinstance(event, Opened):
                    self.model = event.model
                    if not event.continues:
                        self._snapshot = None
                elif isinstance(event, Pace):
                    self.pace = event
                elif isinstance(event, MoodLands):
                    self._landed = event.controls
                self._listener.event(event)
            else:
                if self._fatal or self._reopen:
                    return
                raise GeneratorError(f"the music generator closed the line (code {socket.close_code})")

    def _connect(self) -> None:
        if not self.connected:
            self.connected = True
            self._listener.event(Connected())

    def _problem(self, problem: Problem) -> bool:
        log.warning("the generator reports: %s (%s)", problem.message, problem.code)
        self._fatal = self._fatal or problem.fatal
        if problem.code not in _DOORS:
            self._snapshot = None  # whatever it was: not twice
        self._listener.event(problem)
        return problem.fatal
