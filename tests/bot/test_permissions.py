"""Who may change anything: real interactions, as discord.py makes them of Discord's own words."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import discord
import pytest

from bot.bard import Bard
from bot.client import FixedEndpoint
from bot.permissions import NotAllowedError, require_manager
from bot.settings import Settings
from bot.store import GuildSettings, Store
from tests.discord_server import DiscordServer, Guild, Member
from tests.discord_server.interactions import Message
from tests.discord_server.world import ADMINISTRATOR, MANAGE_GUILD

YES = "as you wish"


@contextlib.asynccontextmanager
async def doorkeeper(server: DiscordServer, gm_role: int | None = None) -> AsyncIterator[None]:
    """A bard that says to whoever presses anything whether they may; ``manage`` asks for the manager's right."""
    bard = Bard(FixedEndpoint("http://127.0.0.1:1"), Settings(), Store(), guild_ready_timeout=0.05)

    @bard.event
    async def on_interaction(interaction: discord.Interaction[Any]) -> None:
        assert interaction.data is not None
        try:
            if interaction.data.get("custom_id") == "manage":
                require_manager(interaction)
            else:
                bard.require_gm(interaction)
        except NotAllowedError as error:
            await interaction.response.send_message(str(error), ephemeral=True)
        else:
            await interaction.response.send_message(YES, ephemeral=True)

    async with server.connect(bard):
        await bard.wait_until_ready()
        if gm_role is not None:
            (guild,) = bard.guilds
            await bard.change_settings(guild, GuildSettings(gm_role=gm_role))
        yield


async def press(server: DiscordServer, member: Member, name: str = "music") -> str:
    reply = await server.press(member, Message(member.guild.general.id, server.bot), name)
    return await reply.wait_for_text()


async def test_until_a_role_is_chosen_everybody_may(discord_server: DiscordServer) -> None:
    player = discord_server.add_member("player")
    async with doorkeeper(discord_server):
        assert await press(discord_server, player) == YES
        assert "Manage Server" in await press(discord_server, player, "manage")


async def test_the_role_the_managers_and_nobody_else(discord_server: DiscordServer) -> None:
    role = discord_server.guild.add_role("Dungeon Master")
    managers = discord_server.guild.add_role("Managers", MANAGE_GUILD)
    admins = discord_server.guild.add_role("Admins", ADMINISTRATOR)
    other = discord_server.guild.add_role("Bards")
    gm = discord_server.add_member("gm", roles=[other, role])
    manager, admin, player, nobody = (
        discord_server.add_member(name, roles=roles)
        for name, roles in (("manager", [managers]), ("admin", [admins]), ("player", [other]), ("nobody", []))
    )
    owner = discord_server.guild.owner = discord_server.add_member("owner")
    async with doorkeeper(discord_server, role.id):
        for member in (gm, manager, admin, owner):
            assert await press(discord_server, member) == YES
        for member in (player, nobody):
            assert "in the hands of Dungeon Master" in await press(discord_server, member)
        for member in (manager, admin, owner):
            assert await press(discord_server, member, "manage") == YES
        for member in (gm, player, nobody):
            assert "Manage Server" in await press(discord_server, member, "manage")


async def test_a_role_that_was_deleted_leaves_the_managers(discord_server: DiscordServer) -> None:
    managers = discord_server.guild.add_role("Managers", MANAGE_GUILD)
    manager = discord_server.add_member("manager", roles=[managers])
    player = discord_server.add_member("player")
    async with doorkeeper(discord_server, gm_role=12345):
        assert await press(discord_server, manager) == YES
        assert "was deleted" in await press(discord_server, player)


@pytest.mark.parametrize("name", ["music", "manage"])
async def test_what_is_no_guild_of_the_bots_is_refused(discord_server: DiscordServer, name: str) -> None:
    elsewhere = Guild("elsewhere", discord_server.bot)
    stranger = discord_server.add_member("stranger", guild=elsewhere)
    elsewhere.owner = stranger  # all rights, but not here
    player = discord_server.add_member("player")
    async with doorkeeper(discord_server):
        assert "servers that I was invited to" in await press(discord_server, stranger, name)
        message = Message(player.user.id + 1, discord_server.bot)
        data = {"custom_id": name, "component_type": 2}
        reply = await discord_server._interact(3, player, data, in_guild=False, message=message)
        assert "servers that I was invited to" in await reply.wait_for_text()
