"""What the bard does about its tables by itself: it pauses, leaves, comes back, and never does what nobody wants."""

import asyncio
import contextlib
import itertools
import signal
import sqlite3
from pathlib import Path
from typing import Final

import pytest

from bot.bard import Bard, ShardedBard
from bot.client import FixedEndpoint
from bot.errors import NothingPlays, VoiceError
from bot.fake import FakeGenerator
from bot.localisation import Sentence
from bot.run import _bard
from bot.settings import Settings
from bot.store import GuildSettings, Store
from bot.table import Table
from bot.voice import Channel, check
from generator.moods import Mood
from generator.protocol import Controls
from tests.bot.party import just, party, until
from tests.discord_server import DiscordServer, Member, VoiceState

BLENDED: Final = Controls(Mood("sad"), 5, Mood("town"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bardcast.sqlite3"


# Restarts


async def test_it_returns_with_mood_and_volume(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path
) -> None:
    async with party(discord_server, fake, store=path) as before:
        await before.bard.play(before.member(gm), just(BLENDED))
        before.bard.set_volume(before.guild, 50)
        await discord_server.wait_voice(packets=25)
        since = before.bard.playing(before.guild)
    await discord_server.wait_gone()
    fake.opens.clear()
    async with party(discord_server, fake, store=path) as after:
        await discord_server.wait_voice(packets=25)
        assert [opening.controls for opening in fake.opens] == [BLENDED]
        assert [opening.volume for opening in fake.opens] == [0.25]
        assert after.bard.playing(after.guild) == since
        await until(lambda: 0.1 < after.gain() < 0.3, "half the volume")
        await after.bard.silence(after.guild)
    async with party(discord_server, fake, store=path) as stopped:
        assert stopped.bard.playing(stopped.guild) is None
        assert discord_server.voice_state_of_bot() is None
        assert stopped.bard.volume(stopped.guild) == 50


@pytest.mark.slow
async def test_what_the_gm_paused_comes_back_paused(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path
) -> None:
    async with party(discord_server, fake, store=path) as before:
        await before.ask(gm, "sad")
        await before.hears("sad")
        assert await before.bard.pause(before.guild)
        await before.hears_nothing()
    async with party(discord_server, fake, store=path) as after:
        await until(lambda: after.bard.table(after.guild), "the table")
        await asyncio.sleep(0.5)
        assert not after.sound().any()
        assert await after.bard.resume(after.guild)
        await after.hears("sad")


async def test_to_nobody_it_returns_as_soon_as_somebody_comes(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path
) -> None:
    async with party(discord_server, fake, store=path) as before:
        await before.ask(gm, "sad")
        await discord_server.wait_voice(packets=5)
    await discord_server.leave_voice(gm)
    async with party(discord_server, fake, store=path) as after:
        assert after.bard.deserted(after.guild)
        await discord_server.join_voice(gm, discord_server.guild.other_voice)
        await asyncio.sleep(0.2)
        assert discord_server.voice_state_of_bot() is None
        await after.bard.turn(after.guild, just(Controls(Mood("epic"))))  # from the panel, say
        await discord_server.join_voice(gm, discord_server.guild.voice)
        await after.hears("epic")


@pytest.mark.slow
async def test_for_nobody_it_does_not_wait_for_ever(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path
) -> None:
    async with party(discord_server, fake, store=path) as before:
        await before.ask(gm, "sad")
        await discord_server.wait_voice(packets=5)
        await before.bard.change_settings(before.guild, GuildSettings(leave_after=0.2))
    await discord_server.leave_voice(gm)
    async with party(discord_server, fake, store=path) as after:
        await until(lambda: after.bard.playing(after.guild) is None, "the table to be forgotten")
        await discord_server.join_voice(gm, discord_server.guild.voice)
        await asyncio.sleep(0.2)
        assert discord_server.voice_state_of_bot() is None


async def test_what_nobody_foresaw_is_an_attempt_to_return(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.engagement.RETURN_PAUSES", (0.3,))
    async with party(discord_server, fake, store=path) as before:
        await before.ask(gm, "sad")
        await before.hears("sad")
    tried: list[object] = []

    def once(channel: Channel) -> Channel:
        tried.append(channel)
        if len(tried) == 1:
            raise ZeroDivisionError
        return check(channel)

    monkeypatch.setattr("bot.engagement.check", once)
    async with party(discord_server, fake, store=path) as after:
        await after.hears("sad")
    assert len(tried) == 2


@pytest.mark.slow
async def test_where_it_may_not_play_any_more_it_gives_up(
    discord_server: DiscordServer,
    fake: FakeGenerator,
    gm: Member,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("bot.engagement.RETURN_PAUSES", (0.5,))
    async with party(discord_server, fake, store=path) as before:
        await before.ask(gm, "sad")
        await discord_server.wait_voice(packets=5)
    discord_server.guild.voice.user_limit = 1
    async with party(discord_server, fake, store=path) as after:
        await until(lambda: after.bard.playing(after.guild) is None, "the table to be forgotten")
    assert "table is full" in caplog.text
    assert caplog.text.count("no way back") >= 2  # each of those who come and go is another


async def test_a_channel_that_is_gone_is_forgotten(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path
) -> None:
    async with party(discord_server, fake, store=path) as before:
        await before.ask(gm, "sad")
        await discord_server.wait_voice(packets=5)
    await discord_server.leave_voice(gm)
    discord_server.guild.channels.remove(discord_server.guild.voice)
    async with party(discord_server, fake, store=path) as after:
        await until(lambda: after.bard.playing(after.guild) is None, "the table to be forgotten")


@pytest.mark.slow
async def test_killed_at_the_table_it_comes_back(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path
) -> None:
    env = {"DISCORD_TOKEN": "loopback-token", "BARDCAST_GENERATOR_URL": fake.url, "BARDCAST_STORE": str(path)}
    process = await discord_server.spawn("bot", "run", env=env)
    try:
        await discord_server.wait_ready()
        reply = await discord_server.slash(gm, "mood", mood="festival", intensity=4)
        await reply.wait_for_text("festival")
        reply = await discord_server.slash(gm, "volume", percent=50)
        await reply.wait_for_text("50")
        await discord_server.wait_voice(packets=5)
        await until(lambda: volumes(path) == [50], "the volume to be written")
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    await until(lambda: fake.lines == 0, "the line to end")
    assert discord_server.voice_state_of_bot() is not None  # so it looks from outside, for a while
    async with party(discord_server, fake, store=path) as after:
        await after.hears("festival")
        assert fake.opens[-1].controls == Controls(Mood("festival"), 4)
        await until(lambda: 0.15 < after.gain() < 0.35, "half the volume")


def volumes(path: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [volume for (volume,) in connection.execute("SELECT volume FROM guilds")]


# Attendance


async def test_an_empty_table_pauses_and_the_first_to_return_hears_it(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    player = discord_server.add_member("player")
    async with party(discord_server, fake) as room:
        await room.bard.change_settings(room.guild, GuildSettings(pause_after=0.2))
        await room.ask(gm, "sad")
        await room.hears("sad")
        await discord_server.leave_voice(gm)
        await room.hears_nothing()
        assert room.bard.deserted(room.guild)
        assert discord_server.voice_state_of_bot() is not None
        # A deafened one does not count, nor one in another channel.
        await discord_server.join_voice(player, discord_server.guild.voice, self_deaf=True)
        await discord_server.join_voice(gm, discord_server.guild.other_voice)
        await asyncio.sleep(0.3)
        assert not room.sound().any()
        await discord_server.join_voice(player, discord_server.guild.voice)
        await room.hears("sad", seconds=5.0)
        # What the GM paused stays so, whoever comes.
        await room.bard.pause(room.guild)
        await room.hears_nothing()
        await discord_server.join_voice(gm, discord_server.guild.voice)
        await asyncio.sleep(0.3)
        assert not room.sound().any()
        assert await room.ask(gm, "sad") == "The music goes on: sad."
        await room.hears("sad", seconds=5.0)


async def test_an_empty_table_ends(discord_server: DiscordServer, fake: FakeGenerator, gm: Member) -> None:
    async with party(discord_server, fake) as room:
        await room.ask(gm, "sad")
        await discord_server.wait_voice(packets=25)
        await room.bard.change_settings(room.guild, GuildSettings(pause_after=0.0, leave_after=0.3))
        await discord_server.leave_voice(gm)
        await discord_server.wait_gone()
        assert room.bard.playing(room.guild) is None
        await until(lambda: fake.lines == 0, "the line to end")


# Those who act at once


async def test_two_gms_at_once_and_the_newest_wins(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    other = discord_server.add_member("other gm")
    await discord_server.join_voice(other, discord_server.guild.voice)
    async with party(discord_server, fake) as room:
        said = await asyncio.gather(room.ask(gm, "sad"), room.ask(other, "fight"), room.ask(gm, "fight"))
        assert said[0].startswith("Playing sad in table.")
        assert said[1].startswith("Turning to fight.")
        assert said[2].startswith("That plays already: fight.")
        await room.hears("fight")
        assert len(discord_server.listeners) == 1


@pytest.mark.slow
async def test_a_storm_of_a_hundred_commands_in_a_second(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    moods = ("sad", "fight", "town", "epic")
    async with party(discord_server, fake, commands=True) as room:
        await room.ask(gm, "sad")
        listener = await discord_server.wait_voice(packets=25)
        begun = len(listener.packets)
        storm = []
        for number in range(100):
            if number % 10 == 5:
                asked = discord_server.slash(gm, "volume", percent=100 - number % 20)
            elif number % 10 == 6:
                asked = discord_server.slash(gm, "now")
            else:
                asked = discord_server.slash(gm, "mood", mood=moods[number % 4], intensity=1 + number % 5)
            storm.append(asyncio.create_task(asked))
            await asyncio.sleep(0.01)
        replies = await asyncio.gather(*storm)  # each answered in time, or it would raise
        for reply in replies:
            assert "my side" not in await reply.wait_for_text(timeout=30)
        playing = room.bard.playing(room.guild)
        assert playing is not None
        assert playing.controls == Controls(Mood(moods[99 % 4]), 1 + 99 % 5)
        await room.hears(moods[99 % 4])
        arrivals = [packet.arrival for packet in listener.packets[begun:]]
        assert max(later - earlier for earlier, later in itertools.pairwise(arrivals)) < 0.5
        assert len(discord_server.listeners) == 1


async def test_stop_during_the_join(discord_server: DiscordServer, fake: FakeGenerator, gm: Member) -> None:
    async with party(discord_server, fake) as room:
        joining = asyncio.create_task(room.ask(gm, "sad"))
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(room.bard.silence(room.guild))
        await asyncio.gather(joining, stopping)
        await discord_server.wait_gone()
        assert room.bard.playing(room.guild) is None


async def test_a_volume_that_is_set_during_the_join(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    async with party(discord_server, fake) as room:
        joining = asyncio.create_task(room.ask(gm, "sad"))
        await asyncio.sleep(0.05)
        assert room.bard.table(room.guild) is None
        room.bard.set_volume(room.guild, 50)
        await joining
        table = room.bard.table(room.guild)
        assert table is not None
        assert table.wish.volume == 0.25


async def test_closed_during_the_join_it_is_gone(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    async with party(discord_server, fake) as room:
        joining = asyncio.create_task(room.ask(gm, "sad"))
        await asyncio.sleep(0.05)
    await asyncio.gather(joining, return_exceptions=True)
    await discord_server.wait_gone()
    await until(lambda: fake.lines == 0, "the line to end")


async def test_what_happens_while_it_leaves_changes_nothing(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Table.stop

    async def stop_shown_out(table: Table) -> None:
        table._supervisor._ended(Sentence("shown out at the same moment"))
        await stop(table)

    async with party(discord_server, fake, store=path) as room:
        await room.ask(gm, "sad")
        member, playing = room.member(gm), room.bard.playing(room.guild)
        monkeypatch.setattr(Table, "stop", stop_shown_out)
        await room.bard.close()
        with pytest.raises(VoiceError, match="being restarted"):
            await room.bard.play(member, just(BLENDED))
        assert room.bard.playing(member.guild) == playing
        assert fake.lines == 0


# What is not to be


async def test_where_it_has_no_table_nobody_sees_it(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leave that Discord never got, because the gateway was away or the process was killed, is made up for."""
    monkeypatch.setattr("bot.voice._CONFIRMATION_SECONDS", 0.2)
    home = discord_server.guild
    stray = VoiceState(home.bot, home.voice, "a session before")
    home.voice_states[home.bot.user.id] = stray
    async with party(discord_server, fake) as room:
        await discord_server.wait_gone()
        await discord_server.set_voice(stray)
        await discord_server.faults.ask_reconnect()
        await discord_server.wait_gone()
        await room.ask(gm, "sad")
        begun = len(discord_server.gateway.voice_requests)
        await discord_server.faults.ask_reconnect()
        await until(lambda: discord_server.gateway.session_of(home.id).resumes == 2, "the second resume")
        await room.hears("sad")
        await room.bard.silence(room.guild)
        assert [channel for _, channel in discord_server.gateway.voice_requests[begun:]] == [None]


async def test_kicked_it_forgets_and_says_so(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path
) -> None:
    async with party(discord_server, fake, store=path) as room:
        await room.ask(gm, "sad")
        await discord_server.wait_voice(packets=25)
        await discord_server.faults.kick_bot()
        await until(lambda: room.told, "the GM to be told")
        assert "disconnected me from table" in room.told[0]
        assert room.bard.table(room.guild) is None
        assert room.bard.playing(room.guild) is None
    async with party(discord_server, fake, store=path):
        await asyncio.sleep(0.3)
        assert discord_server.voice_state_of_bot() is None


@pytest.mark.slow
async def test_dragged_away_it_returns_to_where_it_was_dragged(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, path: Path
) -> None:
    other = discord_server.guild.other_voice
    async with party(discord_server, fake, store=path) as room:
        await room.ask(gm, "sad")
        await discord_server.wait_voice(packets=25)
        await discord_server.faults.move_bot(other)
        await discord_server.join_voice(gm, other)
        await discord_server.wait_voice(other, packets=25)
        await room.hears("sad")
    async with party(discord_server, fake, store=path) as after:
        await discord_server.wait_voice(other, packets=5)
        await after.hears("sad")


async def test_what_cannot_be_done_changes_nothing(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    full = discord_server.guild.add_channel("cupboard", user_limit=1)
    async with party(discord_server, fake) as room:
        for call in (room.bard.pause, room.bard.resume, room.bard.silence):
            assert not await call(room.guild)
        with pytest.raises(NothingPlays):
            await room.bard.turn(room.guild, just(BLENDED))
        who = room.member(gm)
        await discord_server.join_voice(gm, full)
        await until(lambda: who.voice and who.voice.channel == room.guild.get_channel(full.id), "the move")
        with pytest.raises(VoiceError, match="cupboard is full"):
            await room.bard.play(who, just(BLENDED))
        await discord_server.leave_voice(gm)
        await until(lambda: who.voice is None, "the leave")
        with pytest.raises(VoiceError, match="You are in no voice channel"):
            await room.bard.play(who, just(BLENDED))
        assert room.bard.playing(room.guild) is None
        assert fake.lines == 0


# Shards


@pytest.mark.parametrize(("shards", "kind"), [(1, Bard), (2, ShardedBard), (None, ShardedBard)])
async def test_one_session_is_a_plain_client(shards: int | None, kind: type[Bard]) -> None:
    bard = _bard(FixedEndpoint("http://127.0.0.1:1"), Settings(shards=shards), Store())
    assert type(bard) is kind
    assert bard.shard_count == (None if shards == 1 else shards)


@pytest.mark.slow
async def test_as_many_shards_as_discord_advises(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    async with party(discord_server, fake, kind=ShardedBard) as room:
        assert [(session.shard, session.shards) for session in discord_server.gateway.sessions.values()] == [(0, 1)]
        await room.ask(gm, "sad")
        await room.hears("sad")


async def test_over_two_shards(fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_pause(*_: object, **__: object) -> None:
        """Discord wants five seconds between two identifications; a loopback does not."""

    monkeypatch.setattr(ShardedBard, "before_identify_hook", no_pause)
    async with DiscordServer(guilds=2) as server:
        # Consecutive ids differ in their lowest bits only, which say nothing about the shard.
        server.guilds[1].id = server.guilds[1].everyone.id = server.guilds[0].id ^ (1 << 22)
        members = [server.add_member("gm", guild=guild) for guild in server.guilds]
        for member in members:
            await server.join_voice(member, member.guild.voice)
        async with party(server, fake, kind=ShardedBard, shards=2) as room:
            assert sorted((session.shard, session.shards) for session in server.gateway.sessions.values()) == [
                (0, 2),
                (1, 2),
            ]
            await asyncio.gather(room.ask(members[0], "sad"), room.ask(members[1], "fight"))
            await room.hears("sad", server.guilds[0])
            await room.hears("fight", server.guilds[1])
