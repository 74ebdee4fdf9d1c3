"""What the panel's buttons do. Each press is asked for its right anew: anybody can send any button's name."""

from collections.abc import Mapping
from dataclasses import replace

import discord

from bot import panel
from bot.answers import Answer, Interaction, respond
from bot.bard import Bard
from bot.errors import BotError, NothingPlays
from bot.keep import keep, post
from generator.moods import MOODS, Mood
from generator.protocol import INTENSITIES, Controls


def add_buttons(bard: Bard) -> None:
    """Has the bard answer presses, whatever message they come from."""

    @bard.event
    async def on_interaction(interaction: Interaction) -> None:
        if interaction.type is discord.InteractionType.component:
            await respond(interaction, lambda: press(bard, interaction), quiet=True)


async def press(bard: Bard, interaction: Interaction) -> Answer:
    """Does what the button is for.

    Raises:
        BotError: it can't be done, or not by this person.
    """
    member = bard.require_gm(interaction)
    guild, there_was = member.guild, True
    data: Mapping[str, object] = {**(interaction.data or {})}
    button = panel.parse(data.get("custom_id"))
    if button is None:
        raise BotError("I know no such button. /panel makes a new panel.")
    if button in MOODS:
        mood = Mood(button)
        return await bard.play(member, lambda heard: replace(heard or Controls(mood), mood=mood, blend=None))
    if button in ("quieter", "louder"):
        step = panel.VOLUME_STEP if button == "louder" else -panel.VOLUME_STEP
        bard.set_volume(guild, max(0, min(100, bard.volume(guild) + step)))
    elif button == "keep":
        await post(bard, interaction, await keep(bard, interaction))
    elif button == "pause":
        there_was = await bard.pause(guild)
    elif button == "resume":
        there_was = await bard.resume(guild)
    elif button == "stop":
        there_was = await bard.silence(guild)
    else:
        step = 1 if button == "stronger" else -1
        await bard.turn(guild, lambda heard: _pushed(heard, step))
    if not there_was:
        raise NothingPlays
    return ()


def _pushed(heard: Controls | None, step: int) -> Controls:
    """One step calmer or wilder, as far as it goes."""
    if heard is None:
        raise NothingPlays
    intensity = max(INTENSITIES.start, min(INTENSITIES.stop - 1, heard.intensity + step))
    return replace(heard, intensity=intensity)
