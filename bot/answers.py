"""How anybody who asks is answered: at once, alone, in their language, and always with a sentence."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import discord

from bot.errors import BotError
from bot.localisation import Sentence, language_of, say
from bot.logs import about
from bot.unreachable import UNREACHABLE

log = logging.getLogger(__name__)

Interaction = discord.Interaction[Any]
Answer = tuple[Sentence, ...] | discord.Embed

DEFER_SECONDS: Final = 3.0  #: then Discord has given up on the interaction
APOLOGY: Final = Sentence("That went wrong on my side; my log says how. Please try again.")


async def respond(interaction: Interaction, answer: Callable[[], Awaitable[Answer]], *, quiet: bool = False) -> None:
    """Says what ``answer()`` returns, or the sentence that it raises.

    Discord gives up after 3 s and shows "interaction failed": so the answer is deferred before any work is done.

    Args:
        interaction: a command's or a button's.
        answer: does what was asked; an empty answer says that it has said all itself.
        quiet: whether what went well needs no words: the panel shows it.
    """
    with about(guild=interaction.guild_id):
        await _respond(interaction, answer, quiet)


async def _respond(interaction: Interaction, answer: Callable[[], Awaitable[Answer]], quiet: bool) -> None:
    try:
        async with asyncio.timeout(DEFER_SECONDS):  # discord.py tries for half a minute, and the music would wait
            await interaction.response.defer(ephemeral=True, thinking=not quiet)
    except UNREACHABLE as error:
        # Too late, or lost on the way. Nobody will see the answer, but the wish is plain.
        log.warning("an interaction could not be deferred: %s", error)
    told: Answer
    try:
        told = await answer()
        if quiet:
            return
    except BotError as error:
        told = (error.sentence,)
    except Exception:
        log.exception("what was asked failed")
        told = (APOLOGY,)
    if told:
        await tell(interaction, told)


async def tell(interaction: Interaction, answer: Answer) -> None:
    """Says it to the person who asked, alone."""
    try:
        if isinstance(answer, discord.Embed):
            await interaction.followup.send(embed=answer, ephemeral=True)
        else:
            await interaction.followup.send(say(answer, reader(interaction)), ephemeral=True)
    except UNREACHABLE as error:
        log.warning("an answer could not be sent: %s", error)


def reader(interaction: Interaction) -> str:
    """The language of the person who asks, as their Discord is set."""
    return language_of(interaction.locale.value)
