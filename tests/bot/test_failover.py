"""Two generators as processes; the one that plays is killed, and the other goes on with the very same music."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.client import Connected, FixedEndpoint, GeneratorClient, Wish
from generator.checkpoint import save_checkpoint
from generator.moods import Mood
from generator.protocol import AHEAD_FRAMES, FRAME_SECONDS, Controls, MoodLands, Opened
from tests.bot.conftest import Ear, dice
from tests.bot.test_client import until
from tests.generator.tiny import tiny_checkpoint

TAVERN, FIGHT = Controls(Mood("tavern")), Controls(Mood("fight"), 4)


class Recorder(Ear):
    """An ear that keeps what came, by its place; the last to come is what is heard."""

    def __init__(self) -> None:
        super().__init__()
        self.sound: dict[int, bytes] = {}

    def frame(self, index: int, pcm: bytes) -> None:
        super().frame(index, pcm)
        self.sound[index] = pcm

    async def listen(self, client: GeneratorClient, seconds: float) -> None:
        """Play by the clock."""
        clock = asyncio.get_running_loop().time
        begun, played = clock(), 0
        while clock() - begun < seconds:
            while played * FRAME_SECONDS < clock() - begun:
                self.buffer.next()
                played += 1
            client.advance(self.buffer.playhead)
            await asyncio.sleep(FRAME_SECONDS)


@asynccontextmanager
async def service(model: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A generator of its own process, and its address."""
    command = ["-m", "generator", "serve", "--model", str(model), "--port", "0", "--threads", "1", "--exit-with-stdin"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, env=os.environ
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        found = re.search(rb"listening on (\S+)", line)
        assert found, line
        yield process, f"http://{found[1].decode()}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.slow
async def test_a_killed_generators_music_goes_on_from_another_to_the_bit(tmp_path: Path) -> None:
    model = tmp_path / "tiny.safetensors"
    save_checkpoint(model, tiny_checkpoint())
    ear = Recorder()
    async with service(model) as (first, one), service(model) as (_, two):
        client = GeneratorClient(FixedEndpoint((one, two)), ear, Wish(TAVERN, 1.0), seed=2, rng=dice(1))
        client.start()
        try:
            await until(lambda: ear.buffer.ready > AHEAD_FRAMES / 2, 60)
            await ear.listen(client, 1)
            client.set_volume(0.4)
            client.set_mood(FIGHT)
            await until(lambda: any(isinstance(event, MoodLands) and event.mood == FIGHT.mood for event in ear.events))
            await ear.listen(client, 3)
            state = client._snapshot
            assert state is not None
            beyond = {place: pcm for place, pcm in ear.sound.items() if place >= state.frame}
            assert beyond, "what was sent of the next window will show that the other makes the same"
            told, came = len(ear.events), len(ear.frames)

            os.kill(first.pid, signal.SIGKILL)
            killed = asyncio.get_running_loop().time()
            playing = asyncio.create_task(ear.listen(client, 15))
            await until(lambda: any(isinstance(event, Connected) for event in ear.events[told:]))
            assert asyncio.get_running_loop().time() - killed < 3
            await playing
        finally:
            await client.close()
    events = ear.events[told:]
    assert [event.continues for event in events if isinstance(event, Opened)] == [True]
    assert {event.controls for event in events if isinstance(event, MoodLands)} == {FIGHT}
    places = ear.frames[came:]
    assert places == list(range(state.frame, places[-1] + 1))
    assert {place: ear.sound[place] for place in beyond} == beyond
    counts = ear.buffer.counts
    assert (counts.held, counts.late, counts.refused) == (0, 0, 0)
    assert ear.buffer.playhead > state.frame + 50, "it was heard"
