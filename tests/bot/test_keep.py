import io

import av
import numpy as np
import pytest
from av.container import InputContainer
from numpy.typing import NDArray

from bot.fake import PITCHES
from bot.heard import KEPT_SECONDS, Heard
from bot.keep import ogg
from bot.opus import SILENCE, OpusEncoder
from bot.thumbnail import SECONDS, WIDTH, thumbnail
from generator.moods import COLOURS, MOODS, Mood
from generator.protocol import FRAME_SAMPLES, FRAMES_PER_SECOND, SAMPLE_RATE
from tests.bot.conftest import pitch

PRE_SKIP = 312  #: samples that a decoder drops at the start (RFC 7845, section 4.2), as libopus asks for


def packets(mood: Mood, seconds: float, gain: float = 0.3) -> list[bytes]:
    time = np.arange(round(seconds * FRAMES_PER_SECOND) * FRAME_SAMPLES) / SAMPLE_RATE
    tone = (gain * 32_767 * np.sin(2 * np.pi * PITCHES[mood] * time)).astype(np.int16)
    encoder = OpusEncoder(64_000)
    return [encoder.encode(frame) for frame in np.repeat(tone[:, None], 2, axis=1).reshape(-1, FRAME_SAMPLES, 2)]


def decoded(file: bytes) -> NDArray[np.float32]:
    with av.open(io.BytesIO(file)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("opus", SAMPLE_RATE, 2)
        assert isinstance(container, InputContainer)
        parts = [frame.to_ndarray() for frame in container.decode(stream)]
    return np.concatenate(parts, axis=1).T.astype(np.float32)


def test_what_is_kept_is_what_was_heard_in_its_order() -> None:
    fight, sad = Mood("fight"), Mood("sad")
    file, seconds = ogg(packets(fight, 2.0) + packets(sad, 1.0), 10_000_000)
    sound = decoded(file)
    assert seconds == 3.0
    assert len(sound) == 3 * SAMPLE_RATE - PRE_SKIP
    assert pitch(sound[SAMPLE_RATE // 2 : SAMPLE_RATE]) == fight
    assert pitch(sound[-SAMPLE_RATE // 2 :]) == sad


def test_the_ring_holds_the_last_two_minutes_and_no_more() -> None:
    heard = Heard()
    assert heard.last(8.0) == []
    for number in range((KEPT_SECONDS + 1) * FRAMES_PER_SECOND):
        heard.add(number.to_bytes(4, "big"))
    kept = heard.last(KEPT_SECONDS)
    assert len(kept) == KEPT_SECONDS * FRAMES_PER_SECOND
    assert int.from_bytes(kept[0], "big") == FRAMES_PER_SECOND
    assert heard.last(1.0) == kept[-FRAMES_PER_SECOND:]


@pytest.mark.parametrize("limit", [8_000, 30_000, 100_000])
def test_what_is_too_large_for_the_server_loses_its_beginning(limit: int) -> None:
    whole = packets(Mood("epic"), 5.0)
    assert sum(map(len, whole)) > 30_000
    file, seconds = ogg(whole, limit)
    assert len(file) <= limit
    assert len(decoded(file)) == round(seconds * SAMPLE_RATE) - PRE_SKIP
    assert seconds == 5.0 or len(file) > 0.8 * limit - 4_096


@pytest.mark.parametrize("bitrate", [16_000, 384_000])
def test_two_minutes_at_any_bitrate_fit_any_server(bitrate: int) -> None:
    noise = np.random.default_rng(1).integers(-9_000, 9_000, (50, FRAME_SAMPLES, 2)).astype(np.int16)
    encoder = OpusEncoder(bitrate)
    second = [encoder.encode(frame) for frame in noise]
    file, seconds = ogg(second * KEPT_SECONDS, 10 * 1024 * 1024)
    assert seconds == KEPT_SECONDS
    size = sum(map(len, second)) * KEPT_SECONDS
    assert size < len(file) < 1.03 * size + 4_096


def test_silence_that_was_sent_is_kept_as_silence() -> None:
    sound = decoded(ogg([SILENCE] * 50 + packets(Mood("town"), 1.0), 10_000_000)[0])
    assert np.abs(sound[: SAMPLE_RATE // 2]).max() < 1e-3
    assert pitch(sound[-SAMPLE_RATE // 2 :]) == "town"


def image(png: bytes) -> NDArray[np.uint8]:
    with av.open(io.BytesIO(png), format="png_pipe") as container:
        assert isinstance(container, InputContainer)
        return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(np.uint8)


@pytest.mark.parametrize("mood", MOODS)
def test_the_thumbnail_shows_the_pitch_in_the_moods_colour(mood: Mood) -> None:
    shown = image(thumbnail(packets(mood, 2.0), COLOURS[mood]))
    assert shown.shape[1] == WIDTH
    bright = shown.astype(int).sum(axis=2)
    sounding = round(WIDTH * 2.0 / SECONDS)
    assert bright[:, : WIDTH - 2 * sounding].max() < 0x60  # nothing was heard before
    row = int(bright[:, WIDTH - sounding // 2].argmax())
    octaves = (shown.shape[0] - 1 - row) / 14
    assert 32.7 * 2**octaves == pytest.approx(PITCHES[mood], rel=0.06)
    colour = [int(COLOURS[mood][place : place + 2], 16) for place in (1, 3, 5)]
    assert np.abs(shown.astype(int) - colour).sum(axis=2).min() < 40


@pytest.mark.parametrize("count", [0, 1, 399, 400, 500])
def test_a_thumbnail_is_drawn_of_however_much_there_is(count: int) -> None:
    png = thumbnail((packets(Mood("sad"), 1.0) * 10)[:count], "#3d6b99")
    assert image(png).shape == image(thumbnail([], "#3d6b99")).shape
    assert len(png) < 100_000


def test_packets_of_two_encoders_follow_one_another() -> None:
    """After a move to a channel of another bitrate, or a reconnect."""
    high, low = packets(Mood("fight"), 1.0), packets(Mood("fight"), 1.0, gain=0.1)
    assert len(decoded(ogg(high + [SILENCE] * 5 + low, 10_000_000)[0])) == 105 * FRAME_SAMPLES - PRE_SKIP
