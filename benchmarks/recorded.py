"""A generator that has nothing to compute: it sends what it made at its start, over and over, in windows.

Run by ``benchmarks.load`` as a process of its own, so that what is measured is the bot. It speaks the real protocol
and obeys the back-pressure; a change of mood is another place in the recording.
"""

import asyncio
import sys
from typing import Final

import numpy as np
from aiohttp import WSMsgType, web

from generator.moods import MOODS
from generator.protocol import (
    AHEAD_FRAMES,
    CHANNELS,
    FRAME_SAMPLES,
    FRAMES_PER_SECOND,
    SAMPLE_RATE,
    MoodLands,
    Open,
    Opened,
    Pace,
    Playhead,
    SetMood,
    SetVolume,
    decode_client,
    encode,
    pack_frame,
)

WINDOW_FRAMES: Final = 2 * FRAMES_PER_SECOND  #: come at once, as a generator's do
LATENCY_FRAMES: Final = 20  #: a change lands this far past the playhead
_SECONDS: Final = 20
_NOISE: Final = 300.0


def record(seed: int = 0) -> list[bytes]:
    """Frames of something that is as hard to encode as music: chords that change, and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(_SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    sound = rng.normal(0, _NOISE, (len(time), CHANNELS))
    for second in range(_SECONDS):
        part = slice(second * SAMPLE_RATE, (second + 1) * SAMPLE_RATE)
        for pitch in rng.uniform(80, 4_000, 6):
            sound[part] += 1_500 * np.sin(2 * np.pi * pitch * time[part] + rng.uniform(0, 6, (CHANNELS, 1))).T
    frames = np.rint(sound).astype("<i2").reshape(-1, FRAME_SAMPLES * CHANNELS)
    return [frame.tobytes() for frame in frames]


class _Stream:
    """One table's."""

    def __init__(self, opening: Open) -> None:
        self.place = self.playhead = opening.start
        self.mood = MOODS.index(opening.mood)
        self.news = asyncio.Event()

    async def send(self, socket: web.WebSocketResponse, frames: list[bytes]) -> None:
        """Windows, as far ahead as is allowed."""
        while True:
            if self.place + WINDOW_FRAMES > self.playhead + AHEAD_FRAMES:
                self.news.clear()
                await self.news.wait()
                continue
            for place in range(self.place, self.place + WINDOW_FRAMES):
                offset = self.mood * len(frames) // len(MOODS)
                await socket.send_bytes(pack_frame(place, frames[(place + offset) % len(frames)]))
                self.place = place + 1
            await socket.send_str(encode(Pace(WINDOW_FRAMES / FRAMES_PER_SECOND, 0.01)))

    async def obey(self, socket: web.WebSocketResponse, asked: SetMood | SetVolume | Playhead) -> None:
        """What the client asks."""
        self.playhead = asked.frame if isinstance(asked, Playhead) else asked.playhead
        if isinstance(asked, SetMood):
            self.mood = MOODS.index(asked.mood)
            self.place = min(self.place, asked.playhead + LATENCY_FRAMES)
            await socket.send_str(encode(MoodLands(asked.mood, asked.intensity, self.place, asked.blend)))
        self.news.set()


def app() -> web.Application:
    """The service."""
    frames = record()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        opening = decode_client((await socket.receive()).data)
        if not isinstance(opening, Open):
            raise TypeError(f"{opening} came first")
        stream = _Stream(opening)
        await socket.send_str(encode(Opened("recorded")))
        await socket.send_str(encode(MoodLands(opening.mood, opening.intensity, opening.start, opening.blend)))
        sender = asyncio.create_task(stream.send(socket, frames))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    asked = decode_client(message.data)
                    if not isinstance(asked, Open):
                        await stream.obey(socket, asked)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return socket

    made = web.Application()
    made.router.add_get("/v1/stream", serve)
    return made


async def _run() -> None:
    runner = web.AppRunner(app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)  # its end is the end
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_run())
