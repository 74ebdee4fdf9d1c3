"""The slash commands: parse, call, reply."""

import logging
from dataclasses import replace
from typing import Final

import discord
from discord import app_commands

from bot import keep as keeping
from bot import panel as panels
from bot.answers import APOLOGY, Answer, Interaction, reader, respond, tell
from bot.bard import Bard
from bot.buttons import add_buttons
from bot.errors import NothingPlays
from bot.localisation import LANGUAGES, Sentence, say
from bot.panel_messages import PanelMessages
from bot.permissions import require_manager, require_member
from generator.moods import MOODS, Mood
from generator.protocol import FRAME_SECONDS, TRANSITIONS, Controls, Transition

log = logging.getLogger(__name__)

_MINUTE: Final = 60
_MOODS: Final = [app_commands.Choice(name=mood, value=str(mood)) for mood in MOODS]
_TRANSITIONS: Final = [app_commands.Choice(name=transition, value=str(transition)) for transition in TRANSITIONS]
_LANGUAGES: Final = [app_commands.Choice(name=name, value=code) for code, name in LANGUAGES.items()]
_guild_only = app_commands.allowed_contexts(guilds=True, dms=False, private_channels=False)


def add_commands(bard: Bard) -> None:
    """Puts the commands on the bard's tree, and has it answer the panel's buttons."""
    add_buttons(bard)
    _add_music(bard)
    _add_views(bard, PanelMessages(bard))
    _add_settings(bard)

    @bard.tree.error
    async def on_error(interaction: Interaction, error: app_commands.AppCommandError) -> None:
        # What gets here failed before a command began, e.g. because Discord still shows an older set of commands.
        log.error("a command could not be called: %s", error)
        if not interaction.response.is_done():
            await interaction.response.send_message(APOLOGY.to(reader(interaction)), ephemeral=True)


def _add_music(bard: Bard) -> None:
    """What changes the music: the GM's."""

    @bard.tree.command(name="mood", description="Play a mood in your voice channel, or turn to it")
    @app_commands.describe(
        mood="What the story is like now",
        intensity="1 is calm, 3 is usual, 5 is all it has",
        blend="A second mood, mixed in",
        transition="How the music turns: slow over some seconds, or sudden on the next beat",
    )
    @app_commands.choices(mood=_MOODS, blend=_MOODS, transition=_TRANSITIONS)
    @_guild_only
    async def mood(
        interaction: Interaction,
        mood: str,
        intensity: app_commands.Range[int, 1, 5] = 3,
        blend: str | None = None,
        transition: str = "sudden",
    ) -> None:
        async def answer() -> Answer:
            second = Mood(blend) if blend is not None else None
            how: Transition = "slow" if transition == "slow" else "sudden"
            controls = Controls(Mood(mood), intensity, second)
            return await bard.play(bard.require_gm(interaction), lambda _: controls, how)

        await respond(interaction, answer)

    @bard.tree.command(name="stop", description="Stop the music and leave")
    @_guild_only
    async def stop(interaction: Interaction) -> None:
        async def answer() -> Answer:
            if not await bard.silence(bard.require_gm(interaction).guild):
                raise NothingPlays
            return (Sentence("The music has stopped. /mood brings it back."),)

        await respond(interaction, answer)

    @bard.tree.command(name="pause", description="Pause the music, and stay")
    @_guild_only
    async def pause(interaction: Interaction) -> None:
        async def answer() -> Answer:
            if not await bard.pause(bard.require_gm(interaction).guild):
                raise NothingPlays
            return (Sentence("Paused. /resume lets the music go on."),)

        await respond(interaction, answer)

    @bard.tree.command(name="resume", description="Let paused music go on")
    @_guild_only
    async def resume(interaction: Interaction) -> None:
        async def answer() -> Answer:
            if not await bard.resume(bard.require_gm(interaction).guild):
                raise NothingPlays
            return (Sentence("The music goes on."),)

        await respond(interaction, answer)

    @bard.tree.command(name="volume", description="Set how loud the music is")
    @app_commands.describe(percent="0 to 100")
    @_guild_only
    async def volume(interaction: Interaction, percent: app_commands.Range[int, 0, 100]) -> None:
        async def answer() -> Answer:
            guild = bard.require_gm(interaction).guild
            later = bard.set_volume(guild, percent)
            done = Sentence("Volume {percent} %.", percent=percent)
            return (done, *later) if bard.playing(guild) else (done, Sentence("It holds from the next mood on."))

        await respond(interaction, answer)

    @bard.tree.command(name="keep", description="Post what the table heard in the last two minutes, as a file")
    @_guild_only
    async def keep(interaction: Interaction) -> None:
        async def answer() -> Answer:
            bard.require_gm(interaction)
            file = await keeping.keep(bard, interaction)
            # First the private answer: the first after "thinking…" takes its place, and nobody but the GM would see it.
            await tell(interaction, (Sentence("Here it is, for everybody to keep."),))
            await keeping.post(bard, interaction, file)
            return ()

        await respond(interaction, answer)


def _add_views(bard: Bard, panel_messages: PanelMessages) -> None:
    """What shows how things stand."""

    @bard.tree.command(name="now", description="What plays now")
    @_guild_only
    async def now(interaction: Interaction) -> None:
        async def answer() -> Answer:
            guild = require_member(interaction).guild
            return _describe(bard, guild, reader(interaction))

        await respond(interaction, answer)

    @bard.tree.command(name="panel", description="Post a panel with buttons for all of it")
    @_guild_only
    async def panel(interaction: Interaction) -> None:
        async def answer() -> Answer:
            bard.require_gm(interaction)
            await panel_messages.open(interaction)
            return (Sentence("The panel is here. Pin it, and it stays at hand."),)

        await respond(interaction, answer)


def _add_settings(bard: Bard) -> None:
    @bard.tree.command(name="settings", description="Who may change the music, and how long an empty table is kept")
    @app_commands.describe(
        gm_role="Whose members may change the music; @everyone for everybody",
        pause_after="Minutes without a listener until the music pauses",
        leave_after="Minutes without a listener until the bot leaves",
        language="In which the panel is written; your own answers follow your Discord",
    )
    @app_commands.choices(language=_LANGUAGES)
    @app_commands.default_permissions(manage_guild=True)
    @_guild_only
    async def settings(
        interaction: Interaction,
        gm_role: discord.Role | None = None,
        pause_after: app_commands.Range[int, 1, 720] | None = None,
        leave_after: app_commands.Range[int, 1, 720] | None = None,
        language: str | None = None,
    ) -> None:
        async def answer() -> Answer:
            guild = require_manager(interaction).guild
            new = bard.guild_settings(guild)
            if gm_role is not None:
                new = replace(new, gm_role=None if gm_role.is_default() else gm_role.id)
            if pause_after is not None:
                new = replace(new, pause_after=pause_after * _MINUTE)
            if leave_after is not None:
                new = replace(new, leave_after=leave_after * _MINUTE)
            if language is not None:
                new = replace(new, language=language)
            if new != bard.guild_settings(guild):
                await bard.change_settings(guild, new)
            return _decisions(bard, guild, reader(interaction))

        await respond(interaction, answer)


def _describe(bard: Bard, guild: discord.Guild, language: str) -> discord.Embed:
    """What plays, as the GM and, in the last line, the admin want to know it.

    Raises:
        NothingPlays: there is nothing to describe.
    """
    music, table = panels.music(bard, guild), bard.table(guild)
    if music is None:
        raise NothingPlays
    shown = panels.embed(music, bard.volume(guild), language, picture=False)
    if table is not None:
        status = table.status()
        facts = [
            Sentence(
                "{model}: {ready} s ready, {held} s extended, {missed} packets missed.",
                model=status.model or "–",
                ready=f"{status.buffered:.1f}",
                held=f"{status.frames.held * FRAME_SECONDS:.1f}",
                missed=status.frames.silent,
            )
        ]
        if status.realtime_factor is not None:
            pace = f"{status.realtime_factor:.1f}"
            facts.append(Sentence("Made {pace} times as fast as it is played.", pace=pace))
        shown.set_footer(text=say(facts, language))
    return shown


def _decisions(bard: Bard, guild: discord.Guild, language: str) -> discord.Embed:
    """The guild's settings."""
    decided, patience = bard.guild_settings(guild), bard.patience(guild)
    who = "@everyone"
    if decided.gm_role is not None:
        role = guild.get_role(decided.gm_role)
        who = role.mention if role is not None else Sentence("a role that was deleted; choose another").to(language)
    shown = discord.Embed(title=Sentence("Settings").to(language))
    for name, value in (
        (Sentence("Who may change the music"), who),
        (Sentence("An empty table pauses after"), _minutes(patience.pause_after, language)),
        (Sentence("An empty table is left after"), _minutes(patience.leave_after, language)),
        (Sentence("Language of the panel"), LANGUAGES[panels.language(bard, guild)]),
    ):
        shown.add_field(name=name.to(language), value=value, inline=False)
    return shown


def _minutes(seconds: float, language: str) -> str:
    return Sentence("{minutes} min", minutes=f"{seconds / _MINUTE:g}").to(language)
