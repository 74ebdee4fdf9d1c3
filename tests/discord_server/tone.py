"""A signal for tests: a sine as Opus, and which sine a sound is."""

import av
import numpy as np
from numpy.typing import NDArray

from tests.discord_server.rtp import FRAME_SAMPLES, SAMPLE_RATE


def sine_as_opus(seconds: float, *, hertz: float, level: float = 0.3) -> list[bytes]:
    """A stereo sine as Opus packets of 20 ms; ``level`` is its amplitude, full scale 1."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate = SAMPLE_RATE
    encoder.layout = "stereo"
    encoder.format = "s16"
    moments = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = (level * np.sin(2 * np.pi * hertz * moments) * 32_767).astype(np.int16)
    packets: list[bytes] = []
    for frame in np.repeat(wave, 2).reshape(-1, 1, 2 * FRAME_SAMPLES):
        audio = av.AudioFrame.from_ndarray(frame, format="s16", layout="stereo")
        audio.sample_rate = SAMPLE_RATE
        packets += [bytes(packet) for packet in encoder.encode(audio)]
    return packets


def pitch(sound: NDArray[np.float32]) -> float:
    """The strongest frequency of a stereo sound, in Hz, to one period of its length."""
    windowed = sound.mean(axis=1) * np.hanning(len(sound))
    return float(np.abs(np.fft.rfft(windowed)).argmax() * SAMPLE_RATE / len(sound))
