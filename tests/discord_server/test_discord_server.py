"""The loopback Discord against a plain discord.py client: what the bot's own tests lean on must be true."""

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import discord
import numpy as np
import pytest
from discord import app_commands

from tests.discord_server import REFUSED_TOKEN, TOKEN, DiscordServer, InteractionFailed
from tests.discord_server.tone import pitch, sine_as_opus


class Sine(discord.AudioSource):
    """Twenty seconds of a tone, encoded beforehand: ``read`` only hands packets out."""

    def __init__(self, hertz: float) -> None:
        self._packets = iter(sine_as_opus(20.0, hertz=hertz))

    def is_opus(self) -> bool:
        return True

    def read(self) -> bytes:
        return next(self._packets, b"")


class Player(discord.Client):
    """A bot as a stranger would write it, by discord.py's own documentation."""

    def __init__(self, guild_id: int | None = None) -> None:
        super().__init__(intents=discord.Intents(guilds=True, voice_states=True), guild_ready_timeout=0.1)
        self.tree = app_commands.CommandTree(self)
        self.guild_id = guild_id

        @app_commands.command(description="Play a tone")
        @app_commands.allowed_contexts(guilds=True)
        @app_commands.choices(tone=[app_commands.Choice(name=str(hz), value=hz) for hz in (440, 660)])
        async def play(interaction: discord.Interaction, tone: int, level: app_commands.Range[int, 1, 5] = 3) -> None:
            await interaction.response.defer(ephemeral=True, thinking=True)
            assert isinstance(interaction.user, discord.Member)
            assert interaction.user.voice is not None
            assert interaction.user.voice.channel is not None
            voice: discord.VoiceClient = await interaction.user.voice.channel.connect()
            voice.play(Sine(tone))
            await interaction.followup.send(f"playing {tone} Hz at {level}")

        @app_commands.command(description="Stop")
        async def stop(interaction: discord.Interaction) -> None:
            await interaction.response.send_message("stopping", ephemeral=True)
            assert interaction.guild is not None
            voice = interaction.guild.voice_client
            assert isinstance(voice, discord.VoiceClient)
            voice.stop()
            await asyncio.sleep(0.1)
            await voice.disconnect()
            await interaction.edit_original_response(content="stopped")

        @app_commands.command(description="Show buttons")
        async def panel(interaction: discord.Interaction) -> None:
            embed = discord.Embed(title="Panel", description="quiet").add_field(name="mood", value="none")
            file = discord.File(io.BytesIO(b"picture"), "picture.png")
            await interaction.response.send_message(embed=embed, file=file, view=Buttons())

        @app_commands.command(description="Never answers")
        async def sleep(interaction: discord.Interaction) -> None:
            await asyncio.sleep(3.2)
            with pytest.raises(discord.NotFound):
                await interaction.response.send_message("too late")

        command: app_commands.Command[Any, ..., Any]
        for command in (play, stop, panel, sleep):
            self.tree.add_command(command, guild=discord.Object(guild_id) if guild_id else None)

    async def setup_hook(self) -> None:
        await self.tree.sync(guild=discord.Object(self.guild_id) if self.guild_id else None)


class Buttons(discord.ui.View):
    def __init__(self) -> None:
        super().__init__(timeout=None)

    @discord.ui.button(label="fight", custom_id="mood:fight")
    async def fight(self, interaction: discord.Interaction, _: discord.ui.Button["Buttons"]) -> None:
        await interaction.response.edit_message(embed=discord.Embed(title="fighting"))

    @discord.ui.button(label="later", custom_id="mood:later")
    async def later(self, interaction: discord.Interaction, _: discord.ui.Button["Buttons"]) -> None:
        await interaction.response.defer()
        await interaction.edit_original_response(embed=discord.Embed(title="later"))


@pytest.fixture
async def loopback(discord_server: DiscordServer) -> AsyncIterator[DiscordServer]:
    """A server with a plain bot connected; at the end no request of the bot's went unanswered."""
    async with discord_server.connect(Player()):
        yield discord_server
    assert discord_server.rest.unknown == []


async def test_session_from_join_to_leave(loopback: DiscordServer) -> None:
    ann = loopback.add_member("Ann")
    await loopback.join_voice(ann, loopback.guild.voice)

    reply = await loopback.slash(ann, "play", tone=440, level=5)
    assert reply.deferred
    assert reply.ephemeral
    assert reply.seconds < 2
    assert await reply.wait_for_text() == "playing 440 Hz at 5"
    assert all(message.ephemeral for message in reply.messages)

    listener = await loopback.wait_voice()
    await listener.wait_packets(150)
    state = loopback.voice_state_of_bot()
    assert state is not None
    assert state.channel is loopback.guild.voice

    stop = await loopback.slash(ann, "stop")
    assert stop.contents == ["stopping"]
    assert await stop.wait_for_text("stopped") == "stopped"
    await loopback.wait_gone()
    assert loopback.voice_state_of_bot() is None

    assert listener.gaps() == []
    assert listener.rejected == 0
    assert listener.trailing_silence() == 5
    assert [moment.flags for moment in listener.speaking] == [0, 1, 0]
    intervals = listener.inter_arrival(end=listener.packets[-6].arrival)
    assert 0.019 < intervals.mean() < 0.021
    assert np.percentile(intervals, 99) < 0.1  # a smoke test; the benchmark has the strict bound
    sound = listener.audio()
    assert sound.shape == (len(listener.packets) * 960, 2)
    assert pitch(sound[:144_000]) == pytest.approx(440, abs=1)
    assert np.abs(sound).max() == pytest.approx(0.3, rel=0.1)


async def test_what_is_heard_follows_the_clock(loopback: DiscordServer) -> None:
    ann = loopback.add_member("Ann")
    await loopback.join_voice(ann, loopback.guild.voice)
    await loopback.slash(ann, "play", tone=660)
    listener = await loopback.wait_voice(packets=25)
    first = listener.packets[0].arrival
    sound = listener.heard(first - 1.0, first + 0.4)
    assert len(sound) == 67_200
    assert not sound[: 48_000 + 2_400].any()  # nothing before the first packet and its jitter buffer
    assert np.sqrt((sound[-9_600:] ** 2).mean()) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)
    assert pitch(sound[-9_600:]) == pytest.approx(660, abs=5)


@pytest.mark.parametrize("in_guild", [False, True], ids=["global", "guild"])
async def test_commands_are_kept_and_found(discord_server: DiscordServer, in_guild: bool) -> None:
    async with discord_server.connect(Player(discord_server.guild.id if in_guild else None)):
        command = await discord_server.command("play")
        assert ("guild_id" in command) is in_guild
        assert command["contexts"] == [0]
        assert [choice["value"] for choice in command["options"][0]["choices"]] == [440, 660]
        ann = discord_server.add_member("Ann")
        assert (await discord_server.slash(ann, "panel")).contents == [""]
        with pytest.raises(LookupError, match="/dance"):
            await discord_server.slash(ann, "dance")
        for options in ({}, {"tone": 441}, {"tone": "440"}, {"tone": 440, "level": 6}, {"tone": 440, "volume": 1}):
            with pytest.raises(ValueError, match=r"tone|level|volume"):
                await discord_server.slash(ann, "play", **options)


async def test_buttons_update_the_message(loopback: DiscordServer) -> None:
    ann = loopback.add_member("Ann")
    panel = await loopback.slash(ann, "panel")
    (message,) = panel.messages
    assert not panel.deferred
    assert message.text == "Panel\nquiet\nmood: none"
    assert message.files == {"picture.png": b"picture"}

    pressed = await loopback.press(ann, message, "mood:fight")
    assert not pressed.deferred
    assert pressed.messages == []
    assert message.text == "fighting"

    deferred = await loopback.press(ann, message, "mood:later")
    assert deferred.deferred
    await loopback.changes.until(lambda: message.text == "later", timeout=20, what="the edit")
    assert message.history == ["Panel\nquiet\nmood: none", "fighting", "later"]


async def test_no_answer_in_three_seconds_fails(loopback: DiscordServer) -> None:
    with pytest.raises(InteractionFailed, match="did not respond"):
        await loopback.slash(loopback.add_member("Ann"), "sleep", guild=False)
    await asyncio.sleep(0.4)  # the command checks that its late answer is turned away


async def test_a_wrong_token_is_refused(discord_server: DiscordServer) -> None:
    with pytest.raises(discord.LoginFailure):
        async with discord_server.connect(Player(), REFUSED_TOKEN):
            pytest.fail("it was let in")


async def test_a_dropped_gateway_resumes_and_loses_nothing(loopback: DiscordServer) -> None:
    (session,) = loopback.gateway.sessions.values()
    ann = loopback.add_member("Ann")
    for fault in (loopback.faults.drop_gateway, loopback.faults.ask_reconnect):
        before = session.resumes
        await fault()
        asked = asyncio.create_task(loopback.slash(ann, "panel"))  # while the bot is away
        await loopback.changes.until(lambda: session.resumes > before, timeout=10, what="a resume")  # noqa: B023
        assert (await asked).embeds[0]["title"] == "Panel"


async def test_faults_of_the_voice_connection(loopback: DiscordServer) -> None:
    ann = loopback.add_member("Ann")
    await loopback.join_voice(ann, loopback.guild.voice)
    await loopback.slash(ann, "play", tone=440)
    await loopback.wait_voice(packets=10)

    await loopback.faults.move_bot(loopback.guild.other_voice)
    moved = await loopback.wait_voice(loopback.guild.other_voice, packets=10)
    assert len(loopback.listeners) == 2

    await loopback.faults.close_voice(4006)
    await loopback.changes.until(lambda: moved.ended is not None, timeout=20, what="the end of the old connection")
    back = await loopback.wait_voice(loopback.guild.other_voice, packets=10)
    assert back is not moved
    assert back.gaps() == []

    await loopback.faults.kick_bot()
    await loopback.wait_gone()
    assert loopback.voice_state_of_bot() is None


async def test_a_full_channel_says_nothing(discord_server: DiscordServer) -> None:
    full = discord_server.guild.add_channel("snug", user_limit=1)
    await discord_server.join_voice(discord_server.add_member("Ann"), full)
    async with discord_server.connect(Player()) as client:
        await client.wait_until_ready()
        channel = client.get_channel(full.id)
        assert isinstance(channel, discord.VoiceChannel)
        assert [member.name for member in channel.members] == ["Ann"]
        with pytest.raises(TimeoutError):
            await channel.connect(timeout=0.5, reconnect=False)
        assert discord_server.voice_state_of_bot() is None


async def test_two_tables_are_two_streams() -> None:
    async with DiscordServer(guilds=2) as server, server.connect(Player()):
        for guild, tone in zip(server.guilds, (440, 660), strict=True):
            member = server.add_member("Ann", guild=guild)
            await server.join_voice(member, guild.voice)
            await server.slash(member, "play", tone=tone)
        for guild, tone in zip(server.guilds, (440, 660), strict=True):
            listener = await server.wait_voice(guild.voice, packets=30)
            assert listener is server.listener_of(guild)
            assert pitch(listener.audio()[4_800:24_000]) == pytest.approx(tone, abs=5)


async def test_a_sharded_client_finds_its_guild(discord_server: DiscordServer) -> None:
    client = discord.AutoShardedClient(intents=discord.Intents(guilds=True), guild_ready_timeout=0.1)
    async with discord_server.connect(client):
        await client.wait_until_ready()
        assert [guild.id for guild in client.guilds] == [discord_server.guild.id]
        (session,) = discord_server.gateway.sessions.values()
        assert (session.shard, session.shards) == (0, 1)


async def test_a_bot_in_another_process(discord_server: DiscordServer, tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text(
        "import sys\n"
        "from tests.discord_server.test_discord_server import Player\n"
        "assert __name__ == '__main__' and sys.argv[1:] == ['run']\n"
        f"Player().run({TOKEN!r}, log_handler=None)\n"
    )
    bot = await discord_server.spawn("stranger", "run", env={"PYTHONPATH": str(tmp_path)})
    try:
        ann = discord_server.add_member("Ann")
        await discord_server.wait_ready()
        await discord_server.join_voice(ann, discord_server.guild.voice)
        await discord_server.slash(ann, "play", tone=440)
        listener = await discord_server.wait_voice(packets=50)
        assert pitch(listener.audio()[-24_000:]) == pytest.approx(440, abs=4)
    finally:
        bot.terminate()
        await bot.wait()


async def test_nothing_is_left_behind() -> None:
    before = set(threading.enumerate())
    async with DiscordServer() as server, server.connect(Player()) as client:
        await client.wait_until_ready()
        authority = server.environment()["LOOPBACK_DISCORD_AUTHORITY"]
        assert os.path.exists(authority)  # noqa: PTH110, ASYNC240 - one look at a local file
    assert not os.path.exists(authority)  # noqa: PTH110, ASYNC240
    assert asyncio.all_tasks() == {asyncio.current_task()}
    left = set(threading.enumerate()) - before
    for thread in left:  # discord.py asks its heartbeat's thread to end, and doesn't wait for it
        await asyncio.to_thread(thread.join, 10)
    assert not any(thread.is_alive() for thread in left)
