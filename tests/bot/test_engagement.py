"""The newest wish wins, whatever is under way: presses, drags, a kick, a slow turn, the bot's own end."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bot import floor, panel, panel_messages
from bot.bard import Bard
from bot.client import FixedEndpoint
from bot.commands import add_commands
from bot.fake import FakeGenerator
from bot.settings import Settings
from bot.store import Store
from generator.moods import Mood
from generator.protocol import Controls
from tests.bot.party import Party, party, until
from tests.discord_server import Channel, DiscordServer, InteractionFailed, Member, Message
from tests.discord_server.rest import Failure
from tests.discord_server.world import CONNECT, REQUEST_TO_SPEAK, STAGE


async def open_panel(server: DiscordServer, gm: Member) -> Message:
    reply = await server.slash(gm, "panel")
    await reply.wait_for_text("Pin it")
    return list(server.rest.posts.messages.values())[-1]


def controls(guests: Party) -> Controls | None:
    """What should be heard."""
    playing = guests.bard.playing(guests.guild)
    return playing.controls if playing is not None else None


def place(guests: Party) -> tuple[int | None, int | None]:
    """The channel in which the bot is, and the one in which it believes to play."""
    seen, playing = guests.server.voice_state_of_bot(), guests.bard.playing(guests.guild)
    channel = seen.channel if seen is not None else None
    return channel.id if channel is not None else None, playing.channel if playing is not None else None


# --- presses while something is under way ----------------------------------------------------------------------------


async def test_a_press_counts_from_what_plays_when_its_turn_comes(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    async with party(discord_server, fake, commands=True) as guests:
        await guests.ask(gm, "tavern")
        await guests.hears("tavern")
        message = await open_panel(discord_server, gm)
        presses = []
        for button in ("pause", Mood("fight"), "stronger"):  # within the fade-out of the first
            presses.append(asyncio.create_task(discord_server.press(gm, message, panel.custom_id(button))))
            await asyncio.sleep(0.05)
        await asyncio.gather(*presses)
        await until(
            lambda: (p := guests.bard.playing(guests.guild)) and p.controls == Controls(Mood("fight"), 4), "both"
        )
        await guests.hears("fight")


async def test_stop_and_wilder_during_the_first_join_wait_for_it(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    async with party(discord_server, fake, commands=True) as guests:
        message = await open_panel(discord_server, gm)
        discord_server.voice.weather.slow = 1.0
        await discord_server.press(gm, message, panel.custom_id(Mood("fight")))
        await asyncio.sleep(0.3)
        wilder = await discord_server.press(gm, message, panel.custom_id("stronger"))
        stop = await discord_server.press(gm, message, panel.custom_id("stop"))
        await until(lambda: fake.changes, "wilder", 10)
        await until(lambda: guests.bard.playing(guests.guild) is None, "the stop", 10)
        assert (wilder.text, stop.text) == ("", "")
        assert [change.intensity for change in fake.changes] == [4]


async def test_a_slow_turn_is_cut_short_by_who_asks_again(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    async with party(discord_server, fake) as guests:
        await guests.ask(gm, "tavern")
        await guests.hears("tavern")
        assert await guests.ask(gm, "fight", transition="slow") == "Turning to fight."
        await until(lambda: len(fake.changes) == 1, "the slow turn")
        assert await guests.ask(gm, "fight", transition="slow") == "That plays already: fight."
        assert await guests.ask(gm, "fight") == "Turning to fight."
        assert await guests.ask(gm, "fight") == "That plays already: fight."
        await until(lambda: len(fake.changes) == 2, "the sudden one")
        assert [change.transition for change in fake.changes] == ["slow", "sudden"]


# --- dragged, shown out, muted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [0.0, 1.0])
async def test_dragged_and_called_back_at_once(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, slow: float
) -> None:
    """Whether or not the connection has followed the drag, what is asked counts from where the bot is seen."""
    home = discord_server.guild
    async with party(discord_server, fake) as guests:
        await guests.ask(gm, "tavern")
        await guests.hears("tavern")
        discord_server.voice.weather.slow = slow
        await discord_server.faults.move_bot(home.other_voice)
        await until(lambda: guests.guild.me.voice and guests.guild.me.voice.channel != guests.channel, "the drag")
        assert await guests.ask(gm, "fight") == f"Turning to fight, now in {home.voice.name}."
        discord_server.voice.weather.slow = 0.0
        await guests.hears("fight")
        await until(lambda: place(guests) == (home.voice.id, home.voice.id), "the way back")


@pytest.mark.parametrize("delay", [0.0, 0.2])
async def test_shown_out_and_asked_again_at_once(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, delay: float
) -> None:
    async with party(discord_server, fake) as guests:
        await guests.ask(gm, "tavern")
        await guests.hears("tavern")
        await discord_server.faults.kick_bot()
        await until(lambda: guests.guild.me.voice is None, "the kick")
        await asyncio.sleep(delay)
        await guests.ask(gm, "fight")
        await guests.hears("fight")
        await asyncio.sleep(1)
        assert place(guests) == (discord_server.guild.voice.id,) * 2
        assert guests.told == []


@pytest.mark.parametrize("field", ["mute", "suppress"])
async def test_muted_by_the_server_is_told_and_music_goes_on_afterwards(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, field: str
) -> None:
    async with party(discord_server, fake) as guests:
        await guests.ask(gm, "tavern")
        await guests.hears("tavern")
        session = discord_server.gateway.session_of(discord_server.guild.id)
        state = discord_server.voice_state_of_bot()
        assert state is not None
        for muted in (True, False):
            await session.dispatch("VOICE_STATE_UPDATE", {**state.payload(), field: muted})
            await (guests.hears_nothing() if muted else guests.hears("tavern"))
        assert guests.told == [
            "I am muted in table. Unmute me there or call me to another channel, and the music goes on."
        ]


async def test_who_may_no_longer_connect_is_heard_all_the_same(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    home = discord_server.guild
    async with party(discord_server, fake) as guests:
        await guests.ask(gm, "tavern")
        await guests.hears("tavern")
        home.everyone.permissions &= ~CONNECT
        role = {"guild_id": str(home.id), "role": home.everyone.payload()}
        await discord_server.gateway.session_of(home.id).dispatch("GUILD_ROLE_UPDATE", role)
        await until(lambda: not guests.channel.permissions_for(guests.guild.me).connect, "the news")
        await asyncio.sleep(0.6)
        await guests.hears("tavern", seconds=1)
        assert guests.told == []


async def test_a_request_to_speak_that_is_put_off_holds_up_nothing_else(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "ASK_SECONDS", 0.5)
    discord_server.guild.everyone.permissions |= REQUEST_TO_SPEAK
    stage: Channel = discord_server.guild.add_channel("stage", type=STAGE)
    await discord_server.join_voice(gm, stage)
    async with party(discord_server, fake, commands=True) as guests:
        limited = Failure("voice-states/@me", 429, 1, retry_after=30.0)
        discord_server.rest.failures.append(limited)
        await discord_server.slash(gm, "mood", mood="tavern")
        await until(lambda: limited.met, "the request")
        await discord_server.faults.let_speak()
        await guests.hears("tavern", seconds=5)


# --- what the GM reads -----------------------------------------------------------------------------------------------


async def test_a_volume_that_is_not_heard_yet_says_so(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    async with party(discord_server, fake, commands=True) as guests:
        await guests.ask(gm, "tavern")
        await guests.hears("tavern")
        await fake.leave()
        table = guests.bard.table(guests.guild)
        assert table is not None
        await until(lambda: not table.connected, "the outage")
        reply = await discord_server.slash(gm, "volume", percent=20)
        await reply.wait_for_text("Volume 20 %. The music generator does not answer yet")


async def test_who_was_not_answered_does_not_take_the_place_of_who_was(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    bard = Bard(FixedEndpoint(fake.url), Settings(volume=100), Store(), guild_ready_timeout=0.2)
    add_commands(bard)
    async with discord_server.connect(bard):
        await bard.wait_until_ready()
        first = await discord_server.slash(gm, "mood", mood="tavern")
        await first.wait_for_text()
        discord_server.rest.failures.append(Failure("/callback", 404, 1))
        with pytest.raises(InteractionFailed):
            await discord_server.slash(gm, "volume", percent=40)
        await discord_server.faults.kick_bot()
        await first.wait_for_text("Somebody disconnected me")


@pytest.mark.parametrize("status", [0, 503])
async def test_a_panel_or_file_that_discord_does_not_take_is_a_sentence(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    async with party(discord_server, fake, commands=True) as guests:
        await guests.ask(gm, "tavern")
        await guests.hears("tavern")
        discord_server.rest.failures.append(Failure("/channels/", status, 9))
        reply = await discord_server.slash(gm, "panel")
        await reply.wait_for_text("Discord can't be reached at the moment. Please try again soon.")
        assert not any(record.exc_info for record in caplog.records if record.name.startswith("bot"))


# --- panels ----------------------------------------------------------------------------------------------------------


async def test_a_panel_that_is_put_off_does_not_hold_up_a_new_one(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("EDIT_SECONDS", 0.5), ("EVERY_SECONDS", 0.2), ("REFUSED_SECONDS", 0.2)):
        monkeypatch.setattr(panel_messages, name, seconds)
    async with party(discord_server, fake, commands=True) as guests:
        await guests.ask(gm, "tavern")
        old = await open_panel(discord_server, gm)
        limited = Failure(f"messages/{old.id}", 429, 1, retry_after=30.0)
        discord_server.rest.failures.append(limited)
        await discord_server.press(gm, old, panel.custom_id(Mood("fight")))
        await until(lambda: limited.met, "the limit")
        new = await open_panel(discord_server, gm)
        await discord_server.press(gm, new, panel.custom_id(Mood("sad")))
        await until(lambda: "Sad" in new.text, "the new panel", 10)


async def test_a_panel_that_was_left_behind_is_brought_up_to_date(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, tmp_path: Path
) -> None:
    """Who ends the bot right after a stop leaves it no time for the panel."""
    path = tmp_path / "store.sqlite3"
    async with party(discord_server, fake, store=path, commands=True) as guests:
        await guests.ask(gm, "tavern")
        message = await open_panel(discord_server, gm)
        await until(lambda: "Tavern" in message.text, "the panel")
    await discord_server.wait_gone()
    async with Store(path) as memory:
        memory[discord_server.guild.id] = replace(memory[discord_server.guild.id], playing=None)
    async with party(discord_server, fake, store=path, commands=True):
        await until(lambda: "Nothing plays" in message.text, "the truth", 10)


# --- the bot's own end -----------------------------------------------------------------------------------------------


async def test_a_join_that_takes_long_does_not_hold_up_the_end(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    async with party(discord_server, fake, commands=True) as guests:
        discord_server.voice.weather.slow = 60.0
        reply = await discord_server.slash(gm, "mood", mood="tavern")
        await until(lambda: discord_server.voice_state_of_bot() is not None, "the join")
        begun = time.monotonic()
        closing = asyncio.create_task(guests.bard.close())
        await reply.wait_for_text("I am being restarted.")
        await closing
        assert time.monotonic() - begun < 5
        await discord_server.wait_gone()
