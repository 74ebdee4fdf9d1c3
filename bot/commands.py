"""The slash commands: parse, call, reply. Each answers at once, in private, with a sentence."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import discord
from discord import app_commands
from discord.utils import format_dt

from bot.bard import Bard
from bot.errors import BotError
from bot.table import Table
from generator.moods import MOODS, parse_mood
from generator.protocol import Controls

log = logging.getLogger(__name__)

APOLOGY: Final = "That went wrong on my side; my log says how. Please try again."
NOTHING_PLAYS: Final = "Nothing plays here. Choose a mood with /mood."
NO_SERVER: Final = "I play in the voice channels of a server. Please ask me there."

_CHOICES: Final = [app_commands.Choice(name=mood, value=str(mood)) for mood in MOODS]
_guild_only = app_commands.allowed_contexts(guilds=True, dms=False, private_channels=False)


def add_commands(bard: Bard) -> None:
    """Puts the commands on the bard's tree."""
    tree = bard.tree

    @tree.command(name="mood", description="Play a mood in your voice channel, or turn to it")
    @app_commands.describe(mood="What the story is like now", intensity="1 is calm, 3 is usual, 5 is all it has")
    @app_commands.choices(mood=_CHOICES)
    @_guild_only
    async def mood(interaction: discord.Interaction, mood: str, intensity: app_commands.Range[int, 1, 5] = 3) -> None:
        async def answer() -> str:
            if not isinstance(interaction.user, discord.Member):
                raise BotError(NO_SERVER)
            return await bard.play(interaction.user, Controls(parse_mood(mood), intensity))

        await respond(bard, interaction, answer)

    @tree.command(name="stop", description="Stop the music and leave")
    @_guild_only
    async def stop(interaction: discord.Interaction) -> None:
        async def answer() -> str:
            stopped = await bard.silence(_guild(interaction))
            return "The music has stopped. /mood brings it back." if stopped else NOTHING_PLAYS

        await respond(bard, interaction, answer)

    @tree.command(name="volume", description="Set how loud the music is")
    @app_commands.describe(percent="0 to 100")
    @_guild_only
    async def volume(interaction: discord.Interaction, percent: app_commands.Range[int, 0, 100]) -> None:
        async def answer() -> str:
            return await bard.set_volume(_guild(interaction), percent)

        await respond(bard, interaction, answer)

    @tree.command(name="now", description="What plays now")
    @_guild_only
    async def now(interaction: discord.Interaction) -> None:
        async def answer() -> str:
            guild = _guild(interaction)
            table = bard.table(guild)
            return NOTHING_PLAYS if table is None else describe(table, bard.volume(guild))

        await respond(bard, interaction, answer)

    @tree.error
    async def on_error(interaction: discord.Interaction, error: app_commands.AppCommandError) -> None:
        # What gets here failed before a command began, e.g. because Discord still shows an older set of commands.
        log.error("a command could not be called: %s", error)
        if not interaction.response.is_done():
            await interaction.response.send_message(APOLOGY, ephemeral=True)


async def respond(bard: Bard, interaction: discord.Interaction, answer: Callable[[], Awaitable[str]]) -> None:
    """Sends what ``answer()`` returns, or the sentence that it raises.

    Discord gives up after 3 s and shows "interaction failed": so the answer is deferred before any work is done.
    """
    try:
        await interaction.response.defer(ephemeral=True, thinking=True)
    except discord.DiscordException as error:
        # Too late, or lost on the way. Nobody will see the answer, but the wish is plain.
        log.warning("an interaction could not be deferred: %s", error)
    bard.asked_by(interaction)
    try:
        sentence = await answer()
    except BotError as error:
        sentence = str(error)
    except Exception:
        log.exception("a command failed")
        sentence = APOLOGY
    try:
        await interaction.followup.send(sentence, ephemeral=True)
    except discord.DiscordException as error:
        log.warning("an answer could not be sent: %s", error)


def describe(table: Table, volume: int) -> str:
    """What plays, as the GM and the admin want to know it."""
    status = table.status()
    controls = status.wish.controls
    lines = [
        f"**{controls.mood.capitalize()}**, intensity {controls.intensity}, in {status.channel}, "
        f"since {format_dt(status.since, 'R')}, volume {volume} %."
    ]
    if not status.connected:
        lines.append("The music generator is away; what was heard last goes on until it is back.")
    elif status.holding:
        lines.append("The music generator is behind; what was heard last goes on until it has caught up.")
    facts = [f"{status.buffered:.1f} s ready"]
    if status.realtime_factor is not None:
        facts.append(f"made {status.realtime_factor:.1f} times faster than played")
    facts += [f"{status.held:.1f} s extended", f"{status.underruns} packets missed"]
    lines.append(f"-# {status.model or 'no model yet'}: {', '.join(facts)}")
    return "\n".join(lines)


def _guild(interaction: discord.Interaction) -> discord.Guild:
    if interaction.guild is None:
        raise BotError(NO_SERVER)
    return interaction.guild
