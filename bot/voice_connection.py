"""One connection to one voice server: it resumes what can be resumed, and says at once when it is over.

discord.py's own way of getting over a lost connection is to leave the channel and join again, for minutes and with a
reader thread that may sit in a select of 30 s; a resume (voice opcode 7) it tries only after 4015, and in vain. Here
a connection resumes while the sound goes on, or it ends, and then another takes its place (``bot.supervisor``).

This leans on private parts of discord.py 2.7, which pyproject pins: how the poller recovers, how the socket is made
and whether a leave is expected have no public face.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import discord
from discord.gateway import DiscordVoiceWebSocket
from discord.utils import MISSING
from discord.voice_state import ConnectionFlowState, VoiceConnectionState

from bot.opus import SILENCE
from generator.protocol import FRAME_SAMPLES

if TYPE_CHECKING:
    from discord.types.voice import GuildVoiceState

log = logging.getLogger(__name__)

RESUME_SECONDS: Final = 4.0  #: then a new connection is the better hope
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
#: Shown out, channel deleted, or a move whose news is yet to come: the gateway says which.
_DISMISSED: Final = (4014, 4022)
#: Of Discord's own close codes those after which its documents say to resume; so do those of any WebSocket.
_RESUMABLE: Final = (4000, 4015)
_DISCORDS_CODES: Final = range(4000, 5000)
_LOST: Final = (TimeoutError, OSError, aiohttp.ClientError)


def gateway_open(guild: discord.Guild) -> bool:
    """Whether Discord can be asked for anything in this guild."""
    return guild._state._get_websocket(guild.id).open


class TableVoice(discord.VoiceClient):
    """A voice client that never sends what nobody can hear, and knows whether it was shown the door.

    Attributes:
        dismissed: a person disconnected the bot, or the channel is gone: stay away.
        lost: the connection is over.
        close_code: with which the voice server closed its socket last, if it did.
        sent: packets of sound that went out so that listeners can hear them.
    """

    def __init__(self, client: discord.Client, channel: discord.abc.Connectable, changed: Callable[[], None]) -> None:
        """As discord.py makes one.

        Args:
            client: the bot.
            channel: where.
            changed: called when something has: it was moved, given the floor, shown out, lost.
        """
        self.dismissed = False
        self.lost = False
        self.close_code: int | None = None
        self.sent = 0
        self._changed = changed
        super().__init__(client, channel)
        self._guild_id = self.channel.guild.id
        self._gateway_session = self._present_session()

    def create_connection_state(self) -> VoiceConnectionState:
        """The state machine below; called by discord.py."""
        return _Connection(self)

    @property
    def encrypted(self) -> bool:
        """Whether listeners can hear what is sent now: DAVE's handshake is done, or the channel has none."""
        return self._connection.dave_protocol_version == 0 or self._connection.can_encrypt

    @property
    def over(self) -> bool:
        """Whether no sound will come through it any more.

        A gateway session that could not be resumed takes the voice connection with it. Nobody says so to discord.py:
        it would go on sending, to nobody.
        """
        return self.lost or self.dismissed or self not in self.client.voice_clients or self._orphaned

    def send_audio_packet(self, data: bytes, *, encode: bool = True) -> None:
        """Sends a packet; called by the player thread. In plain it would be heard by nobody: then time just goes on."""
        if self.encrypted:
            super().send_audio_packet(data, encode=encode)
            self.sent += data != SILENCE
        else:
            self.checked_add("timestamp", FRAME_SAMPLES, 4294967295)

    async def on_voice_state_update(self, data: "GuildVoiceState") -> None:
        """Discord says where the bot is; nowhere, without the bot having asked, is a dismissal."""
        # There is no public way to tell this from a leave of our own.
        if not data["channel_id"] and not self._connection._expecting_disconnect:
            if self._orphaned:  # the end of the session that was, not somebody's wish
                self.end()
            else:
                self.dismissed = True
        await super().on_voice_state_update(data)
        self._changed()

    def end(self) -> None:
        """The connection is over."""
        self.lost = True
        self._changed()

    @property
    def _orphaned(self) -> bool:
        session = self._present_session()
        return session is not None and session != self._gateway_session

    def _present_session(self) -> str | None:
        """The gateway session that serves this guild."""
        return self._state._get_websocket(self._guild_id).session_id


class _Connection(VoiceConnectionState):
    """discord.py's state machine, but for what happens when the connection is lost."""

    voice_client: TableVoice

    def __init__(self, voice_client: TableVoice) -> None:
        """As discord.py makes one."""
        super().__init__(voice_client)
        self._left = False
        self._farewells: set[asyncio.Task[None]] = set()

    async def disconnect(self, *, force: bool = True, cleanup: bool = True, wait: bool = False) -> None:
        """Leaves, without waiting for Discord to confirm it: ``bot.voice.connect`` waits for what the guild says."""
        await super().disconnect(force=force, cleanup=cleanup, wait=False)
        if self.ws is not MISSING:
            await self.ws.close()  # discord.py forgets it when the gateway is away, and its heartbeats would go on

    async def _voice_disconnect(self) -> None:
        # Once, though discord.py asks twice when a handshake fails: such messages are rationed.
        if self._left or self.voice_client.dismissed:
            self.state = ConnectionFlowState.disconnected
            return
        self._left = True
        await super()._voice_disconnect()

    async def _wait_for_state(
        self,
        state: ConnectionFlowState,
        *other_states: ConnectionFlowState,
        timeout: float | None = None,  # noqa: ASYNC109 - discord.py's own signature
    ) -> None:
        # discord.py looks, and begins to listen one turn of the loop later. Discord's two answers to a join come close
        # together, and when the second came in that turn it was missed, and the join took 10 s.
        async with asyncio.timeout(timeout):
            while self.state not in (state, *other_states):
                await self._state_event.wait()

    def _create_socket(self) -> None:
        self.socket = _WakingSocket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self._socket_reader.resume()

    async def _poll_voice_ws(self, reconnect: bool) -> None:
        try:
            while await self._poll():
                pass
        except Exception:  # whatever it was, nobody reads this socket any more
            log.exception("the voice connection to %s stumbled", self.voice_client.channel)
        if not self._expecting_disconnect:
            code = self.voice_client.close_code
            log.warning("the voice connection to %s is over (close code %s)", self.voice_client.channel, code)
        self.voice_client.end()

    async def _poll(self) -> bool:
        """One message, or what has to be done in its place; False at the end."""
        try:
            await self.ws.poll_event()
        except discord.ConnectionClosed as error:
            self.voice_client.close_code = error.code
        except _LOST:
            self.voice_client.close_code = None
        else:
            return True
        return await self._recover()

    async def _recover(self) -> bool:
        """Whether the connection goes on: on another server, if the bot was moved, else by a resume."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + RESUME_SECONDS, _FIRST_PAUSE
        while self.state is not ConnectionFlowState.disconnected:
            code = self.voice_client.close_code
            moved = self.state is not ConnectionFlowState.connected or code in _DISMISSED
            if not moved and code in _DISCORDS_CODES and code not in _RESUMABLE:
                return False
            try:
                async with asyncio.timeout_at(max(until, loop.time() + _LONGEST_PAUSE)):
                    if moved:
                        return await self._potential_reconnect()
                    await self._resume()
                    return True
            except discord.ConnectionClosed as error:
                self.voice_client.close_code = error.code
            except _LOST as error:
                log.info("no voice connection to %s: %r", self.voice_client.channel, error)
            # Without a gateway there is no other way to sound than this one: then it is tried for as long as it takes.
            if loop.time() >= until and gateway_open(self.guild):
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return False

    async def _resume(self) -> None:
        """Another socket to the same server. State, key and UDP stay, and the player thread notices nothing."""
        resumed = asyncio.Event()

        async def watch(_: DiscordVoiceWebSocket, message: dict[str, Any]) -> None:
            if message["op"] == DiscordVoiceWebSocket.RESUMED:
                resumed.set()

        before = self.ws
        ws = await DiscordVoiceWebSocket.from_connection_state(self, resume=True, hook=watch, seq_ack=before.seq_ack)
        ws.secret_key = before.secret_key
        self.ws = ws
        # Ends the old one's heartbeats. A dead socket takes half a minute to close, for which nobody needs to wait.
        farewell = asyncio.create_task(before.close())
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)
        while not resumed.is_set():
            await ws.poll_event()
        # A server that has crashed may know nothing of who was speaking.
        if self.voice_client.is_playing():
            await ws.speak()


class _WakingSocket(socket.socket):
    """A UDP socket whose ``close`` wakes the thread that waits for it: a mere close leaves it in select for 30 s."""

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it was not connected yet
            self.shutdown(socket.SHUT_RDWR)
        super().close()
