"""Leave to speak: on a stage Discord lets nobody hear the bot before somebody has given it the floor."""

import logging
from enum import Enum

import discord

from bot.localisation import Sentence

log = logging.getLogger(__name__)


class Place(Enum):
    """Where the bot stands in its channel."""

    SPEAKER = "it is heard; in an ordinary channel it always is"
    LISTED = "it is on the list of those who ask to speak"
    AUDIENCE = "nobody hears it"


def place(channel: discord.VoiceChannel | discord.StageChannel) -> Place:
    """Where the bot stands now."""
    state = channel.guild.me.voice if isinstance(channel, discord.StageChannel) else None
    if state is None or not state.suppress:
        return Place.SPEAKER
    return Place.LISTED if state.requested_to_speak_at is not None else Place.AUDIENCE


class Floor:
    """The bot's way to the floor in one channel. It asks once: who has declined is not to be asked again."""

    def __init__(self) -> None:
        self._before: Place | None = None

    async def follow(self, channel: discord.VoiceChannel | discord.StageChannel) -> Sentence | None:
        """Asks for the floor if need be; a sentence for the GM if there is something to say."""
        before, self._before = self._before, place(channel)
        if self._before is not Place.AUDIENCE or not isinstance(channel, discord.StageChannel):
            return None
        if before is None:
            return await _ask(channel)
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


async def _ask(channel: discord.StageChannel) -> Sentence | None:
    """Onto the stage if the bot may, else onto the list of those who ask."""
    me = channel.guild.me
    allowed = channel.permissions_for(me)
    try:
        if allowed.mute_members:
            await me.edit(suppress=False)
            return None
        if allowed.request_to_speak:
            await me.request_to_speak()
            return Sentence(
                "{channel} is a stage, so I have asked to speak there. Let me, and the music plays.",
                channel=channel.name,
            )
    except discord.DiscordException as error:
        log.warning("asking to speak in %s failed: %s", channel, error)
    return Sentence(
        "I may not speak on the stage {channel}: invite me to speak, or give my role Request to Speak there.",
        channel=channel.name,
    )
