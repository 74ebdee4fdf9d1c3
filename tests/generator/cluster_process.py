"""A whole cluster as a process, with real Ray beneath it, and tables that listen to it as a bot does."""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
from numpy.typing import NDArray

from bot.client import Away, Connected, FixedEndpoint, GeneratorClient, Wish
from bot.jitter_buffer import JitterBuffer
from generator.__main__ import RAY_ENVIRONMENT
from generator.moods import Mood
from generator.protocol import FRAME_SECONDS, SAMPLE_RATE, Controls, MoodLands, Opened, Problem

ROOT = Path(__file__).parents[2]
START_SECONDS = 300


@dataclass
class Cluster:
    """``bardcast-generator cluster up``, as a process."""

    url: str
    dashboard: str
    process: asyncio.subprocess.Process
    env: dict[str, str]

    async def replicas(self, deployment: str) -> dict[int, str]:
        """Process → state, as Serve tells it."""
        headers = {"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{self.dashboard}/api/serve/applications/") as answer,
        ):
            told: dict[str, Any] = await answer.json()
        replicas = told["applications"]["bardcast"]["deployments"][deployment]["replicas"]
        return {each["pid"]: each["state"] for each in replicas if each.get("pid")}

    async def until_running(self, deployment: str, number: int, without: Sequence[int] = ()) -> None:
        """Wait until so many replicas run, and none of them is one of those."""
        while True:
            replicas = await self.replicas(deployment)
            running = [pid for pid, state in replicas.items() if state == "RUNNING" and pid not in without]
            if len(running) == number:
                return
            await asyncio.sleep(0.1)

    async def play(self, model: Path) -> None:
        """``bardcast-generator cluster model``."""
        command = ("-m", "generator", "cluster", "model", str(model), "--address", self.dashboard)
        process = await asyncio.create_subprocess_exec(sys.executable, *command, env=self.env, cwd=ROOT)
        assert await process.wait() == 0


@contextlib.asynccontextmanager
async def cluster(model: Path, replicas: int = 1, ingresses: int = 1, light: bool = True) -> AsyncIterator[Cluster]:
    """A cluster that listens; when it is ended, nothing is left of it."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a socket's path must be short
    env = {
        **os.environ,
        **RAY_ENVIRONMENT,
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": str(ROOT),
    }
    numbers = ("--port", "0", "--replicas", str(replicas), "--ingresses", str(ingresses), "--threads", str(replicas))
    program = "tests.generator.light_cluster" if light else "generator"
    command = ("-m", program, "cluster", "up", "--model", str(model), *numbers)
    told = folder / "told"
    with told.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=env, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    family: set[psutil.Process] = set()
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), START_SECONDS)).decode()
        dashboard = re.search(r"managed at (\S+)", told.read_text())
        assert dashboard is not None, told.read_text()
        assert line.startswith("listening on "), told.read_text()
        one = Cluster(f"http://{line.split()[-1]}", dashboard[1], process, env)
        yield one
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family |= set(psutil.Process(process.pid).children(recursive=True))
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        status = await process.wait()
        _, left = psutil.wait_procs(family, timeout=5)
        for each in left:
            each.kill()
        errors_told = told.read_text()
        shutil.rmtree(folder)
    assert status == 0, errors_told
    assert not left, left


class Table:
    """A stream as a table hears it, in real time: the bot's own client and buffer."""

    def __init__(self, url: str, seed: int, mood: Mood) -> None:
        self.buffer = JitterBuffer()
        self.refused = False
        self.quietest = 1.0  #: root mean square of a frame, of full scale, once it has begun
        self._heard: deque[NDArray[np.int16]] = deque(maxlen=50)
        self.models: list[str] = []
        self.aways: list[float] = []
        self.resumed: list[float] = []
        self._landings: list[tuple[int, Mood]] = []
        self.client = GeneratorClient(FixedEndpoint(url), self, Wish(Controls(mood), 1.0), seed=seed)

    # bot.client.Listener

    def stream_begins(self, *, changed: bool, resumable: int | None) -> int:
        self.buffer.begin_stream()
        return self.buffer.resume_at(changed=changed, resumable=resumable)

    def frame(self, index: int, pcm: bytes) -> None:
        self.buffer.put(index, pcm)

    def event(self, event: object) -> None:
        match event:
            case Problem(code="full"):
                self.refused = True
            case Opened(model=model, continues=continues):
                self.models.append(model)
                if continues:
                    self.buffer.continue_stream()
            case Away():
                self.aways.append(time.monotonic())
            case Connected():
                self.resumed.append(time.monotonic())
            case MoodLands(mood=mood, frame=frame):
                self._landings.append((frame, mood))

    # The ear

    @property
    def mood(self) -> Mood | None:
        """What is heard now."""
        landed = [mood for frame, mood in self._landings if frame <= self.buffer.playhead]
        return landed[-1] if landed else None

    def tick(self) -> None:
        """20 ms."""
        if self.buffer.started or self.buffer.can_start:
            frame = self.buffer.next()
            self.client.advance(self.buffer.playhead)
            self._heard.append(frame)
            if self.buffer.counts.played > 50:
                self.quietest = min(self.quietest, float(np.sqrt(np.mean(np.square(frame / 32768.0)))))

    @property
    def pitch(self) -> float:
        """The loudest frequency of the last second, Hz."""
        mono = np.concatenate(self._heard).mean(axis=1)
        spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono))))
        return float(np.fft.rfftfreq(len(mono), 1 / SAMPLE_RATE)[int(spectrum.argmax())])


@contextlib.asynccontextmanager
async def playing(made: list[Table]) -> AsyncIterator[None]:
    """Time passes for tables, also for those that join them."""
    task = asyncio.create_task(_play(made))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*(table.client.close() for table in made))


@contextlib.asynccontextmanager
async def tables(url: str, moods: Sequence[Mood]) -> AsyncIterator[list[Table]]:
    """That many tables, each of which has begun to hear something; they listen until the end."""
    made = [Table(url, seed, mood) for seed, mood in enumerate(moods)]
    async with playing(made):
        for table in made:
            table.client.start()
        await until(lambda: all(table.buffer.counts.played > 50 for table in made), 60)
        yield made


async def _play(made: Sequence[Table]) -> None:
    begun, ticks = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begun) / FRAME_SECONDS)
        while ticks < due:
            ticks += 1
            for table in made:
                table.tick()
            await asyncio.sleep(0)  # what came while this process was not let run is there in time, as for a real ear
        await asyncio.sleep(FRAME_SECONDS / 2)


async def until(true: Callable[[], object], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
