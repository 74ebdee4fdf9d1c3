"""The gateway: HELLO, IDENTIFY or RESUME, heartbeats, and events in order."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from typing import Final
from uuid import uuid4

from aiohttp import ClientConnectionResetError, WSMsgType, web

from tests.discord_server.changes import Changes
from tests.discord_server.voice import abort
from tests.discord_server.world import REFUSED_TOKEN, Guild, Json, User

HEARTBEAT_MS: Final = 41_250
#: Discord takes about this long over an op 4, and it matters: when the news of a leave comes before the voice socket
#: has closed, discord.py 2.7 leaves a second time and waits 30 s for a confirmation (Rapptz/discord.py#10376).
VOICE_STATE_LATENCY: Final = 0.05
#: Events kept for a RESUME.
REPLAY: Final = 10_000


class Op(IntEnum):
    """Opcodes of the gateway."""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    PRESENCE = 3
    VOICE_STATE = 4
    RESUME = 6
    RECONNECT = 7
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11


class Session:
    """One shard's session. It outlives its socket: what happens meanwhile is sent at the RESUME.

    Attributes:
        resumes: how often it was resumed.
    """

    def __init__(self, identify: Json, ws: web.WebSocketResponse) -> None:
        self.id = uuid4().hex
        shard, shards = identify.get("shard", (0, 1))
        self.shard, self.shards = int(shard), int(shards)
        self.intents: int = identify["intents"]
        self.ws: web.WebSocketResponse | None = ws
        self.resumes = 0
        self.sent: deque[tuple[int, str]] = deque(maxlen=REPLAY)
        self._sequence = 0

    def serves(self, guild_id: int) -> bool:
        """Events of this guild go to this shard."""
        return (guild_id >> 22) % self.shards == self.shard

    async def dispatch(self, event: str, data: Json) -> None:
        """Send an event, or keep it while there is no socket."""
        self._sequence += 1
        text = json.dumps({"op": Op.DISPATCH, "t": event, "s": self._sequence, "d": data})
        self.sent.append((self._sequence, text))
        await self.send(text)

    async def send(self, text: str) -> None:
        """Send what is no event, if there is a socket."""
        if self.ws is None or self.ws.closed:
            return
        try:
            await self.ws.send_str(text)
        except ClientConnectionResetError:
            self.ws = None

    async def resume(self, ws: web.WebSocketResponse, after: int) -> None:
        """Go on over another socket, first with all events later than ``after``."""
        self.ws = ws
        self.resumes += 1
        for sequence, text in list(self.sent):
            if sequence > after:
                await self.send(text)
        await self.dispatch("RESUMED", {})


class Gateway:
    """Takes connections of bots.

    Attributes:
        sessions: by id.
        heartbeat_ms: how often the next clients are to send a heartbeat.
        away: no socket is accepted.
        voice_requests: when the bot asked to join, move or leave (op 4, monotonic), and the channel's id or None.
    """

    def __init__(
        self,
        bot: User,
        guilds: Callable[[], Iterable[Guild]],
        on_voice_state: Callable[[Session, Json], Awaitable[None]],
        changes: Changes,
    ) -> None:
        self.url = ""  # known when the server listens
        self.sessions: dict[str, Session] = {}
        self._bot = bot
        self._guilds = guilds
        self._on_voice_state = on_voice_state
        self._changes = changes
        self.away = False
        self.heartbeat_ms = HEARTBEAT_MS
        self.voice_requests: list[tuple[float, str | None]] = []
        self._sockets: set[web.WebSocketResponse] = set()
        self._mute: set[web.WebSocketResponse] = set()

    def session_of(self, guild_id: int) -> Session:
        """The newest session that serves this guild.

        Raises:
            LookupError: no bot has identified.
        """
        for session in reversed(self.sessions.values()):
            if session.serves(guild_id):
                return session
        raise LookupError("no bot has connected to the gateway")

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """One socket from first to last."""
        if self.away:
            assert request.transport is not None
            request.transport.abort()
            raise web.HTTPServiceUnavailable
        ws = web.WebSocketResponse(compress=False, max_msg_size=0)
        await ws.prepare(request)
        self._sockets.add(ws)
        await ws.send_str(json.dumps({"op": Op.HELLO, "d": {"heartbeat_interval": self.heartbeat_ms}}))
        session: Session | None = None
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT and ws not in self._mute:
                    session = await self._receive(ws, session, json.loads(message.data))
        finally:
            self._sockets.discard(ws)
            self._mute.discard(ws)
            if session is not None and session.ws is ws:
                session.ws = None
            self._changes.notify()
        return ws

    def silence(self) -> None:
        """The present sockets stay open, and nothing comes of them any more: neither an ack nor an event."""
        self._mute |= self._sockets
        for session in self.sessions.values():
            session.ws = None

    def abort(self) -> None:
        """Every socket breaks without a word; sessions can be resumed."""
        for ws in self._sockets:
            abort(ws)

    async def invalidate(self, *, resumable: bool) -> None:
        """Op 9 to all: they are to resume, or to identify anew since their session is gone."""
        sessions = list(self.sessions.values())
        if not resumable:
            self.sessions.clear()
        for session in sessions:
            await session.send(json.dumps({"op": Op.INVALID_SESSION, "d": resumable}))

    async def close(self) -> None:
        """Close all sockets, as when the server goes."""
        for ws in list(self._sockets):
            await ws.close(code=1001)

    async def _receive(self, ws: web.WebSocketResponse, session: Session | None, message: Json) -> Session | None:
        op, data = message["op"], message["d"]
        if op == Op.HEARTBEAT:
            await ws.send_str(json.dumps({"op": Op.HEARTBEAT_ACK}))
        elif op == Op.IDENTIFY:
            session = await self._identify(ws, data)
        elif op == Op.RESUME:
            session = await self._resume(ws, data)
        elif session is None:
            await ws.close(code=4003, message=b"Not authenticated.")
        elif op == Op.VOICE_STATE:
            self.voice_requests.append((time.monotonic(), data["channel_id"]))
            await asyncio.sleep(VOICE_STATE_LATENCY)
            await self._on_voice_state(session, data)
        elif op != Op.PRESENCE:
            await ws.close(code=4001, message=b"Unknown opcode.")
        self._changes.notify()
        return session

    async def _identify(self, ws: web.WebSocketResponse, data: Json) -> Session | None:
        if data["token"] == REFUSED_TOKEN:
            await ws.close(code=4004, message=b"Authentication failed.")
            return None
        session = Session(data, ws)
        self.sessions[session.id] = session
        guilds = [guild for guild in self._guilds() if session.serves(guild.id)]
        await session.dispatch(
            "READY",
            {
                "v": 10,
                "user": self._bot.payload(),
                "application": {"id": str(self._bot.id), "flags": 0},
                "guilds": [{"id": str(guild.id), "unavailable": True} for guild in guilds],
                "session_id": session.id,
                "resume_gateway_url": self.url,
                "shard": [session.shard, session.shards],
            },
        )
        for guild in guilds:
            await session.dispatch("GUILD_CREATE", guild.payload())
        return session

    async def _resume(self, ws: web.WebSocketResponse, data: Json) -> Session | None:
        session = self.sessions.get(data["session_id"])
        if session is None:
            await ws.send_str(json.dumps({"op": Op.INVALID_SESSION, "d": False}))
            return None
        await session.resume(ws, data["seq"])
        return session
