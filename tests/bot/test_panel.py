"""The panel: what it looks like in every state and language, and what happens to its message."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import discord
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot import panel, panel_messages
from bot.bard import Bard
from bot.client import FixedEndpoint
from bot.commands import add_commands
from bot.fake import FakeGenerator
from bot.localisation import LANGUAGES, Sentence
from bot.panel import PICTURE, Music
from bot.settings import Settings
from bot.store import Store
from generator.moods import COLOURS, MOODS, Mood
from generator.protocol import Controls
from tests.discord_server import DiscordServer, Member, Message
from tests.discord_server.rest import Failure
from tests.discord_server.world import ATTACH_FILES, EMBED_LINKS

moods = st.sampled_from(MOODS)
states = st.one_of(
    st.none(),
    st.builds(
        Music,
        channel=st.just("<#1234567890123456789>"),
        controls=st.builds(Controls, moods, st.integers(1, 5), st.none()),
        since=st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
        paused=st.booleans(),
        deserted=st.booleans(),
        trouble=st.sampled_from([None, Sentence("The channel is gone.")]),
    ),
)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
FIGHT = Music("<#1>", Controls(Mood("fight"), 3, Mood("epic")), NOW)


def rows(music: Music | None, volume: int = 50, language: str = "en") -> list[list[dict[str, Any]]]:
    async def built() -> list[Any]:  # a view wants a running loop
        return panel.buttons(music, volume, language).to_components()

    return [row["components"] for row in asyncio.run(built())]


def by_name(music: Music | None, volume: int = 50) -> dict[str, dict[str, Any]]:
    return {str(panel.parse(item["custom_id"])): item for row in rows(music, volume) for item in row}


@settings(max_examples=60)
@given(states, st.integers(0, 100), st.sampled_from(list(LANGUAGES)), st.booleans())
def test_the_panel_is_within_discords_limits_in_every_state_and_language(
    music: Music | None, volume: int, language: str, picture: bool
) -> None:
    shown = panel.embed(music, volume, language, picture=picture)
    assert 0 < len(shown.title or "") <= 256
    assert 0 < len(shown.description or "") <= 4_096
    assert all(0 < len(field.name or "") <= 256 and 0 < len(field.value or "") <= 1_024 for field in shown.fields)
    components = rows(music, volume, language)
    assert len(components) <= 5
    assert all(0 < len(row) <= 5 for row in components)
    buttons = [item for row in components for item in row]
    assert all(0 < len(item["label"]) <= 80 and 0 < len(item["custom_id"]) <= 100 for item in buttons)
    assert len({item["custom_id"] for item in buttons}) == len(buttons)
    if music is not None:
        assert shown.colour == discord.Colour.from_str(COLOURS[music.controls.mood])


def test_what_cannot_be_done_is_grey() -> None:
    nothing = by_name(None)
    assert {name for name, item in nothing.items() if not item["disabled"]} == {*MOODS, "quieter", "louder"}
    calm = by_name(Music("", Controls(Mood("sad"), 1), NOW), volume=100)
    assert {name for name, item in calm.items() if item["disabled"]} == {"softer", "louder"}
    wild = by_name(Music("", Controls(Mood("sad"), 5), NOW, paused=True), volume=0)
    assert {name for name, item in wild.items() if item["disabled"]} == {"stronger", "quieter"}
    assert "resume" in wild
    assert "pause" not in wild


def test_what_plays_is_marked_and_named() -> None:
    marked = {name for name, item in by_name(FIGHT).items() if item["style"] == discord.ButtonStyle.success.value}
    assert marked == {"fight", "epic"}
    shown = panel.embed(FIGHT, 50, "de", picture=False)
    assert "Kampf" in (shown.title or "")
    assert "Episch" in (shown.title or "")
    assert f"<t:{int(NOW.timestamp())}:R>" in (shown.description or "")


NAMES = {
    item["custom_id"]: name for music in (FIGHT, replace(FIGHT, paused=True)) for name, item in by_name(music).items()
}


@given(st.text() | st.sampled_from([*NAMES]) | st.sampled_from([*NAMES]).map(lambda name: name + " "))
def test_a_name_is_a_buttons_own_or_nothing(name: str) -> None:
    assert panel.parse(name) == NAMES.get(name)


@pytest.mark.parametrize("name", [None, 7, ["bardcast:stop"], "bardcast:", "stop", "BARDCAST:stop"])
def test_whatever_is_sent_is_looked_at(name: object) -> None:
    assert panel.parse(name) is None


# Against the loopback Discord


@contextlib.asynccontextmanager
async def running(
    discord_server: DiscordServer, fake: FakeGenerator, store: Store | None = None
) -> AsyncIterator[Bard]:
    bard = Bard(FixedEndpoint(fake.url), Settings(volume=50), store or Store())
    add_commands(bard)
    async with discord_server.connect(bard):
        yield bard
    assert discord_server.rest.unknown == []


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_messages, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(panel_messages, "SETTLED_SECONDS", 0.1)
    monkeypatch.setattr(panel_messages, "IDLE_SECONDS", 0.5)


async def posted(discord_server: DiscordServer, gm: Member) -> Message:
    """The panel, newly asked for."""
    before = set(discord_server.rest.posts.messages)
    reply = await discord_server.slash(gm, "panel")
    assert reply.ephemeral
    await reply.wait_for_text("Pin it")
    (new,) = set(discord_server.rest.posts.messages) - before
    return discord_server.rest.posts.messages[new]


async def shows(discord_server: DiscordServer, message: Message, text: str) -> None:
    await discord_server.changes.until(lambda: text in message.text, timeout=10, what=f"{text!r}, not {message.text!r}")


async def until(true: Callable[[], object], what: str) -> None:
    """For what happens in the bot alone, which rings no bell."""
    try:
        async with asyncio.timeout(20):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"waited for {what}")


async def test_an_evening_by_buttons(discord_server: DiscordServer, fake: FakeGenerator, gm: Member) -> None:
    async with running(discord_server, fake) as bard:
        message = await posted(discord_server, gm)
        assert "Nothing plays" in message.text
        reply = await discord_server.press(gm, message, panel.custom_id(Mood("tavern")))
        await shows(discord_server, message, "Tavern")
        assert reply.deferred
        assert not reply.messages  # the panel says it all
        await discord_server.wait_voice(packets=25)
        await discord_server.changes.until(lambda: PICTURE in message.files, timeout=10, what="a picture")
        assert message.files[PICTURE].startswith(b"\x89PNG")
        assert message.embeds[0]["image"]["url"] == f"attachment://{PICTURE}"
        for button, text in (
            ("stronger", "▰▰▰▰▱ 4"),
            ("quieter", "40 %"),
            ("pause", "⏸️"),
            ("resume", "▰▰▰▰▱ 4"),
            ("fight", "Fight"),
        ):
            await discord_server.press(gm, message, f"bardcast:{button}")
            await shows(discord_server, message, text)
        assert bard.playing(bard.guilds[0]).controls == Controls(Mood("fight"), 4)  # type: ignore[union-attr]
        # Away from the table the music is turned where it plays.
        await discord_server.leave_voice(gm)
        await discord_server.press(gm, message, panel.custom_id(Mood("sad")))
        await shows(discord_server, message, "Sad")
        await discord_server.press(gm, message, "bardcast:stop")
        await shows(discord_server, message, "Nothing plays")
        assert not message.files
        reply = await discord_server.press(gm, message, "bardcast:pause")  # as on a panel that is behind
        assert "Nothing plays here" in await reply.wait_for_text()
        assert reply.messages[0].ephemeral


async def test_it_survives_a_restart_and_its_deletion(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    posts = discord_server.rest.posts
    async with Store() as store:
        async with running(discord_server, fake, store):
            first = await posted(discord_server, gm)
            message = await posted(discord_server, gm)
            await discord_server.changes.until(
                lambda: first.id not in posts.messages, timeout=20, what="the first to go"
            )
        async with running(discord_server, fake, store) as bard:
            await until(lambda: bard.guilds, "the guild")
            guild = bard.guilds[0]
            await discord_server.press(gm, message, "bardcast:louder")
            await shows(discord_server, message, "60 %")
            del posts.messages[message.id]
            await discord_server.press(gm, message, "bardcast:louder")
            await until(lambda: bard.volume(guild) == 70, "the press")
            await until(lambda: bard.panel(guild) is None, "the panel to be forgotten")
            # A Discord in trouble is no deletion.
            message = await posted(discord_server, gm)
            discord_server.rest.failures.append(Failure(f"/messages/{message.id}", 403))
            await discord_server.press(gm, message, "bardcast:quieter")
            await discord_server.press(gm, message, "bardcast:quieter")
            await shows(discord_server, message, "50 %")
            # Nor is a line that breaks.
            discord_server.rest.failures.append(Failure(f"/messages/{message.id}", 0))
            await discord_server.press(gm, message, "bardcast:quieter")
            await discord_server.press(gm, message, "bardcast:quieter")
            await shows(discord_server, message, "30 %")


async def test_a_storm_of_presses_is_one_edit_at_a_time(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel_messages, "EVERY_SECONDS", 0.5)
    other = discord_server.add_member("other gm")
    async with running(discord_server, fake) as bard:
        message = await posted(discord_server, gm)
        begun = time.monotonic()
        names = ["louder", "quieter", "stronger", "nonsense", "pause"] * 20
        pressed = [
            discord_server.press(member, message, f"bardcast:{name}")
            for member, name in zip([gm, other] * 50, names, strict=True)
        ]
        replies = await asyncio.gather(*pressed)
        assert max(reply.seconds for reply in replies) < 3.0
        await discord_server.press(gm, message, "bardcast:louder")
        # An answer may come before the work; and the panel may still show 60 % from within the storm.
        await until(lambda: bard.volume(bard.guilds[0]) == 60, "the last press")
        await shows(discord_server, message, "60 %")
        edits = [when for when in discord_server.rest.posts.edits[message.id] if when >= begun]
        assert min(later - when for when, later in itertools.pairwise(edits)) >= 0.45
        told = [reply.text for reply in replies if reply.text]
        assert len(told) == 60  # what is no button, and what there was nothing to do for
        assert all(message.ephemeral for reply in replies for message in reply.messages)


async def test_players_and_forgers_are_refused_politely(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    role = discord_server.guild.add_role("Keeper of Lore")
    gm.roles.append(role)
    player = discord_server.add_member("player")
    player.user.locale = "fr"
    await discord_server.join_voice(player, discord_server.guild.voice)
    async with running(discord_server, fake) as bard:
        message = await posted(discord_server, gm)
        guild = bard.guilds[0]
        await bard.change_settings(guild, type(bard.guild_settings(guild))(gm_role=role.id))
        for name in (*(panel.custom_id(mood) for mood in MOODS[:2]), "bardcast:louder", "bardcast:keep", "forged"):
            reply = await discord_server.press(player, message, name)
            assert "Keeper of Lore" in await reply.wait_for_text("entre les mains")
            assert reply.messages[0].ephemeral
        for command in ("panel", "keep", "stop", "pause", "resume"):
            reply = await discord_server.slash(player, command)
            await reply.wait_for_text("entre les mains")
            assert reply.ephemeral
        assert bard.playing(guild) is None
        assert bard.volume(guild) == 50
        assert [*discord_server.rest.posts.messages] == [message.id]
        for forged in ("bardcast:mood:fight", "x" * 100, "bardcast:../../stop"):
            reply = await discord_server.press(gm, message, forged)
            await reply.wait_for_text("no such button")
            assert reply.messages[0].ephemeral


async def test_it_speaks_the_servers_language_and_names_what_it_lacks(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    discord_server.guild.locale = "pl"
    everyone = discord_server.guild.everyone
    async with running(discord_server, fake) as bard:
        message = await posted(discord_server, gm)
        assert "Nic nie gra" in message.text
        guild = bard.guilds[0]
        await bard.change_settings(guild, type(bard.guild_settings(guild))(language="ja"))
        await shows(discord_server, message, "何も流れていません")
        everyone.permissions &= ~(EMBED_LINKS | ATTACH_FILES)
        reply = await discord_server.slash(gm, "panel")
        assert "Embed Links and Attach Files" in await reply.wait_for_text("I may not post a panel")
        assert [*discord_server.rest.posts.messages] == [message.id]
