"""What goes wrong at Discord's end, on demand. One method a fault; each acts at once and returns."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.discord_server.gateway import Op
from tests.discord_server.world import STAGE, Channel, Guild, VoiceState

if TYPE_CHECKING:
    from tests.discord_server.server import DiscordServer


class Faults:
    """The faults of one server; where a guild can be named, the first is meant otherwise."""

    def __init__(self, server: "DiscordServer") -> None:
        self._server = server

    # The voice server

    async def close_voice(self, code: int, guild: Guild | None = None) -> None:
        """The voice server closes the socket with ``code``; but for 4000 and 4015 what it had granted is void."""
        connection = self._server.voice.connection_of(guild or self._server.guild)
        if code not in (4000, 4015):
            self._server.voice.revoke(connection.grant.guild)
        if connection.ws is not None:
            await connection.ws.close(code=code)

    async def abort_voice(self, guild: Guild | None = None) -> None:
        """The TCP connection of the voice socket breaks; UDP goes on."""
        self._server.voice.connection_of(guild or self._server.guild).abort()

    async def change_region(self, guild: Guild | None = None) -> None:
        """Somebody chooses another region, or the voice server is taken out of service: another endpoint is granted."""
        home = guild or self._server.guild
        old = self._server.voice.connection_of(home).ws
        await self._server.voice.change_region()
        await self._server.send_voice_server(home, self._present(home).session_id)
        if old is not None:
            await old.close(code=4014)

    async def kick_bot(self, guild: Guild | None = None) -> None:
        """Somebody disconnects the bot from voice: the gateway says so, and the socket closes with 4014."""
        home = guild or self._server.guild
        state = self._present(home)
        await self._server.set_voice(VoiceState(home.bot, None, state.session_id))
        await self.close_voice(4014, home)

    async def move_bot(self, channel: Channel) -> None:
        """Somebody drags the bot to ``channel``: a new grant comes, and the old socket closes with 4014."""
        home = channel.guild
        state = self._present(home)
        old = self._server.voice.connection_of(home).ws
        await self._server.set_voice(replace(state, channel=channel, suppress=channel.type == STAGE))
        await self._server.send_voice_server(home, state.session_id)
        if old is not None:
            await old.close(code=4014)

    async def delete_channel(self, channel: Channel) -> None:
        """Somebody deletes the channel in which the bot is; its socket closes with 4022."""
        home = channel.guild
        gone = channel.payload()
        await self._server.set_voice(VoiceState(home.bot, None, self._present(home).session_id))
        home.channels.remove(channel)
        await self._server.gateway.session_of(home.id).dispatch("CHANNEL_DELETE", gone)
        await self.close_voice(4022, home)

    # The stage

    async def let_speak(self, guild: Guild | None = None) -> None:
        """A moderator gives the bot the floor."""
        await self._server.set_voice(replace(self._present(guild), suppress=False, requested_at=None))

    async def decline(self, guild: Guild | None = None) -> None:
        """A moderator strikes the bot off the list of those who ask to speak, or moves it to the audience."""
        await self._server.set_voice(replace(self._present(guild), suppress=True, requested_at=None))

    # The gateway

    async def drop_gateway(self, code: int = 4000) -> None:
        """The gateway closes all its sockets with ``code``; sessions can be resumed."""
        for session in self._server.gateway.sessions.values():
            if session.ws is not None:
                await session.ws.close(code=code)

    async def ask_reconnect(self) -> None:
        """The gateway asks its clients to reconnect (op 7)."""
        for session in self._server.gateway.sessions.values():
            await session.send(json.dumps({"op": Op.RECONNECT, "d": None}))

    async def invalidate_session(self, *, resumable: bool, voice_ends: bool = False) -> None:
        """Op 9. ``voice_ends``: a session that is gone takes the voice connection with it at once."""
        if voice_ends:
            self._server.guild.voice_states.pop(self._server.bot.id, None)
        await self._server.gateway.invalidate(resumable=resumable)
        if voice_ends:
            await self.close_voice(4014)

    # The network

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        """Inside, no voice datagram arrives, in either direction, and nobody says so."""
        self._server.voice.weather.udp_lost = True
        try:
            yield
        finally:
            self._server.voice.weather.udp_lost = False

    @contextlib.contextmanager
    def voice_away(self, *, refuse: int | None = None) -> Iterator[None]:
        """Inside, no voice server takes a socket, or each closes it with ``refuse`` after IDENTIFY and RESUME."""
        weather = self._server.voice.weather
        weather.away, weather.refuses = refuse is None, refuse
        try:
            yield
        finally:
            weather.away, weather.refuses = False, None

    @contextlib.contextmanager
    def network_gone(self) -> Iterator[None]:
        """Inside, there is no Discord: all sockets break, none is accepted, no datagram arrives."""
        self._server.gateway.away = True
        self._server.gateway.abort()
        with self.black_hole(), self.voice_away():
            for connection in self._server.voice.connections:
                connection.abort()
            try:
                yield
            finally:
                self._server.gateway.away = False

    def _present(self, guild: Guild | None = None) -> VoiceState:
        """Where the bot is.

        Raises:
            LookupError: it is in no voice channel.
        """
        home = guild or self._server.guild
        state = home.bot.voice
        if state is None:
            raise LookupError(f"the bot is in no voice channel of {home.name}")
        return state
