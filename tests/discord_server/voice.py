"""A voice server: the WebSocket that agrees on a key, and the UDP port to which the sound goes."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final
from uuid import uuid4

from aiohttp import ClientConnectionResetError, WSMsgType, web

from tests.discord_server import dave
from tests.discord_server.changes import Changes
from tests.discord_server.listener import Listener, Speaking
from tests.discord_server.rtp import MODE
from tests.discord_server.world import Guild, Json

HOST: Final = "127.0.0.1"
HEARTBEAT_MS: Final = 5_000
#: Discord sends RTCP and others' sound. discord.py's reader thread leaves a 30 s select only when something comes.
KEEP_ALIVE_SECONDS: Final = 0.5
_KEEP_ALIVE: Final = b"\x81\xc9\x00\x01\x00\x00\x00\x00"
_DISCOVERY: Final = struct.Struct(">HHI64sH")
#: Holds a second of 50 connections: a stall of this process loses no packet.
_RECEIVE_BUFFER: Final = 4 << 20
#: Linux: the kernel notes the arrival, so that what is measured is the bot and not this event loop.
_SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("@qq")


class Op(IntEnum):
    """Opcodes of the voice gateway, version 8."""

    IDENTIFY = 0
    SELECT_PROTOCOL = 1
    READY = 2
    HEARTBEAT = 3
    SESSION_DESCRIPTION = 4
    SPEAKING = 5
    HEARTBEAT_ACK = 6
    RESUME = 7
    HELLO = 8
    RESUMED = 9


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to connect for a guild's voice, as VOICE_SERVER_UPDATE announces it."""

    guild: Guild
    session_id: str
    token: str


@dataclass(slots=True)
class Weather:
    """What the network and the servers do to all voice connections at present.

    Attributes:
        udp_lost: no datagram arrives, in either direction.
        quiet: the server sends no datagram that was not asked for.
        away: no socket is accepted.
        refuses: the close code with which every IDENTIFY and RESUME is answered, if any.
        unavailable: a socket is answered with HTTP status 503.
        slow: seconds before a socket is accepted.
    """

    udp_lost: bool = False
    quiet: bool = False
    away: bool = False
    refuses: int | None = None
    unavailable: bool = False
    slow: float = 0.0


class Connection:
    """One voice connection of the bot: a UDP port, a key, a listener, and the socket of the moment.

    Attributes:
        close_code: the code with which the client or the server closed the socket, or None.
        lingers: sound counts though the socket is gone: the server holds the session, in hope of a RESUME.
        resumes: how often it was resumed.
    """

    def __init__(self, grant: Grant, ssrc: int, weather: "Weather", changes: Changes) -> None:
        self.lingers = False
        self.resumes = 0
        self._weather = weather
        self.grant = grant
        self.ssrc = ssrc
        self.key = os.urandom(32)
        self.listener = Listener(self.key, ssrc, changes)
        self.ws: web.WebSocketResponse | None = None
        self.close_code: int | None = None
        self.channel: int | None = None  # in which it takes part in the encryption
        self._sent: list[str | bytes] = []  # by sequence number
        self._peer: tuple[str, int] | None = None
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setblocking(False)
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        with contextlib.suppress(OSError):  # elsewhere than on Linux the arrival is when it is read
            self._udp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._udp.bind((HOST, 0))
        loop = asyncio.get_running_loop()
        loop.add_reader(self._udp, self._read)
        self._keep_alive = loop.create_task(self._send_keep_alives())

    @property
    def port(self) -> int:
        port: int = self._udp.getsockname()[1]
        return port

    @property
    def open(self) -> bool:
        """A socket is there or hoped for, and sound counts."""
        return self.ws is not None or self.lingers

    def attach(self, ws: web.WebSocketResponse) -> None:
        """From now on this is the socket (a new one, or the one of a RESUME)."""
        self.ws = ws
        self.lingers = False
        self.listener.ended = None

    def abort(self) -> None:
        """The socket breaks without a word. The session lives on, and what comes by UDP is heard."""
        if self.ws is not None:
            self.lingers = True
            abort(self.ws)

    def detach(self, ws: web.WebSocketResponse) -> None:
        """The socket has closed. What is on its way in the kernel was sent before, and counts."""
        if self.ws is ws:
            self._read()
            self.close_code = ws.close_code
            self.ws = None
            self.listener.ended = None if self.lingers else time.monotonic()

    async def send(self, op: IntEnum, data: object) -> None:
        """Send one message, numbered as version 8 asks; while there is no socket it waits for a RESUME."""
        await self._number(json.dumps({"op": op, "d": data, "seq": len(self._sent)}))

    async def send_dave(self, op: dave.Op, payload: dave.Payload) -> None:
        """Send what concerns the end-to-end encryption."""
        if isinstance(payload, dict):
            await self.send(op, payload)
        else:
            await self._number(struct.pack(">HB", len(self._sent), op) + payload)

    async def resume(self, after: int) -> None:
        """Go on after a RESUME: what was said after ``after`` is said again."""
        missed = self._sent[after + 1 :]
        await self.send(Op.RESUMED, None)
        for message in missed:
            await self._send(message)

    async def _number(self, message: str | bytes) -> None:
        self._sent.append(message)
        await self._send(message)

    async def _send(self, message: str | bytes) -> None:
        if self.ws is not None:
            with contextlib.suppress(ClientConnectionResetError):
                await (self.ws.send_str(message) if isinstance(message, str) else self.ws.send_bytes(message))

    async def close(self) -> None:
        """Let go of the port."""
        self._keep_alive.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keep_alive
        asyncio.get_running_loop().remove_reader(self._udp)
        self._udp.close()

    def _read(self) -> None:
        """Take all that the kernel has."""
        for datagram, arrival, peer in _drain(self._udp):
            if self._weather.udp_lost:
                continue
            if len(datagram) == _DISCOVERY.size and datagram[:4] == b"\x00\x01\x00\x46":
                self._peer = peer
                answer = _DISCOVERY.pack(2, 70, self.ssrc, peer[0].encode(), peer[1])
                self._send_datagram(answer)
            elif len(datagram) == 8:
                self._send_datagram(datagram)  # a client's keep-alive comes back as it is
            elif self.open:
                self.listener.receive(datagram, arrival)

    async def _send_keep_alives(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            if self._weather.quiet:
                continue
            self._send_datagram(_KEEP_ALIVE)

    def _send_datagram(self, datagram: bytes) -> None:
        if self._peer is not None and not self._weather.udp_lost:
            with contextlib.suppress(OSError):  # the client's port may be closed by now
                self._udp.sendto(datagram, self._peer)


class VoiceServer:
    """Takes voice connections over TLS, for those who were granted one.

    Attributes:
        connections: all so far, oldest first.
        attempts: how many sockets asked to be let in, so far.
        weather: what goes wrong at present.
        dave_version: of the end-to-end encryption that is announced; 0, none, unless a test wants to see it missing.
        dave: the encryption itself, where a test wants it; see :class:`tests.discord_server.dave.Dave`.
    """

    def __init__(self, tls: ssl.SSLContext, changes: Changes) -> None:
        self.attempts = 0
        self.weather = Weather()
        self.dave_version = 0
        self.dave: dave.Dave | None = None
        self.connections: list[Connection] = []
        self._tls = tls
        self._changes = changes
        self._grants: dict[int, Grant] = {}
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.5)
        self._port = 0

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._handle)
        return app

    @property
    def endpoint(self) -> str:
        return f"{HOST}:{self._port}"

    async def start(self) -> None:
        await self._runner.setup()
        await self.change_region()

    async def change_region(self) -> None:
        """From now on another endpoint is granted; the old ones go on listening."""
        site = web.TCPSite(self._runner, HOST, 0, ssl_context=self._tls)
        await site.start()
        self._port = self._runner.addresses[-1][1]

    async def stop(self) -> None:
        for connection in self.connections:
            connection.lingers = False
            if connection.ws is not None:
                await connection.ws.close(code=1001)
            await connection.close()
        await self._runner.cleanup()

    def grant(self, guild: Guild, session_id: str) -> Json:
        """A new right to connect (older ones of this guild end); returns VOICE_SERVER_UPDATE."""
        self.revoke(guild)
        grant = self._grants[guild.id] = Grant(guild, session_id, uuid4().hex)
        return {"token": grant.token, "guild_id": str(guild.id), "endpoint": self.endpoint}

    def revoke(self, guild: Guild) -> None:
        """What the bot was granted ends: it has left, or another grant takes its place."""
        self._grants.pop(guild.id, None)
        for connection in self.connections:
            if connection.grant.guild is guild:
                connection.lingers = False

    def connection_of(self, guild: Guild) -> Connection:
        """The newest connection of this guild.

        Raises:
            LookupError: there was none yet.
        """
        for connection in reversed(self.connections):
            if connection.grant.guild is guild:
                return connection
        raise LookupError(f"the bot has made no voice connection in {guild.name}")

    async def _handle(self, request: web.Request) -> web.WebSocketResponse:
        if self.weather.away:
            assert request.transport is not None
            request.transport.abort()
            raise web.HTTPServiceUnavailable
        if self.weather.unavailable:
            raise web.HTTPServiceUnavailable
        await asyncio.sleep(self.weather.slow)
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        await ws.send_str(json.dumps({"op": Op.HELLO, "d": {"v": 8, "heartbeat_interval": HEARTBEAT_MS}}))
        connection: Connection | None = None
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    connection = await self._receive(ws, connection, json.loads(message.data))
                elif message.type is WSMsgType.BINARY and connection is not None:
                    await self._receive_dave(connection, dave.Op(message.data[0]), message.data[1:])
        finally:
            if connection is not None:
                connection.detach(ws)
                if self.dave is not None and connection.channel is not None and not connection.open:
                    await self.dave.bot_leaves(connection.channel, connection.send_dave)
            self._changes.notify()
        return ws

    async def _receive(
        self, ws: web.WebSocketResponse, connection: Connection | None, message: Json
    ) -> Connection | None:
        op, data = message["op"], message["d"]
        if op == Op.HEARTBEAT:
            await ws.send_str(json.dumps({"op": Op.HEARTBEAT_ACK, "d": {"t": data["t"]}}))
        elif op in (Op.IDENTIFY, Op.RESUME):
            connection = await self._authenticate(ws, data, resume=op == Op.RESUME)
        elif connection is None:
            await ws.close(code=4003, message=b"Not authenticated.")
        elif op == Op.SELECT_PROTOCOL:
            # Commonly no DAVE (version 0): a loopback channel is nobody's but the test's.
            encryption = {"dave_protocol_version": self.dave_version if self.dave is None else dave.VERSION}
            description = {"mode": MODE, "secret_key": list(connection.key), **encryption}
            await connection.send(Op.SESSION_DESCRIPTION, description)
            await self._encrypt(connection)
        elif op == Op.SPEAKING:
            connection.listener.speaking.append(Speaking(time.monotonic(), data["speaking"]))
        elif op in (dave.Op.READY_FOR_TRANSITION, dave.Op.INVALID_COMMIT_WELCOME):
            await self._receive_dave(connection, dave.Op(op), data)
        else:
            await ws.close(code=4001, message=b"Unknown opcode.")
        self._changes.notify()
        return connection

    async def _encrypt(self, connection: Connection) -> None:
        """From now on this connection takes part in its channel's encryption."""
        state = connection.grant.guild.bot.voice
        if self.dave is not None and state is not None and state.channel is not None:
            channel = connection.channel = state.channel.id
            connection.listener.unseal = partial(self.dave.hear, channel)
            await self.dave.bot_joins(channel, connection.send_dave)

    async def _receive_dave(self, connection: Connection, op: dave.Op, payload: dave.Payload) -> None:
        if self.dave is not None and connection.channel is not None:
            await self.dave.bot_says(connection.channel, op, payload)

    async def _authenticate(self, ws: web.WebSocketResponse, data: Json, *, resume: bool) -> Connection | None:
        self.attempts += 1
        if self.weather.refuses is not None:
            await ws.close(code=self.weather.refuses)
            return None
        grant = self._grants.get(int(data["server_id"]))
        if grant is None or (grant.session_id, grant.token) != (data["session_id"], data["token"]):
            await ws.close(code=4006, message=b"Session is no longer valid.")
            return None
        if resume:
            held = [connection for connection in self.connections if connection.grant is grant]
            if not held:
                await ws.close(code=4006, message=b"Session is no longer valid.")
                return None
            held[-1].attach(ws)
            held[-1].resumes += 1
            await held[-1].resume(data["seq_ack"])
            return held[-1]
        connection = Connection(grant, len(self.connections) + 1, self.weather, self._changes)
        self.connections.append(connection)
        connection.attach(ws)
        ready = {"ssrc": connection.ssrc, "ip": HOST, "port": connection.port, "modes": [MODE]}
        await connection.send(Op.READY, ready)
        return connection


def abort(ws: web.WebSocketResponse) -> None:
    """Breaks the TCP connection: no WebSocket or TLS farewell."""
    # Through the request, since aiohttp has no public way to drop a WebSocket without saying goodbye.
    transport = ws._req.transport if ws._req is not None else None
    if transport is not None:
        transport.abort()


def _drain(udp: socket.socket) -> Iterator[tuple[bytes, float, tuple[str, int]]]:
    """Each waiting datagram, its arrival on the clock of ``time.monotonic``, and its sender."""
    while True:
        try:
            datagram, ancillary, _, peer = udp.recvmsg(2048, 64)
        except OSError:  # nothing more, or the news that an answer of ours found no port
            return
        now, age = time.monotonic(), 0.0
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                age = time.time() - (seconds + nanoseconds * 1e-9)
        yield datagram, now - age, peer
