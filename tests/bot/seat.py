"""A table in the loopback Discord without the rest of the bot, and what is heard of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import discord
import numpy as np
import pytest
from numpy.typing import NDArray

from bot.client import FixedEndpoint, Wish
from bot.fake import AMPLITUDE, FakeGenerator
from bot.localisation import Sentence
from bot.table import Table
from bot.voice import Channel
from generator.moods import Mood
from generator.protocol import SAMPLE_RATE, Controls
from tests.bot.conftest import pitch
from tests.discord_server import Channel as LoopbackChannel
from tests.discord_server import DiscordServer

INTENTS = discord.Intents(guilds=True, voice_states=True)
VOLUME = 0.5
MOOD = Mood("sad")
BLOCK_SECONDS = 0.02
SILENT = 0.02  #: RMS of a block; the mood's own is 0.09
STEADY_SECONDS = 0.4


@dataclass
class Seat:
    """One table, and what it told."""

    server: DiscordServer
    client: discord.Client
    table: Table
    told: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def channel(self, channel: LoopbackChannel) -> Channel:
        """As discord.py knows it."""
        known = self.client.get_channel(channel.id)
        assert isinstance(known, Channel)
        return known

    def heard(self, start: float, end: float | None = None) -> NDArray[np.float32]:
        """What an ear in the voice channels had, whichever connection it came by."""
        until = time.monotonic() - 0.1 if end is None else end
        listeners = self.server.listeners
        total = np.zeros((round((until - start) * SAMPLE_RATE), 2), np.float32)
        for listener in listeners:
            total += listener.heard(start, until)
        return total

    async def steady(self, seconds: float = 30.0) -> float:
        """Returns when there was sound for some moments without a hole, and since when there was."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await asyncio.sleep(0.05)
                    start = time.monotonic() - 0.1 - STEADY_SECONDS
                    sound = levels(self.heard(start))
                    if sound.min() > max(SILENT, 0.9 * sound.max()):  # also no fade any more
                        return start
        except TimeoutError:
            pytest.fail(f"waited {seconds:g} s for sound")

    def check(self, mood: str = MOOD, volume: float = VOLUME) -> None:
        """The last moments sound of that mood, at that volume."""
        sound = self.heard(time.monotonic() - 0.1 - STEADY_SECONDS)
        assert pitch(sound) == mood
        expected = volume * AMPLITUDE / 32_768 / np.sqrt(2)
        assert float(np.sqrt(np.mean(sound**2))) == pytest.approx(expected, rel=0.1)

    async def silence_of(
        self, fault: Callable[[], Awaitable[None]], done: Callable[[], object], seconds: float = 60.0
    ) -> float:
        """How long the longest silence was from a fault until all is well again, in seconds.

        Args:
            fault: what happens.
            done: whether the bot has met it.
            seconds: how long all of it may take.
        """
        start = time.monotonic()
        await fault()
        await self.until(done, "the bot to meet the fault", seconds)
        await asyncio.sleep(STEADY_SECONDS)
        await self.steady(seconds)
        self.check()
        return longest_silence(self.heard(start - 0.2))

    async def until(self, true: Callable[[], object], what: str, seconds: float = 20.0) -> None:
        """Returns when it is so."""
        try:
            async with asyncio.timeout(seconds):
                while not true():  # noqa: ASYNC110 - what is heard rings no bell
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"waited {seconds:g} s for {what}")


def levels(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """RMS of each 20 ms."""
    block = round(BLOCK_SECONDS * SAMPLE_RATE)
    whole = sound[: len(sound) // block * block].reshape(-1, block * 2)
    rms: NDArray[np.float32] = np.sqrt(np.mean(whole**2, axis=1))
    return rms


def longest_silence(sound: NDArray[np.float32]) -> float:
    """Seconds."""
    longest = run = 0
    for level in levels(sound):
        run = run + 1 if level < SILENT else 0
        longest = max(longest, run)
    return longest * BLOCK_SECONDS


@contextlib.asynccontextmanager
async def seated(
    server: DiscordServer,
    fake: FakeGenerator,
    *,
    channel: LoopbackChannel | None = None,
    client: discord.Client | None = None,
    begin: bool = True,
) -> AsyncIterator[Seat]:
    """A table that plays in ``channel``; with ``begin=False`` one that is still to join."""
    told: list[str] = []
    ended: list[str] = []
    bot = client or discord.Client(intents=INTENTS, guild_ready_timeout=0.1)
    async with server.connect(bot):
        await bot.wait_until_ready()
        wish = Wish(Controls(MOOD), VOLUME)

        def notice(sentence: Sentence) -> None:
            told.append(str(sentence))

        def end(_: Table, reason: Sentence) -> None:
            ended.append(str(reason))

        table = Table(FixedEndpoint(fake.url), wish, seed=1, notice=notice, ended=end)
        seat = Seat(server, bot, table, told, ended)
        try:
            if begin:
                await table.join(seat.channel(channel or server.guild.voice))
                await seat.steady()
            yield seat
        finally:
            await table.stop()
