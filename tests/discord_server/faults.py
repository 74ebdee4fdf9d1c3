"""What goes wrong at Discord's end, on demand. One method a fault; each acts at once and returns."""

import json
from typing import TYPE_CHECKING

from tests.discord_server.gateway import Op
from tests.discord_server.world import Channel, Guild, VoiceState

if TYPE_CHECKING:
    from tests.discord_server.server import DiscordServer


class Faults:
    """The faults of one server; where a guild can be named, the first is meant otherwise."""

    def __init__(self, server: "DiscordServer") -> None:
        self._server = server

    async def close_voice(self, code: int, guild: Guild | None = None) -> None:
        """The voice server closes the socket with ``code``; after 4006 what it had granted is void."""
        connection = self._server.voice.connection_of(guild or self._server.guild)
        if code == 4006:
            self._server.voice.revoke(connection.grant.guild)
        if connection.ws is not None:
            await connection.ws.close(code=code)

    async def kick_bot(self, guild: Guild | None = None) -> None:
        """Somebody disconnects the bot from voice: the gateway says so, and the socket closes with 4014."""
        home = guild or self._server.guild
        state = self._present(home)
        await self._server.set_voice(VoiceState(home.bot, None, state.session_id))
        await self.close_voice(4014, home)
        self._server.voice.revoke(home)

    async def move_bot(self, channel: Channel) -> None:
        """Somebody drags the bot to ``channel``: a new grant comes, and the old socket closes with 4014."""
        home = channel.guild
        state = self._present(home)
        old = self._server.voice.connection_of(home).ws
        await self._server.set_voice(VoiceState(home.bot, channel, state.session_id, state.self_mute, state.self_deaf))
        await self._server.send_voice_server(home, state.session_id)
        if old is not None:
            await old.close(code=4014)

    async def drop_gateway(self, code: int = 4000) -> None:
        """The gateway closes all its sockets with ``code``; sessions can be resumed."""
        for session in self._server.gateway.sessions.values():
            if session.ws is not None:
                await session.ws.close(code=code)

    async def ask_reconnect(self) -> None:
        """The gateway asks its clients to reconnect (op 7)."""
        for session in self._server.gateway.sessions.values():
            await session.send(json.dumps({"op": Op.RECONNECT, "d": None}))

    def _present(self, guild: Guild) -> VoiceState:
        """Where the bot is.

        Raises:
            LookupError: it is in no voice channel.
        """
        state = guild.bot.voice
        if state is None:
            raise LookupError(f"the bot is in no voice channel of {guild.name}")
        return state
