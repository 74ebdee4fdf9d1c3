"""The slash commands as Discord gets them, and what people who use them read."""

import asyncio
import contextlib
import io
import unicodedata
from collections.abc import AsyncIterator
from typing import Any

import av
import discord
import numpy as np
import pytest
from av.container import InputContainer

from bot.bard import Bard
from bot.client import FixedEndpoint
from bot.commands import add_commands
from bot.fake import FakeGenerator
from bot.heard import KEPT_SECONDS
from bot.localisation import ENGLISH, LANGUAGES, language_of, load
from bot.settings import Settings
from bot.store import GuildSettings, Store
from bot.translator import CatalogTranslator
from generator.moods import MOODS, Mood
from generator.protocol import TRANSITIONS, Controls
from tests.bot.conftest import pitch
from tests.discord_server import DiscordServer, Member
from tests.discord_server.rest import Failure
from tests.discord_server.world import MANAGE_GUILD

#: Discord's locales whose language is spoken here, without the English ones, which are the commands' own.
LOCALES = [locale.value for locale in discord.Locale if language_of(locale.value) != ENGLISH]


@contextlib.asynccontextmanager
async def running(discord_server: DiscordServer, fake: FakeGenerator) -> AsyncIterator[Bard]:
    bard = Bard(FixedEndpoint(fake.url), Settings(volume=100), Store())
    add_commands(bard)
    async with discord_server.connect(bard):
        yield bard
    assert discord_server.rest.unknown == []


@pytest.fixture
async def gm(discord_server: DiscordServer) -> Member:
    member = discord_server.add_member("gm", roles=[discord_server.guild.add_role("admin", MANAGE_GUILD)])
    await discord_server.join_voice(member, discord_server.guild.voice)
    return member


# What Discord is told


@pytest.fixture(scope="module")
def commands() -> list[dict[str, Any]]:
    """The payload of the sync."""

    async def payload() -> list[Any]:
        bard = Bard(FixedEndpoint("http://127.0.0.1:1"), Settings(), Store())
        add_commands(bard)
        translator = CatalogTranslator()
        return [await command.get_translated_payload(bard.tree, translator) for command in bard.tree.get_commands()]

    return asyncio.run(payload())


def check_name(name: str) -> None:
    """By Discord's own rule: ^[-_'\\p{L}\\p{N}\\p{sc=Deva}\\p{sc=Thai}]{1,32}$, and lower case where there is one."""
    assert 1 <= len(name) <= 32
    assert name == name.lower()
    assert all(letter in "-_'" or unicodedata.category(letter)[0] in "LN" for letter in name), name


def localised(item: dict[str, Any], field: str) -> dict[str, str]:
    """The field in every locale; none is missing."""
    others = item.get(f"{field}_localizations") or {}
    assert sorted(others) == sorted(LOCALES), f"{item[field]!r} lacks a language"
    return {"en-US": item[field], **others}


def test_all_that_discord_shows_is_within_its_limits_and_in_every_language(commands: list[dict[str, Any]]) -> None:
    for command in commands:
        for item in (command, *command["options"]):
            for name in localised(item, "name").values():
                check_name(name)
            assert all(1 <= len(text) <= 100 for text in localised(item, "description").values())
            for choice in item.get("choices", ()):
                own = choice["name"] in LANGUAGES.values()  # a language is called by its own name, everywhere
                names = {"": choice["name"]} if own else localised(choice, "name")
                assert all(1 <= len(name) <= 100 for name in names.values())
            assert len(item.get("choices", ())) <= 25
        size = sum(len(text) for item in (command, *command["options"]) for text in (item["name"], item["description"]))
        assert size <= 8_000


@pytest.mark.parametrize("locale", ["en-US", *LOCALES])
def test_names_are_unique_in_each_language(commands: list[dict[str, Any]], locale: str) -> None:
    names = [localised(command, "name")[locale] for command in commands]
    assert len(set(names)) == len(names)
    for command in commands:
        options = [localised(option, "name")[locale] for option in command["options"]]
        assert len(set(options)) == len(options)


def test_every_name_in_a_catalog_is_of_something(commands: list[dict[str, Any]]) -> None:
    names = {item["name"] for command in commands for item in (command, *command["options"])}
    for language in LANGUAGES:
        if language != ENGLISH:
            assert set(load(language).names) == names


def test_what_can_be_chosen(commands: list[dict[str, Any]]) -> None:
    by_name = {command["name"]: command for command in commands}
    assert set(by_name) == {"mood", "stop", "pause", "resume", "volume", "now", "panel", "keep", "settings"}
    options = {option["name"]: option for option in by_name["mood"]["options"]}
    assert [choice["value"] for choice in options["mood"]["choices"]] == list(MOODS)
    assert [choice["value"] for choice in options["blend"]["choices"]] == list(MOODS)
    assert [choice["value"] for choice in options["transition"]["choices"]] == list(TRANSITIONS)
    assert {name for name, option in options.items() if option.get("required")} == {"mood"}
    assert all(command["contexts"] == [0] for command in commands)  # servers, and neither DMs nor group chats
    assert int(by_name["settings"]["default_member_permissions"]) == MANAGE_GUILD
    assert by_name["mood"]["default_member_permissions"] is None


# What people read


async def test_the_music_obeys_and_the_gm_reads_it_in_their_language(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    gm.user.locale = "de"
    async with running(discord_server, fake) as bard:
        for command in ("stop", "pause", "resume", "now", "keep"):
            reply = await discord_server.slash(gm, command)
            assert "/stimmung" in await reply.wait_for_text()
            assert reply.ephemeral
            assert reply.seconds < 2.0
        reply = await discord_server.slash(gm, "volume", percent=70)
        assert await reply.wait_for_text() == "Lautstärke 70 %. Sie gilt ab der nächsten Stimmung."
        reply = await discord_server.slash(gm, "mood", mood="fight", blend="sad", intensity=4, transition="slow")
        assert "Kampf mit traurig, Stärke 4" in await reply.wait_for_text("table")
        guild = bard.guilds[0]
        playing = bard.playing(guild)
        assert playing is not None
        assert playing.controls == Controls(Mood("fight"), 4, Mood("sad"))
        await discord_server.wait_voice(packets=10)
        reply = await discord_server.slash(gm, "pause")
        await reply.wait_for_text("/weiter")
        reply = await discord_server.slash(gm, "now")
        assert "⏸️ Angehalten." in await reply.wait_for_text("Kampf + 🌧️ Traurig")
        reply = await discord_server.slash(gm, "resume")
        await reply.wait_for_text("Die Musik geht weiter.")
        reply = await discord_server.slash(gm, "mood", mood="fight", blend="fight")  # a mood with itself is that mood
        await reply.wait_for_text("Kampf")
        playing = bard.playing(guild)
        assert playing is not None
        assert playing.controls == Controls(Mood("fight"))
        reply = await discord_server.slash(gm, "stop")
        assert "/stimmung" in await reply.wait_for_text("Die Musik ist aus")


async def test_what_was_heard_is_posted_for_all_and_pauses_are_not_in_it(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    async with running(discord_server, fake) as bard:
        await discord_server.slash(gm, "mood", mood="town")
        listener = await discord_server.wait_voice(packets=50)
        await discord_server.slash(gm, "pause")
        await asyncio.sleep(1.0)
        table = bard.table(bard.guilds[0])
        assert table is not None
        heard = len(table.heard.last(KEPT_SECONDS))
        reply = await discord_server.slash(gm, "keep")
        await discord_server.changes.until(lambda: len(reply.messages) == 2, timeout=20, what="two messages")
        answer, post = reply.messages
        assert answer.ephemeral
        assert not answer.files
        assert not post.ephemeral
        ((name, body),) = post.files.items()
        assert name.endswith(".ogg")
        with av.open(io.BytesIO(body)) as container:
            assert isinstance(container, InputContainer)
            frames = [frame.to_ndarray().astype(np.float32) for frame in container.decode(audio=0)]
        seconds = sum(frame.shape[1] for frame in frames) / 48_000
        assert seconds == pytest.approx(heard * 0.02, abs=0.02)
        assert heard <= len(listener.packets) + 20
        assert pitch(np.concatenate(frames, axis=1).T[-24_000:-7_200]) == "town"  # its end fades
        discord_server.rest.failures.append(Failure("/webhooks/", 403, times=2))
        reply = await discord_server.slash(gm, "keep")
        assert reply.messages == []
        await reply.wait_for_text("Discord does not let me post the file here")


async def test_settings_are_the_managers(discord_server: DiscordServer, fake: FakeGenerator, gm: Member) -> None:
    role = discord_server.guild.add_role("Keeper")
    player = discord_server.add_member("player", roles=[role])
    async with running(discord_server, fake) as bard:
        reply = await discord_server.slash(player, "settings", leave_after=1)
        assert "Manage Server" in await reply.wait_for_text()
        reply = await discord_server.slash(gm, "settings")
        text = await reply.wait_for_text("1 min")
        assert "10 min" in text
        assert "English" in text
        assert reply.ephemeral
        guild = bard.guilds[0]
        assert bard.guild_settings(guild) == GuildSettings()
        reply = await discord_server.slash(gm, "settings", pause_after=5, leave_after=30, language="pl")
        text = await reply.wait_for_text("30 min")
        assert "Polski" in text
        assert bard.guild_settings(guild) == GuildSettings(pause_after=300, leave_after=1_800, language="pl")
        reply = await discord_server.slash(gm, "settings", gm_role=role)
        await reply.wait_for_text(f"<@&{role.id}>")
        assert bard.guild_settings(guild).gm_role == role.id
        reply = await discord_server.slash(player, "volume", percent=10)  # they have the role
        await reply.wait_for_text("10 %")
        reply = await discord_server.slash(gm, "settings", gm_role=discord_server.guild.everyone)
        await reply.wait_for_text("everyone")
        assert bard.guild_settings(guild).gm_role is None


async def test_a_dm_is_refused_in_a_sentence(discord_server: DiscordServer, fake: FakeGenerator, gm: Member) -> None:
    gm.user.locale = "ja"
    async with running(discord_server, fake):
        for command in ("now", "stop", "panel", "keep", "settings"):
            reply = await discord_server.slash(gm, command, guild=False)
            await reply.wait_for_text("招待されたサーバー")
            assert reply.ephemeral
