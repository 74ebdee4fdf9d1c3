import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from bot.fake import PITCHES
from bot.jitter_buffer import FADE_FRAMES
from bot.opus import SILENCE, OpusEncoder
from bot.playout import AHEAD_PACKETS, DEFAULT_BITRATE, FADE_PACKETS, Playout
from generator.moods import Mood
from generator.protocol import FRAME_SAMPLES, SAMPLE_RATE
from tests.bot.conftest import pitch
from tests.bot.test_jitter_buffer import HERTZ, filled
from tests.discord_server.rtp import decode


def make(frames: int = 200) -> tuple[Playout, list[int]]:
    told: list[int] = []
    return Playout(filled(frames), told.append), told


def drain(playout: Playout) -> list[bytes]:
    """All packets up to the end."""
    return list(iter(playout.read, b""))


def levels(packets: list[bytes]) -> NDArray[np.float32]:
    rms: NDArray[np.float32] = np.sqrt(np.mean(decode(packets) ** 2, axis=(1, 2)))
    return rms


async def test_read_pops_what_was_made_and_is_silent_when_there_is_no_music() -> None:
    playout, told = make()
    assert playout.is_opus()
    assert playout.read() == SILENCE
    playout.begin()
    assert told == [AHEAD_PACKETS]
    packets = [playout.read() for _ in range(AHEAD_PACKETS)]
    assert SILENCE not in packets
    assert playout.underruns == 1
    assert playout.taken == AHEAD_PACKETS + 1


async def test_an_event_loop_that_is_late_is_not_heard() -> None:
    """Whoever reads is given the same packets in the same order, whether the pump runs or stands."""
    wanted: list[bytes] = []
    heard: list[bytes] = []
    for packets, late in ((wanted, range(0)), (heard, range(3, 90))):
        playout, told = make(120)
        playout.begin()
        for number in range(110):
            packets.append(playout.read())
            if number not in late:
                playout.fill()
        assert playout.underruns == 0
        assert told[-1] == 110 + AHEAD_PACKETS
    assert heard == wanted


async def test_two_threads_share_what_there_is() -> None:
    """The player thread catches up on what a pause of the whole machine left, while the pump does the same."""
    shared, _ = make(2_000)
    shared.begin()
    with ThreadPoolExecutor(1) as player:
        reading = player.submit(lambda: [shared.read() for _ in range(1_000)])
        while not reading.done():
            shared.fill()
    alone, _ = make(2_000)
    alone.begin()
    assert reading.result() == [alone.read() for _ in range(1_000)]
    assert shared.underruns == 0


async def test_it_ends_only_when_asked() -> None:
    playout, _ = make(60)
    playout.begin()
    for _ in range(300):
        playout.fill()
        assert playout.read()
    playout.finish()
    drain(playout)
    assert playout.underruns == 0


@pytest.mark.parametrize("read_before", [0, 3, 40])
async def test_it_fades_in_and_out_within_300_ms(read_before: int) -> None:
    playout, _ = make()
    playout.begin()
    packets = []
    for _ in range(read_before):
        packets.append(playout.read())
        playout.fill()
    playout.finish()
    rest = drain(playout)
    assert len(rest) == AHEAD_PACKETS + FADE_PACKETS  # 0.3 s
    heard = levels(packets + rest)
    full = heard[AHEAD_PACKETS]  # past the fade in
    assert heard[0] < 0.2 * full
    assert np.all(np.diff(heard[: FADE_PACKETS - 1]) > 0)
    assert np.all(np.diff(heard[-FADE_PACKETS + 1 :]) < 0)
    assert heard[-1] < 0.2 * full


async def test_the_music_waits_between_an_end_and_the_next_beginning() -> None:
    playout, told = make()
    playout.begin()
    playout.finish()
    drain(playout)
    place = told[-1] + FADE_PACKETS
    for _ in range(100):
        playout.fill()
    playout.begin()
    assert told[-1] == place + AHEAD_PACKETS
    assert SILENCE not in [playout.read() for _ in range(AHEAD_PACKETS)]


async def test_an_end_before_the_first_music_is_an_end() -> None:
    playout, _ = make(3)
    playout.begin()
    playout.finish()
    assert playout.read() == b""


async def test_nothing_is_made_before_there_is_music() -> None:
    playout, told = make(3)
    playout.begin()
    playout.fill()
    assert told == []
    assert not playout.music.is_set()


async def test_each_packet_is_shown_as_it_is_taken() -> None:
    shown: list[bytes] = []
    playout = Playout(filled(100), lambda _: None, shown.append)
    playout.begin()
    assert shown == []
    playout.finish()
    assert drain(playout) == shown


async def test_another_bitrate_is_not_heard_as_a_click() -> None:
    steady, _ = make(200)
    changed, _ = make(200)
    sounds = []
    for playout, bitrate in ((steady, DEFAULT_BITRATE), (changed, 96_000)):
        playout.begin()
        packets = [playout.read() for _ in range(AHEAD_PACKETS)]
        playout.set_bitrate(bitrate)
        for _ in range(40):
            playout.fill()
            packets.append(playout.read())
        sounds.append(decode(packets)[AHEAD_PACKETS:].reshape(-1, 2)[:, 0])
    steepest = np.abs(np.diff(sounds[0])).max()
    assert np.abs(np.diff(sounds[1])).max() < 1.3 * steepest
    assert 2 * np.pi * HERTZ / SAMPLE_RATE < 1  # a sine so slow that a click would show


async def test_the_pump_keeps_up_with_a_reader() -> None:
    playout, _ = make(400)
    pump = asyncio.create_task(playout.pump())
    await playout.music.wait()
    playout.begin()
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
    playout.begin()
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


@cache
def voice_like(seconds: float) -> NDArray[np.int16]:
    """A gliding buzz under moving formants, four syllables a second: what Opus takes for speech, if for anything."""
    moments = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(110 + 15 * np.sin(2 * np.pi * 2.3 * moments)) / SAMPLE_RATE
    sound = np.zeros_like(moments)
    for partial in range(1, 36):
        hertz = 110 * partial
        formants = (500 + 200 * np.sin(7 * moments), 1_500 + 500 * np.sin(5 * moments + 1))
        sound += np.sin(partial * phase) * sum(np.exp(-(((hertz - centre) / 150) ** 2)) for centre in formants)
    sound *= (0.5 + 0.5 * np.sin(2 * np.pi * 4 * moments)) ** 2
    mono = np.rint(8_000 * sound / np.abs(sound).max()).astype(np.int16)
    return np.repeat(mono[:, None], 2, axis=1).reshape(-1, FRAME_SAMPLES, 2)


@pytest.mark.parametrize("bitrate", [8_000, 24_000, 48_000, 56_000, 64_000, 96_000])
def test_music_is_never_coded_as_speech(bitrate: int) -> None:
    encoder = OpusEncoder(bitrate)
    configurations = {encoder.encode(frame)[0] >> 3 for frame in voice_like(0.8)}
    assert min(configurations) >= 16  # RFC 6716, table 2: from 16 on it is CELT alone
