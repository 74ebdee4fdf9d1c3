"""All of the loopback Discord behind one object, with what a test does and asks."""

import asyncio
import contextlib
import os
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final, Self

import discord
import trustme
from aiohttp import web

from tests.discord_server.changes import Changes
from tests.discord_server.dave import Dave
from tests.discord_server.faults import Faults
from tests.discord_server.gateway import Gateway, Session
from tests.discord_server.interactions import (
    APPLICATION_COMMAND,
    MESSAGE_COMPONENT,
    Message,
    Reply,
    command_data,
    interaction_payload,
)
from tests.discord_server.listener import Listener
from tests.discord_server.patch import Address, patched
from tests.discord_server.rest import API, Rest
from tests.discord_server.voice import HOST, VoiceServer
from tests.discord_server.world import (
    MUTE_MEMBERS,
    REQUEST_TO_SPEAK,
    STAGE,
    TOKEN,
    Channel,
    Guild,
    Json,
    Member,
    Role,
    User,
    VoiceState,
)

REPOSITORY: Final = Path(__file__).resolve().parents[2]
_GATEWAY_PATH: Final = "/gateway"


class DiscordServer:
    """A Discord on loopback for one bot: ``async with DiscordServer() as discord: …``.

    Attributes:
        guilds: the servers that the bot is in; :attr:`guild` is the first.
        rest: commands, replies and unknown requests, see :class:`Rest`.
        gateway: sessions, see :class:`Gateway`.
        voice: voice connections, see :class:`VoiceServer`.
        faults: what can go wrong, see :class:`Faults`.
        changes: rings at each change; ``until`` waits for a condition.
    """

    def __init__(self, *, guilds: int = 1) -> None:
        self.bot = User("bardcast", bot=True)
        self.guilds = [Guild(f"guild {number}", self.bot) for number in range(1, guilds + 1)]
        self.changes: Changes
        self.rest: Rest
        self.gateway: Gateway
        self.voice: VoiceServer
        self._address: Address
        self.faults = Faults(self)
        self._cleanup = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            await self._start(stack, folder)
            self._cleanup = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._cleanup.aclose()

    async def _start(self, stack: contextlib.AsyncExitStack, folder: Path) -> None:
        authority = trustme.CA()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(HOST).configure_cert(tls)
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))

        self.changes = Changes()
        self.voice = VoiceServer(tls, self.changes)
        await self.voice.start()
        stack.push_async_callback(self.voice.stop)

        self.gateway = Gateway(self.bot, lambda: self.guilds, self._on_voice_state, self.changes)
        self.rest = Rest(self.bot, self.gateway, self._edit_own_voice_state, self.changes)
        app = web.Application(middlewares=[self.rest.middleware])
        app.add_routes([*self.rest.routes(), web.get(_GATEWAY_PATH, self.gateway.handle)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(self.gateway.close)
        await web.TCPSite(runner, HOST, 0).start()
        port = runner.addresses[0][1]
        self.gateway.url = f"ws://{HOST}:{port}{_GATEWAY_PATH}"
        self._address = Address(f"http://{HOST}:{port}{API}", self.gateway.url, folder / "authority.pem")

    # How a bot gets here

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Inside, an unmodified ``discord.Client`` of this process talks to this server."""
        with patched(self._address):
            yield

    @contextlib.asynccontextmanager
    async def connect(self, client: discord.Client, token: str = TOKEN) -> AsyncIterator[discord.Client]:
        """Run ``client`` in this process, from when it is at the gateway; close it at the end."""
        with self.patched():
            running = asyncio.create_task(client.start(token))
            ready = asyncio.create_task(self.wait_ready())
            try:
                await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()  # raises what ended it
                await ready
                yield client
            finally:
                ready.cancel()
                await client.close()
                await asyncio.gather(running, ready, return_exceptions=True)

    def environment(self) -> dict[str, str]:
        """What a child needs in its environment to find this server by ``tests.discord_server.launch``."""
        return self._address.environment()

    async def spawn(
        self, module: str, *arguments: str, env: Mapping[str, str] | None = None, output: int | IO[Any] | None = None
    ) -> asyncio.subprocess.Process:
        """Start ``python -m module arguments…`` as a process of its own that takes this server for Discord.

        ``env`` comes on top of this process's environment; stdout and stderr go to ``output`` (default: ours).
        """
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.discord_server.launch", module, *arguments),
            env={**os.environ, **(env or {}), **self.environment()},
            cwd=REPOSITORY,
            stdout=output,
            stderr=output,
        )

    async def wait_ready(self, *, timeout: float = 15.0) -> None:  # noqa: ASYNC109
        """Return when a bot has identified at the gateway."""
        await self.changes.until(lambda: self.gateway.sessions, timeout=timeout, what="a bot at the gateway")

    def encrypt(self) -> Dave:
        """From now on voice is encrypted end to end; call it before anybody is in voice."""
        self.voice.dave = Dave(self.bot.id)
        return self.voice.dave

    # Who is there

    @property
    def guild(self) -> Guild:
        return self.guilds[0]

    def add_member(self, name: str, *, roles: list[Role] | None = None, guild: Guild | None = None) -> Member:
        """A person in ``guild`` (default: the first)."""
        home = guild or self.guild
        member = Member(home, User(name), list(roles or []))
        home.members.append(member)
        return member

    async def join_voice(self, member: Member, channel: Channel, *, self_deaf: bool = False) -> None:
        """A person enters a voice channel (or moves to it)."""
        await self.set_voice(VoiceState(member, channel, f"person-{member.user.id}", self_deaf=self_deaf))

    async def leave_voice(self, member: Member) -> None:
        """A person leaves voice."""
        await self.set_voice(VoiceState(member, None, f"person-{member.user.id}"))

    def voice_state_of_bot(self, guild: Guild | None = None) -> VoiceState | None:
        """Where the bot is, or None."""
        return (guild or self.guild).bot.voice

    # What a person does

    async def slash(self, member: Member, name: str, /, *, guild: bool = True, **options: Any) -> Reply:
        """``member`` types ``/name`` with ``options``, in the guild's text channel or (``guild=False``) in a DM.

        Returns:
            The reply, from its first answer on; it goes on changing as follow-ups come.

        Raises:
            InteractionFailed: no answer within 3 s.
            LookupError: no such command is registered.
            ValueError: Discord's own input box would not take these options.
        """
        command = await self.command(name, member.guild)
        return await self._interact(APPLICATION_COMMAND, member, command_data(command, options), in_guild=guild)

    async def press(self, member: Member, message: Message, custom_id: str) -> Reply:
        """``member`` presses the button ``custom_id`` under ``message``. Returns and raises as :meth:`slash`."""
        data = {"custom_id": custom_id, "component_type": 2}
        return await self._interact(MESSAGE_COMPONENT, member, data, message=message)

    async def command(self, name: str, guild: Guild | None = None, *, timeout: float = 15.0) -> Json:  # noqa: ASYNC109
        """The command ``name`` as the bot has registered it, for the guild or globally; waits for the first sync.

        Raises:
            LookupError: there is none of this name.
        """
        await self.changes.until(lambda: self.rest.commands, timeout=timeout, what="the bot's commands")
        known = [*self.rest.commands.get((guild or self.guild).id, []), *self.rest.commands.get(None, [])]
        for command in known:
            if command["name"] == name:
                return command
        raise LookupError(f"no command /{name}; there are: {', '.join(c['name'] for c in known)}")

    async def _interact(
        self, kind: int, member: Member, data: Json, *, in_guild: bool = True, message: Message | None = None
    ) -> Reply:
        session = self.gateway.session_of(member.guild.id if in_guild else 0)
        reply = Reply(kind, self.bot, member.guild.general.id, self.changes, message)
        self.rest.replies[reply.token] = reply
        payload = interaction_payload(
            reply, member, data, application_id=self.bot.id, in_guild=in_guild, message=message
        )
        await session.dispatch("INTERACTION_CREATE", payload)
        await reply.wait_answered()
        return reply

    # What is heard

    @property
    def listener(self) -> Listener:
        """What the newest voice connection of the first guild hears."""
        return self.listener_of(self.guild)

    def listener_of(self, guild: Guild) -> Listener:
        """What the newest voice connection of ``guild`` hears."""
        return self.voice.connection_of(guild).listener

    @property
    def listeners(self) -> list[Listener]:
        """Those of all voice connections so far, oldest first: each reconnect makes one more."""
        return [connection.listener for connection in self.voice.connections]

    async def wait_voice(
        self,
        channel: Channel | None = None,
        *,
        packets: int = 1,
        timeout: float = 15.0,  # noqa: ASYNC109
    ) -> Listener:
        """Return when the bot is in ``channel`` (default: the first voice channel) and ``packets`` have come."""
        goal = channel or self.guild.voice
        bot = goal.guild.bot

        def heard() -> bool:
            if bot.voice is None or bot.voice.channel is not goal:
                return False
            with contextlib.suppress(LookupError):
                connection = self.voice.connection_of(goal.guild)
                return connection.open and len(connection.listener.packets) >= packets
            return False

        await self.changes.until(heard, timeout=timeout, what=f"the bot to be heard in {goal.name}")
        return self.listener_of(goal.guild)

    async def wait_gone(self, guild: Guild | None = None, *, timeout: float = 10.0) -> None:  # noqa: ASYNC109
        """Return when the bot has left voice and closed the connection."""
        home = guild or self.guild

        def gone() -> bool:
            return home.bot.voice is None and not any(
                connection.open for connection in self.voice.connections if connection.grant.guild is home
            )

        await self.changes.until(gone, timeout=timeout, what="the bot to leave voice")

    # Voice states

    async def _on_voice_state(self, session: Session, data: Json) -> None:
        """The bot's op 4: it joins, moves, leaves, or mutes itself."""
        guild = next(guild for guild in self.guilds if guild.id == int(data["guild_id"]))
        before = guild.bot.voice
        wanted = data["channel_id"]
        channel = next((item for item in guild.channels if wanted and item.id == int(wanted)), None)
        moves = channel is not None and (before is None or before.channel is not channel)
        if channel is not None and moves and 0 < channel.user_limit <= len(channel.members):
            return  # Discord says nothing to a bot that finds a channel full
        state = VoiceState(guild.bot, channel, session.id, data["self_mute"], data["self_deaf"])
        state.suppress = (
            channel is not None and channel.type == STAGE and (moves or (before is not None and before.suppress))
        )
        if channel is not None or before is not None:
            await self.set_voice(state)
        if channel is None:
            self.voice.revoke(guild)
        elif moves:
            await self.send_voice_server(guild, session.id)

    async def _edit_own_voice_state(self, guild_id: int, data: Json) -> bool:
        """The bot gives itself the floor of a stage, or asks for it; whether it may."""
        guild = next(guild for guild in self.guilds if guild.id == guild_id)
        state = guild.bot.voice
        right = MUTE_MEMBERS if data.get("suppress") is False else REQUEST_TO_SPEAK
        if state is None or not guild.bot.permissions & right:
            return False
        requested = data.get("request_to_speak_timestamp", state.requested_at)
        await self.set_voice(replace(state, suppress=data.get("suppress", state.suppress), requested_at=requested))
        return True

    async def update_channel(self, channel: Channel, **options: Any) -> None:
        """Somebody edits a channel."""
        for name, value in options.items():
            setattr(channel, name, value)
        await self.gateway.session_of(channel.guild.id).dispatch("CHANNEL_UPDATE", channel.payload())

    async def set_voice(self, state: VoiceState) -> None:
        """This is so now, and the bot is told."""
        guild = state.member.guild
        if state.channel is None:
            guild.voice_states.pop(state.member.user.id, None)
        else:
            guild.voice_states[state.member.user.id] = state
        for session in self.gateway.sessions.values():
            if session.serves(guild.id):
                await session.dispatch("VOICE_STATE_UPDATE", state.payload())
        if self.voice.dave is not None and state.member.user is not self.bot:
            await self.voice.dave.person_is_in(state.member.user.id, state.channel.id if state.channel else None)
        self.changes.notify()

    async def send_voice_server(self, guild: Guild, session_id: str) -> None:
        """The bot gets a new right to connect."""
        await self.gateway.session_of(guild.id).dispatch("VOICE_SERVER_UPDATE", self.voice.grant(guild, session_id))
