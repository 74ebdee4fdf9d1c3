"""The bard at the loopback Discord, asked directly and not by commands; and what the party hears."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import discord
import numpy as np
import pytest
from numpy.typing import NDArray

from bot.bard import Bard
from bot.client import FixedEndpoint
from bot.commands import add_commands
from bot.engagement import Change
from bot.fake import AMPLITUDE, FakeGenerator
from bot.settings import Settings
from bot.store import Store
from bot.voice import Channel
from generator.moods import Mood
from generator.protocol import SAMPLE_RATE, Controls, Transition
from tests.bot.conftest import pitch
from tests.discord_server import DiscordServer, Guild, Member

WINDOW: Final = 0.4  #: seconds by which a mood is told
LAG: Final = 0.1  #: seconds until what was sent is surely heard


@dataclass
class Party:
    """A bard that is ready, and the guild whose GM asks it."""

    server: DiscordServer
    bard: Bard
    told: list[str] = field(default_factory=list)

    @property
    def guild(self) -> discord.Guild:
        """As discord.py knows it."""
        return self.guild_of(self.server.guild)

    def guild_of(self, guild: Guild) -> discord.Guild:
        """As discord.py knows it."""
        known = self.bard.get_guild(guild.id)
        assert known is not None
        return known

    def member(self, member: Member) -> discord.Member:
        """As discord.py knows them."""
        known = self.guild_of(member.guild).get_member(member.user.id)
        assert known is not None
        return known

    async def ask(self, member: Member, mood: str, intensity: int = 3, transition: Transition = "sudden") -> str:
        """``member`` asks for a mood; what the bard says."""
        done = await self.bard.play(self.member(member), just(Controls(Mood(mood), intensity)), transition)
        return " ".join(map(str, done))

    @property
    def channel(self) -> Channel:
        """The guild's first voice channel."""
        known = self.guild.get_channel(self.server.guild.voice.id)
        assert isinstance(known, Channel)
        return known

    def sound(self, guild: Guild | None = None) -> NDArray[np.float32]:
        """The last moments, as the channels heard them, whichever connection they came by."""
        end = time.monotonic() - LAG
        total = np.zeros((round(WINDOW * SAMPLE_RATE), 2), np.float32)
        for connection in self.server.voice.connections:
            if connection.grant.guild is (guild or self.server.guild):
                total += connection.listener.heard(end - WINDOW, end)[: len(total)]
        return total

    async def hears(self, mood: str, guild: Guild | None = None, seconds: float = 20.0) -> None:
        """Returns when that mood is heard."""
        await until(lambda: pitch(self.sound(guild)) == mood, f"{mood} to be heard", seconds)

    async def hears_nothing(self, seconds: float = 20.0) -> None:
        """Returns when nothing is heard."""
        await until(lambda: not self.sound().any(), "silence", seconds)

    def gain(self) -> float:
        """How loud the last moments were, against a sine at full volume."""
        return float(np.sqrt(2 * np.mean(self.sound() ** 2))) / (AMPLITUDE / 32_768)


def just(controls: Controls) -> Change:
    """These, whatever is heard."""
    return lambda _: controls


async def until(true: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Returns when it is so."""
    try:
        async with asyncio.timeout(seconds):
            while not true():  # noqa: ASYNC110 - what is heard rings no bell
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"waited {seconds:g} s for {what}")


@contextlib.asynccontextmanager
async def party(
    server: DiscordServer,
    fake: FakeGenerator,
    *,
    store: Path | None = None,
    settings: Settings = Settings(volume=100),  # noqa: B008 - frozen
    kind: type[Bard] = Bard,
    shards: int | None = None,
    commands: bool = False,
) -> AsyncIterator[Party]:
    """A bard with what it remembers in ``store``; with ``commands`` it can be asked by them, too."""
    async with Store(store) as memory:
        bard = kind(FixedEndpoint(fake.url), settings, memory, guild_ready_timeout=0.2, shard_count=shards)
        if commands:
            add_commands(bard)
        found = Party(server, bard)

        async def whisper(guild: int, sentence: object) -> None:
            found.told.append(str(sentence))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bard, "_whisper", whisper)
            async with server.connect(bard):
                await bard.wait_until_ready()
                yield found
