"""Leave to speak: on a stage Discord lets nobody hear the bot before somebody has given it the floor."""

import asyncio
import logging
from enum import Enum
from typing import Final

import discord

from bot.localisation import Sentence
from bot.unreachable import UNREACHABLE

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 2.0


class Place(Enum):
    """Where the bot stands in its channel."""

    SPEAKER = "it is heard"
    LISTED = "it is on the list of those who ask to speak"
    AUDIENCE = "nobody hears it"


def place(channel: discord.VoiceChannel | discord.StageChannel) -> Place:
    """Where the bot stands now."""
    if _muted(channel):
        return Place.AUDIENCE
    if not isinstance(channel, discord.StageChannel):
        # Of who may not connect, discord.py says that he may not speak; but who is in there already is heard.
        allowed = channel.permissions_for(channel.guild.me)
        return Place.SPEAKER if allowed.speak or not allowed.connect else Place.AUDIENCE
    state = channel.guild.me.voice
    if state is None or not state.suppress:
        return Place.SPEAKER
    return Place.LISTED if state.requested_to_speak_at is not None else Place.AUDIENCE


class Floor:
    """The bot's way to the floor in one channel. It asks once: who has declined is not to be asked again."""

    def __init__(self) -> None:
        self._before: Place | None = None
        self._forbidden = False

    async def follow(self, channel: discord.VoiceChannel | discord.StageChannel) -> Sentence | None:
        """Asks for the floor if need be; a sentence for the GM if there is something to say."""
        before, self._before = self._before, place(channel)
        if self._before is not Place.AUDIENCE:
            return None
        if _muted(channel):
            return Sentence(
                "I am muted in {channel}. Unmute me there or call me to another channel, and the music goes on.",
                channel=channel.name,
            )
        if not isinstance(channel, discord.StageChannel):
            return forbidden(channel, Sentence("Speak"))
        before_forbidden, self._forbidden = self._forbidden, not may_ask(channel)
        if before is None or (before_forbidden and not self._forbidden):
            try:
                return await _ask(channel)
            except TimeoutError:
                self._before = None  # it was not asked yet
                log.warning("asking to speak in %s takes long: another attempt follows", channel)
                return None
        if before is Place.LISTED:
            return Sentence(
                "My wish to speak on the stage {channel} was declined. Invite me to speak, and the music plays.",
                channel=channel.name,
            )
        if before is Place.SPEAKER:
            return Sentence(
                "I was moved to the audience of {channel}. Invite me to speak, and the music goes on.",
                channel=channel.name,
            )
        return None


def _muted(channel: discord.VoiceChannel | discord.StageChannel) -> bool:
    """Whether the server mutes the bot, or everybody, as in the channel of those who are away."""
    state = channel.guild.me.voice
    return state is not None and (state.mute or (state.suppress and not isinstance(channel, discord.StageChannel)))


def may_ask(channel: discord.StageChannel) -> bool:
    """Whether the bot may go onto a stage, or ask to."""
    allowed = channel.permissions_for(channel.guild.me)
    return allowed.request_to_speak or allowed.mute_members


def forbidden(channel: discord.VoiceChannel | discord.StageChannel, *permissions: Sentence) -> Sentence:
    """What the bot lacks to play there."""
    return Sentence(
        "I may not play in {channel}: give my role the permission {permissions} there, then try again.",
        channel=channel.name,
        permissions=permissions,
    )


async def _ask(channel: discord.StageChannel) -> Sentence | None:
    """Onto the stage if the bot may, else onto the list of those who ask.

    Raises:
        TimeoutError: Discord puts it off, and there is more to look after than this.
    """
    me = channel.guild.me
    allowed = channel.permissions_for(me)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            if allowed.mute_members:
                await me.edit(suppress=False)
                return None
            if allowed.request_to_speak:
                await me.request_to_speak()
                return Sentence(
                    "{channel} is a stage, so I have asked to speak there. Let me, and the music plays.",
                    channel=channel.name,
                )
    except TimeoutError:
        raise
    except UNREACHABLE as error:
        log.warning("asking to speak in %s failed: %s", channel, error)
    return Sentence(
        "I may not speak on the stage {channel}: invite me to speak, or give my role Request to Speak there.",
        channel=channel.name,
    )
