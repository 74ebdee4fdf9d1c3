"""What several of the bot's tests need."""

import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from bot.client import ClientEvent
from bot.fake import PITCHES, FakeGenerator
from bot.jitter_buffer import JitterBuffer
from generator.moods import Mood
from generator.protocol import SAMPLE_RATE, Opened

if TYPE_CHECKING:  # discord.py warns when it is imported, and here nobody filters that yet
    from tests.discord_server import DiscordServer, Member


class Ear:
    """A ``bot.client.Listener`` over a buffer that remembers what happened."""

    def __init__(self) -> None:
        self.buffer = JitterBuffer()
        self.events: list[ClientEvent] = []
        self.frames: list[int] = []

    def stream_begins(self, *, changed: bool, resumable: int | None) -> int:
        self.buffer.begin_stream()
        return self.buffer.resume_at(changed=changed, resumable=resumable)

    def frame(self, index: int, pcm: bytes) -> None:
        self.frames.append(index)
        self.buffer.put(index, pcm)

    def event(self, event: ClientEvent) -> None:
        self.events.append(event)
        if isinstance(event, Opened) and event.continues:
            self.buffer.continue_stream()


def dice(seed: int) -> random.Random:
    """Chance that repeats itself."""
    return random.Random(seed)  # noqa: S311 - nothing is to be kept secret


def pitch(sound: NDArray[np.float32]) -> Mood | None:
    """The mood whose pitch is the loudest in ``sound`` (samples, 2), if any is loud at all."""
    mono = sound.mean(axis=1)
    if len(mono) == 0 or float(np.sqrt(np.mean(mono**2))) < 0.002:
        return None
    spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono))))
    loudest = float(np.fft.rfftfreq(len(mono), 1 / SAMPLE_RATE)[int(spectrum.argmax())])
    mood, hertz = min(PITCHES.items(), key=lambda item: abs(item[1] - loudest))
    return mood if abs(hertz - loudest) < 0.03 * hertz else None


@pytest.fixture
async def fake() -> AsyncIterator[FakeGenerator]:
    async with FakeGenerator() as generator:
        yield generator


@pytest.fixture
async def gm(discord_server: "DiscordServer") -> "Member":
    """Who asks, and listens at the table."""
    member = discord_server.add_member("gm")
    await discord_server.join_voice(member, discord_server.guild.voice)
    return member
