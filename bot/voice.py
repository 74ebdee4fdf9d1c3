"""Into a voice channel and out of it, by Discord's rules."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

import aiohttp
import discord

from bot.errors import VoiceError
from bot.floor import forbidden
from bot.localisation import Sentence
from bot.unreachable import UNREACHABLE
from bot.voice_connection import TableVoice

log = logging.getLogger(__name__)

Channel = discord.VoiceChannel | discord.StageChannel

CONNECT_SECONDS: Final = 10.0
_LEAVE_SECONDS: Final = 3.0
_CONFIRMATION_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.02

_ABNORMAL: Final = 1006  #: RFC 6455's close code for a socket that broke without one
_NO_ENCRYPTION: Final = 4017
_HOPELESS: Final = (4004, 4016, 4020, _NO_ENCRYPTION, 4021)  #: close codes that another attempt does not mend


class HopelessVoiceError(VoiceError):
    """A voice channel that can't be joined before somebody has mended something."""


class MovedError(VoiceError):
    """Discord had other plans while the bot was joining.

    Attributes:
        channel: where the bot is to be now.
    """

    def __init__(self, asked: Channel, channel: Channel) -> None:
        super().__init__("Discord refused the voice connection to {channel}. Please try again.", channel=asked.name)
        self.channel = channel


def check(channel: Channel) -> Channel:
    """The channel, if the bot can play there.

    Raises:
        VoiceError: a permission is missing, or the channel is full.
    """
    allowed = channel.permissions_for(channel.guild.me)
    needed = {Sentence("View Channel"): allowed.view_channel, Sentence("Connect"): allowed.connect}
    if isinstance(channel, discord.StageChannel):
        needed[Sentence("Request to Speak")] = allowed.request_to_speak or allowed.mute_members
    else:
        needed[Sentence("Speak")] = allowed.speak
    if missing := tuple(name for name, granted in needed.items() if not granted):
        lacking = forbidden(channel, *missing)
        raise VoiceError(lacking.text, **lacking.facts)
    # A full channel sends no event at all, so asking would only time out. With Move Members one gets in regardless.
    others = channel.voice_states.keys() - {channel.guild.me.id}
    # Where the bot is seen but plays no more, it has to leave first (see connect), and does not keep its place.
    inside = channel.guild.voice_client is not None and channel.guild.voice_client.channel == channel
    full = channel.user_limit and len(others) >= channel.user_limit and not inside
    if full and not allowed.move_members:
        raise VoiceError(
            "{channel} is full: raise its user limit by one for me, or give me Move Members.", channel=channel.name
        )
    return channel


async def connect(channel: Channel, changed: Callable[[], None]) -> TableVoice:
    """A voice connection; what is sent may still have to wait for its encryption.

    Args:
        channel: where; see :func:`check`.
        changed: called when something about the connection has.

    Raises:
        HopelessVoiceError: nor will it, or somebody has shown the bot out meanwhile.
        MovedError: somebody dragged it elsewhere meanwhile, or the channel's server was changed.
        VoiceError: Discord did not let the bot in.
    """
    made: list[TableVoice] = []

    def make(client: discord.Client, where: discord.abc.Connectable) -> TableVoice:
        made.append(TableVoice(client, where, changed=changed))
        return made[-1]

    try:
        return await _connected(channel, make)
    except VoiceError:
        if made and made[-1].dismissed:
            raise HopelessVoiceError(dismissal(channel).text, channel=channel.name) from None
        raise


def dismissal(channel: Channel) -> Sentence:
    """Why the bot stays away from a channel that it was shown out of."""
    return Sentence(
        "Somebody disconnected me from {channel}, so I stay away until I am asked again.", channel=channel.name
    )


def deleted(channel: Channel) -> Sentence:
    """Why the bot has left a channel that is no more."""
    return Sentence("The channel {channel} was deleted, so I have left.", channel=channel.name)


async def _connected(
    channel: Channel, make: Callable[[discord.Client, discord.abc.Connectable], TableVoice]
) -> TableVoice:
    # A client left over from a session that could not be resumed would, 30 s later, throw the new one out.
    if channel.guild.voice_client is not None:
        await leave(channel.guild.voice_client)
    elif channel.guild.me.voice is not None:
        # What a process that was killed left behind. To join the channel in which one is seen already changes nothing.
        with contextlib.suppress(*UNREACHABLE):
            await channel.guild.change_voice_state(channel=None)
    try:
        await be_absent(channel.guild)
        return await channel.connect(
            # All that follows a failure is for the supervisor to decide, so discord.py is to try once.
            cls=make,
            timeout=CONNECT_SECONDS,
            reconnect=False,
            self_deaf=True,
        )
    except asyncio.CancelledError:
        here = channel.guild.me.voice and channel.guild.me.voice.channel
        if channel.guild.voice_client is not None:  # Discord was asked, and may have let the bot in
            await leave(channel.guild.voice_client)
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # So discord.py puts a handshake down when news of another channel, or of another server, comes in between.
        raise MovedError(channel, here if isinstance(here, Channel) else channel) from None
    except TimeoutError:
        raise VoiceError(
            "Discord did not let me into {channel} within {seconds} seconds. Please try again.",
            channel=channel.name,
            seconds=round(CONNECT_SECONDS),
        ) from None
    except discord.ConnectionClosed as error:
        raise refusal(channel.name, error.code) from None
    except RuntimeError as error:  # so discord.py says that a library is missing
        raise HopelessVoiceError(
            "Discord's voice is encrypted, and a library for that is missing ({reason}). Whoever runs this bot has to "
            "install it: pip install davey PyNaCl",
            reason=error,
        ) from None
    except (OSError, aiohttp.ClientError) as error:
        log.warning("joining %s failed: %s", channel, error)
        raise VoiceError("Discord can't be reached at the moment. Please try again soon.") from None
    except discord.DiscordException as error:
        log.warning("joining %s failed: %s", channel, error)
        raise VoiceError(
            "Discord refused the voice connection to {channel}. Please try again.", channel=channel.name
        ) from None


def refusal(channel: str, code: int | None) -> VoiceError:
    """What a close code of the voice server means, as a sentence."""
    if code == _NO_ENCRYPTION:
        return HopelessVoiceError(
            "Discord refuses voice without its end-to-end encryption (close code 4017). Whoever runs this bot has to "
            "bring the library for it up to date: pip install --upgrade davey discord.py"
        )
    facts = {"channel": channel, "code": code or _ABNORMAL}
    if code in _HOPELESS:
        return HopelessVoiceError(
            "Discord refuses me a voice connection to {channel} (close code {code}). Whoever runs this bot should look "
            "into its log.",
            **facts,
        )
    return VoiceError(
        "Discord closed the voice connection to {channel} (close code {code}). Please try again.", **facts
    )


async def leave(voice: discord.VoiceProtocol) -> None:
    """Goes, whatever state the connection is in."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            await voice.disconnect(force=True)
    except (TimeoutError, *UNREACHABLE) as error:
        log.warning("leaving a voice channel: %s", error)


async def be_absent(guild: discord.Guild) -> None:
    """Returns once Discord has said that the bot left: news that came later would end the new connection at once.

    A leave that never reached Discord, or that a process before this one had no time for, is made up for: who joins
    the channel in which he is gets no answer.
    """
    if not await _absent(guild, _CONFIRMATION_SECONDS):
        await guild.change_voice_state(channel=None)
        if not await _absent(guild, _LEAVE_SECONDS):
            log.warning("Discord still sees the bot in voice: joining over it")


async def _absent(guild: discord.Guild, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while guild.me.voice is not None:  # noqa: ASYNC110 - discord.py has no event to await for it
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        return False
    return True
