"""The unmodified bot against a loopback Discord: what the players hear, decoded from what it sent."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from bot import bard as bard_module
from bot.bard import Bard
from bot.client import FixedEndpoint
from bot.commands import add_commands
from bot.fake import FakeGenerator
from bot.generator_process import GeneratorProcess
from bot.settings import Settings
from bot.store import Store
from generator.moods import MOODS, Mood
from tests.bot.conftest import pitch
from tests.discord_server import SILENCE, DiscordServer, Listener, Member
from tests.discord_server.world import CONNECT, SPEAK

WINDOW = 0.2

CHILD = """
import asyncio, os, sys
from bot.fake import FakeGenerator
from bot.generator_process import GeneratorProcess
from bot.settings import Settings
from bot.store import Store
async def main():
    async with FakeGenerator(token=os.environ["BARDCAST_TOKEN"]) as fake:
        print("listening on", fake.url.removeprefix("http://"), flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def heard(listener: Listener) -> Mood | None:
    """The mood that the last moments sounded of."""
    return pitch(listener.audio(start=time.monotonic() - WINDOW))


def level(listener: Listener) -> float:
    sound = listener.audio(start=time.monotonic() - WINDOW)
    return float(np.sqrt(np.mean(sound**2))) if len(sound) else 0.0


async def until(true: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not true():  # noqa: ASYNC110 - what is heard rings no bell
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"waited {seconds:g} s for {what}")


@contextlib.asynccontextmanager
async def running(discord: DiscordServer, fake: FakeGenerator, volume: int = 100) -> AsyncIterator[Bard]:
    bard = Bard(FixedEndpoint(fake.url), Settings(volume=volume), Store())
    add_commands(bard)
    async with discord.connect(bard):
        yield bard


async def test_an_evening(discord_server: DiscordServer, fake: FakeGenerator, gm: Member) -> None:
    """The first mood, another, the same again, the volume, what plays now, and the end."""
    async with running(discord_server, fake):
        reply = await discord_server.slash(gm, "mood", mood="tavern")
        assert reply.deferred
        assert reply.ephemeral
        assert "tavern" in await reply.wait_for_text("Playing")
        listener = await discord_server.wait_voice(packets=50)
        await until(lambda: heard(listener) == "tavern", "the tavern")

        asked = time.monotonic()
        reply = await discord_server.slash(gm, "mood", mood="fight", intensity=5)
        assert "fight at intensity 5" in await reply.wait_for_text("Turning to")
        await until(lambda: heard(listener) == "fight", "the fight")
        assert time.monotonic() - asked < 4.0

        reply = await discord_server.slash(gm, "mood", mood="fight", intensity=5)
        await reply.wait_for_text("plays already")

        await asyncio.sleep(0.5)  # until the change's fade is over
        before = level(listener)
        reply = await discord_server.slash(gm, "volume", percent=50)
        await reply.wait_for_text("50 %")
        await until(lambda: level(listener) < 0.3 * before, "a lower volume")
        assert level(listener) > 0.15 * before

        reply = await discord_server.slash(gm, "now")
        text = await reply.wait_for_text("Fight")
        assert "Intensity: ▰▰▰▰▰ 5" in text
        assert "Volume: ▰▰▰▰▰▱▱▱▱▱ 50 %" in text
        assert "sines" in text

        reply = await discord_server.slash(gm, "stop")
        await reply.wait_for_text("stopped")
        await discord_server.wait_gone()
        assert [packet.payload for packet in listener.packets[-5:]] == [SILENCE] * 5
        assert listener.packets[-6].payload != SILENCE
        assert listener.gaps() == []

        reply = await discord_server.slash(gm, "now")
        await reply.wait_for_text("Nothing plays here")
        assert fake.lines == 0
    assert len(discord_server.listeners) == 1


async def test_the_generator_dies_and_comes_back(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mood is held, not silent; the GM hears of it once, in private; the mood asked meanwhile comes by itself."""
    monkeypatch.setattr("bot.table.NOTICE_SECONDS", 0.3)
    async with running(discord_server, fake):
        reply = await discord_server.slash(gm, "mood", mood="sad")
        listener = await discord_server.wait_voice(packets=25)
        await until(lambda: heard(listener) == "sad", "the first mood")
        await reply.wait_for_text("Playing")
        # So that the eight seconds that lie ready need not be waited for.
        fake.stalled = True
        second = await discord_server.slash(gm, "mood", mood="town")
        await fake.leave()
        died = time.monotonic()
        text = await second.wait_for_text("The music generator is away")
        assert "town plays as soon as it is back" in text
        third = await discord_server.slash(gm, "mood", mood="epic")
        await third.wait_for_text("as soon as it does")
        await asyncio.sleep(9.0 - (time.monotonic() - died))
        assert heard(listener) == "sad"
        reply = await discord_server.slash(gm, "now")
        await reply.wait_for_text("away")
        fake.stalled = False
        await fake.come()
        await until(lambda: heard(listener) == "epic", "the mood that was asked for last", 15.0)
        assert fake.opens[-1].mood == "epic"
        sound = listener.audio(start=died)
        blocks = sound[: len(sound) // 960 * 960].reshape(-1, 960 * 2)
        assert float(np.sqrt(np.mean(blocks**2, axis=1)).min()) > 0.02
        # A whole day of replies later nobody was told twice.
        assert sum("is away" in content for item in (second, third) for content in item.contents) == 1


async def test_the_child_is_killed_and_nobody_hears_it(discord_server: DiscordServer, gm: Member) -> None:
    """As the bot runs by default: the generator is its child, here one that plays sines."""
    process = GeneratorProcess([sys.executable, "-c", CHILD])
    await process.start()
    bard = Bard(process, Settings(volume=100), Store())
    add_commands(bard)
    try:
        async with discord_server.connect(bard):
            await discord_server.slash(gm, "mood", mood="sad")
            listener = await discord_server.wait_voice(packets=50)
            await until(lambda: heard(listener) == "sad", "the first mood")
            assert process.process is not None
            killed = time.monotonic()
            process.process.kill()
            await discord_server.slash(gm, "mood", mood="town")
            await until(lambda: heard(listener) == "town", "the mood that was asked of a dead generator")
            sound = listener.audio(start=killed)
            blocks = sound[: len(sound) // 960 * 960].reshape(-1, 960 * 2)
            assert float(np.sqrt(np.mean(blocks**2, axis=1)).min()) > 0.02
            assert process.starts == 2
    finally:
        await process.stop()


async def test_shown_out_it_stays_away(discord_server: DiscordServer, fake: FakeGenerator, gm: Member) -> None:
    async with running(discord_server, fake) as bard:
        await discord_server.slash(gm, "mood", mood="sad")
        await discord_server.wait_voice(packets=25)
        await discord_server.faults.kick_bot()
        await until(lambda: fake.lines == 0, "the stream to be closed")
        await asyncio.sleep(1.0)
        assert discord_server.voice_state_of_bot() is None
        assert len(discord_server.listeners) == 1
        assert bard.table(bard.guilds[0]) is None
        await discord_server.slash(gm, "mood", mood="town")
        listener = await discord_server.wait_voice(packets=25)
        await until(lambda: heard(listener) == "town", "the mood after")


async def test_the_gm_calls_it_into_another_channel(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member
) -> None:
    other = discord_server.guild.other_voice
    async with running(discord_server, fake):
        await discord_server.slash(gm, "mood", mood="sad")
        await discord_server.wait_voice(packets=25)
        await discord_server.join_voice(gm, other)
        reply = await discord_server.slash(gm, "mood", mood="sad")
        await reply.wait_for_text("now in tavern room", timeout=20.0)
        listener = await discord_server.wait_voice(other, packets=25)
        await until(lambda: heard(listener) == "sad", "the mood in the other channel")


async def test_what_cannot_be_done_is_said(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    home = discord_server.guild
    stranger = discord_server.add_member("stranger")
    full = home.add_channel("cupboard", user_limit=1)
    refusal = {"id": str(home.everyone.id), "type": 0, "allow": "0", "deny": str(CONNECT | SPEAK)}
    barred = home.add_channel("vault", overwrites=[refusal])
    async with running(discord_server, fake) as bard:
        reply = await discord_server.slash(stranger, "mood", mood="sad")
        await reply.wait_for_text("You are in no voice channel")
        await discord_server.join_voice(stranger, full)
        reply = await discord_server.slash(stranger, "mood", mood="sad")
        await reply.wait_for_text("cupboard is full")
        await discord_server.join_voice(stranger, barred)
        reply = await discord_server.slash(stranger, "mood", mood="sad")
        assert "Connect and Speak" in await reply.wait_for_text("I may not play in vault")
        for command in ("stop", "now"):
            reply = await discord_server.slash(stranger, command)
            await reply.wait_for_text("Nothing plays here")

        async def broken(*_: object) -> str:
            raise RuntimeError("a planted fault")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bard_module.Bard, "silence", broken)
            reply = await discord_server.slash(stranger, "stop")
            await reply.wait_for_text("went wrong on my side")
            assert "planted" not in reply.text
        assert bard.table(bard.guilds[0]) is None


async def test_the_commands_as_discord_knows_them(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    async with running(discord_server, fake):
        mood = await discord_server.command("mood")
        assert [choice["value"] for choice in mood["options"][0]["choices"]] == list(MOODS)
        for name in ("mood", "stop", "volume", "now"):
            assert (await discord_server.command(name))["contexts"] == [0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_as_a_process_it_leaves_when_told_to(
    discord_server: DiscordServer, fake: FakeGenerator, gm: Member, number: signal.Signals
) -> None:
    env = {"DISCORD_TOKEN": "loopback-token", "BARDCAST_GENERATOR_URL": fake.url, "BARDCAST_VOLUME": "100"}
    process = await discord_server.spawn("bot", "run", env=env)
    try:
        await discord_server.wait_ready()
        await discord_server.slash(gm, "mood", mood="festival")
        listener = await discord_server.wait_voice(packets=50)
        await until(lambda: heard(listener) == "festival", "the mood")
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await discord_server.wait_gone()
    assert listener.trailing_silence() == 5


async def test_a_refused_token_is_one_sentence(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    env = {"DISCORD_TOKEN": "loopback-refused", "BARDCAST_GENERATOR_URL": fake.url}
    process = await discord_server.spawn("bot", "run", env=env, output=asyncio.subprocess.PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"Discord refuses the token" in errors
    assert b"Traceback" not in errors
