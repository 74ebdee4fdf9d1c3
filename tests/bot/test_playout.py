import asyncio

import numpy as np

from bot.fake import PITCHES
from bot.jitter_buffer import FADE_FRAMES
from bot.opus import SILENCE, OpusEncoder
from bot.playout import AHEAD_PACKETS, Playout
from generator.moods import Mood
from generator.protocol import FRAME_SAMPLES
from tests.bot.conftest import pitch
from tests.bot.test_jitter_buffer import filled
from tests.discord_server.rtp import decode


def make(frames: int = 200) -> tuple[Playout, list[int]]:
    told: list[int] = []
    return Playout(filled(frames), OpusEncoder(64_000), told.append), told


async def test_read_pops_what_was_made_and_is_silent_when_there_is_none() -> None:
    playout, told = make()
    assert playout.is_opus()
    assert playout.read() == SILENCE
    playout.fill()
    assert told == [AHEAD_PACKETS]
    packets = [playout.read() for _ in range(AHEAD_PACKETS)]
    assert SILENCE not in packets
    assert playout.underruns == 1
    assert playout.read() == SILENCE
    assert playout.underruns == 2


async def test_it_ends_only_when_asked() -> None:
    playout, _ = make(60)
    for _ in range(300):
        playout.fill()
        assert playout.read()
    playout.end()
    assert playout.read() == b""


async def test_nothing_is_made_before_there_is_music() -> None:
    playout, told = make(3)
    playout.fill()
    assert told == []
    assert not playout.music.is_set()


async def test_the_pump_keeps_up_with_a_reader() -> None:
    playout, _ = make(400)
    pump = asyncio.create_task(playout.pump())
    await playout.music.wait()
    for _ in range(50):
        playout.read()
        await asyncio.sleep(0.005)
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    assert playout.underruns < 50  # it is read four times too fast; at its own pace see the end-to-end tests


async def test_a_reader_at_discords_pace_never_waits() -> None:
    playout, _ = make(400)
    pump = asyncio.create_task(playout.pump())
    await playout.music.wait()
    for _ in range(50):
        playout.read()
        await asyncio.sleep(0.02)
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    assert playout.underruns == 0


def test_packets_hold_the_sound_and_one_frame_each() -> None:
    hertz = PITCHES[Mood("sad")]
    places = np.arange(100 * FRAME_SAMPLES)
    tone = np.rint(8_000 * np.sin(2 * np.pi * hertz / 48_000 * places)).astype(np.int16)
    frames = np.repeat(tone[:, None], 2, axis=1).reshape(100, FRAME_SAMPLES, 2)
    encoder = OpusEncoder(96_000)
    packets = [encoder.encode(frame) for frame in frames]
    sound = decode(packets)
    assert sound.shape == (100, FRAME_SAMPLES, 2)
    assert pitch(sound[FADE_FRAMES:].reshape(-1, 2)) == "sad"


def test_the_bitrate_is_the_channels_within_what_discord_grants() -> None:
    noise = np.random.default_rng(1).normal(0, 5_000, (100, FRAME_SAMPLES, 2)).astype(np.int16)

    def size(bitrate: int) -> float:
        encoder = OpusEncoder(bitrate)
        return float(np.mean([len(encoder.encode(frame)) for frame in noise])) * 8 * 50

    assert 0.8 < size(64_000) / 64_000 < 1.2
    assert 0.8 < size(128_000) / 128_000 < 1.2
    assert size(8_000) > 12_000
    assert size(10**9) < 450_000
