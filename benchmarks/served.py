"""The generator as a service in a process of its own, and a listener that takes whatever has come for played."""

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from generator.protocol import (
    FRAMES_PER_SECOND,
    Open,
    Opened,
    Pace,
    Playhead,
    decode_server,
    encode,
    unpack_frame,
)
from generator.settings import TOKEN_VARIABLE

START_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Service:
    """A generator that listens.

    Attributes:
        url: of its streams.
        pid: its process.
        start_seconds: from its start until it listened.
    """

    url: str
    pid: int
    start_seconds: float


@dataclass(slots=True)
class Heard:
    """What one listener was sent.

    Attributes:
        first_seconds: from the opening to the first frame.
        seconds: from the opening to the last frame that was waited for.
        paces: what each window was, and what it cost.
    """

    first_seconds: float = float("nan")
    seconds: float = float("nan")
    paces: list[Pace] = field(default_factory=list)

    @property
    def audio_seconds(self) -> float:
        """Seconds of music."""
        return sum(pace.audio_seconds for pace in self.paces)

    @property
    def compute_seconds(self) -> float:
        """Seconds that the service computed for it."""
        return sum(pace.compute_seconds for pace in self.paces)


@contextlib.asynccontextmanager
async def serving(
    model: str, *, threads: int | None = None, streams: int | None = None, device: str | None = None
) -> AsyncIterator[Service]:
    """Start it, and end it at the end.

    Args:
        model: checkpoint, by its name or path.
        threads: of the CPU; one a core if not given.
        streams: how many it plays at once; its own default if not given.
        device: ``cpu`` hides the GPU from it, which it would take otherwise.
    """
    command = ["-m", "generator", "serve", "--port", "0", "--model", model, "--exit-with-stdin"]
    for option, value in (("--threads", threads), ("--max-streams", streams)):
        command += [] if value is None else [option, str(value)]
    env = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    if device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=env
    )
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS) if process.stdout else b""
        match = re.search(rb"listening on (\S+)", line)
        if match is None:
            raise SystemExit("the generator did not start; it says above why")
        url = f"http://{match.group(1).decode()}/v1/stream"
        yield Service(url, process.pid, time.perf_counter() - begun)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def listen(
    session: aiohttp.ClientSession, url: str, opening: Open, enough: Callable[[Sequence[Pace]], bool]
) -> Heard:
    """One stream, as fast as it can be sent, until the windows are enough and all their frames are here."""
    heard, newest = Heard(), -1
    begun = time.perf_counter()
    async with session.ws_connect(url) as socket:
        await socket.send_str(encode(opening))
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                newest = unpack_frame(message.data)[0] - opening.start
                if newest == 0:
                    heard.first_seconds = time.perf_counter() - begun
            elif isinstance(event := decode_server(message.data), Pace):
                heard.paces.append(event)
                await socket.send_str(encode(Playhead(opening.start + max(newest, 0))))
            elif not isinstance(event, Opened) and event.type == "problem":
                raise SystemExit(f"the generator reports: {message.data}")
            if enough(heard.paces) and newest + 1 >= round(heard.audio_seconds * FRAMES_PER_SECOND):
                break
        else:
            raise SystemExit("the generator ended the stream; it says above why")
        heard.seconds = time.perf_counter() - begun
    return heard
