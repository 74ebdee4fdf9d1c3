"""Who may change anything. Asked of commands and of buttons alike: whoever knows a button's name can send it."""

from typing import Any, Final

import discord

from bot.errors import BotError

NO_SERVER: Final = "I play in the voice channels of servers that I was invited to. Please ask me there."


class NotAllowedError(BotError):
    """The person who asks may not; the message says who may."""


def require_member(interaction: discord.Interaction[Any]) -> discord.Member:
    """The member who asks, in a guild that the bot is in: not in a DM, and not by a user install elsewhere.

    Raises:
        NotAllowedError: it is no such place.
    """
    guild_id = interaction.guild_id
    if (
        guild_id is None
        or interaction.client.get_guild(guild_id) is None
        or not isinstance(interaction.user, discord.Member)
    ):
        raise NotAllowedError(NO_SERVER)
    return interaction.user


def require_manager(interaction: discord.Interaction[Any]) -> discord.Member:
    """The member who asks, if they manage the server: who may choose the GM role.

    Raises:
        NotAllowedError: they don't.
    """
    member = require_member(interaction)
    if not _manages(interaction):
        raise NotAllowedError("Only somebody with the permission Manage Server can decide that. Please ask them.")
    return member


def require_gm(interaction: discord.Interaction[Any], gm_role: int | None) -> discord.Member:
    """The member who asks, if they may change what the table hears.

    Those are the members of the guild's GM role and whoever manages the server. Until a role is chosen, everybody may
    who may use the commands: a new bot should play at once, and Discord's own Integrations page can narrow that.

    Args:
        interaction: a command's or a component's.
        gm_role: id of the role, if one was chosen.

    Raises:
        NotAllowedError: they may not.
    """
    member = require_member(interaction)
    if gm_role is None or member.get_role(gm_role) is not None or _manages(interaction):
        return member
    role = member.guild.get_role(gm_role)
    if role is None:
        raise NotAllowedError(
            "The role whose members may change the music here was deleted. "
            "Somebody with the permission Manage Server can choose another with /settings."
        )
    raise NotAllowedError(
        "The music is in the hands of {role}. If you should have that role, please ask for it.", role=role.name
    )


def _manages(interaction: discord.Interaction[Any]) -> bool:
    # As Discord resolved them for this interaction: roles, ownership and the channel's overwrites included.
    return interaction.permissions.manage_guild or interaction.permissions.administrator
