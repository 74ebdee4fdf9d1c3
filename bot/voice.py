"""Into a voice channel and out of it, by Discord's rules."""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import discord

from bot.errors import VoiceError

if TYPE_CHECKING:
    from discord.types.voice import GuildVoiceState

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 15.0  #: also how long the player thread waits for a lost connection before it gives up
ENCRYPTION_SECONDS: Final = 10.0
_LEAVE_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.02
_SILENCE_SECONDS: Final = 0.1  #: five frames of it, sent by the player thread after the last of the music


class TableVoice(discord.VoiceClient):
    """A voice client that knows whether it was shown the door."""

    def __init__(self, client: discord.Client, channel: discord.abc.Connectable) -> None:
        """As discord.py makes one."""
        super().__init__(client, channel)
        self.dismissed = False  #: a person disconnected the bot, or the channel is gone: stay away

    async def on_voice_state_update(self, data: "GuildVoiceState") -> None:
        """Discord says where the bot is; nowhere, without the bot having asked, is a dismissal."""
        # There is no public way to tell this from the end of discord.py's own attempts to reconnect.
        if not data["channel_id"] and not self._connection._expecting_disconnect:
            self.dismissed = True
        await super().on_voice_state_update(data)

    @property
    def encrypted(self) -> bool:
        """Whether listeners can hear what is sent now: DAVE's handshake is done, or the channel has none."""
        return self._connection.dave_protocol_version == 0 or self._connection.can_encrypt


def check(channel: discord.VoiceChannel | discord.StageChannel) -> discord.VoiceChannel:
    """The channel, if the bot can play there.

    Raises:
        VoiceError: it is a stage or full, or a permission is missing.
    """
    if isinstance(channel, discord.StageChannel):
        raise VoiceError(f"{channel.name} is a stage, where I can't play. Please use an ordinary voice channel.")
    allowed = channel.permissions_for(channel.guild.me)
    needed = {"View Channel": allowed.view_channel, "Connect": allowed.connect, "Speak": allowed.speak}
    if missing := [name for name, granted in needed.items() if not granted]:
        raise VoiceError(
            f"I may not play in {channel.name}: give my role the permission {' and '.join(missing)} there, "
            "then try again."
        )
    # A full channel sends no event at all, so asking would only time out. With Move Members one gets in regardless.
    present = channel.voice_states
    full = channel.user_limit and len(present) >= channel.user_limit and channel.guild.me.id not in present
    if full and not allowed.move_members:
        raise VoiceError(f"{channel.name} is full: raise its user limit by one for me, or give me Move Members.")
    return channel


async def connect(channel: discord.VoiceChannel) -> TableVoice:
    """A voice connection that is ready for sound.

    Raises:
        VoiceError: Discord did not let the bot in.
    """
    # A client left over from a session that could not be resumed would, 30 s later, throw the new one out.
    if channel.guild.voice_client is not None:
        await _disconnect(channel.guild.voice_client)
    await _wait_absent(channel.guild)
    try:
        voice = await channel.connect(cls=TableVoice, timeout=CONNECT_SECONDS, reconnect=True, self_deaf=True)
    except TimeoutError:
        raise VoiceError(
            f"Discord did not let me into {channel.name} within {CONNECT_SECONDS:g} seconds. Please try again; if "
            "it stays so, the log says why (close code 4017 means that the encryption library davey is out of date)."
        ) from None
    except (discord.DiscordException, OSError) as error:
        log.warning("joining %s failed: %s", channel.name, error)
        raise VoiceError(f"Discord refused the voice connection to {channel.name}. Please try again.") from None
    await wait_encrypted(voice)
    return voice


async def _wait_absent(guild: discord.Guild) -> None:
    """Returns once Discord has said that the bot left: news that came later would end the new connection at once."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            while guild.me.voice is not None:  # noqa: ASYNC110 - discord.py has no event to await for it
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        log.warning("Discord still sees the bot in voice in guild %d: joining over it", guild.id)


async def wait_encrypted(voice: TableVoice) -> None:
    """Returns once what is sent can be heard: before that it would go out in plain, to nobody's ear."""
    try:
        async with asyncio.timeout(ENCRYPTION_SECONDS):
            while not voice.encrypted:  # noqa: ASYNC110 - discord.py has no event for it
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        log.warning("no encryption in %s after %g seconds: playing anyway", voice.channel, ENCRYPTION_SECONDS)


async def wait_connected(voice: TableVoice) -> bool:
    """Whether a connection that was lost came back by itself in good time."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            while not voice.is_connected():
                if given_up(voice):
                    return False
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        return False
    return True


async def leave(voice: TableVoice) -> None:
    """Stops, says goodbye with five frames of silence, and goes."""
    playing = voice.is_playing()
    voice.stop()
    if playing and voice.is_connected():
        await asyncio.sleep(_SILENCE_SECONDS)
    if not given_up(voice):
        await _disconnect(voice)


def given_up(voice: TableVoice) -> bool:
    """Whether discord.py has done with this client: it will not connect again."""
    return voice.guild.voice_client is not voice


async def _disconnect(voice: discord.VoiceProtocol) -> None:
    """Discord confirms a leave at once, and one that it does not know of never: discord.py would wait for it."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            await voice.disconnect(force=True)
    except (TimeoutError, discord.DiscordException, OSError) as error:
        log.warning("leaving a voice channel: %s", error)
