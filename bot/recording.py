"""What the demo's table heard, in a file: Ogg Opus or WAV."""

import contextlib
import tempfile
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.audio.stream import AudioStream

from bot.errors import DemoError
from bot.jitter_buffer import Frame
from generator.protocol import CHANNELS, FRAME_SAMPLES, SAMPLE_RATE

SUFFIXES: Final = (".ogg", ".wav")
_BITRATE: Final = 128_000


def check_writable(path: Path) -> None:
    """Finds out before any work whether the sound and its picture can be written.

    Raises:
        DemoError: they can't.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DemoError(f"--out {path}: the sound is written as {' or '.join(SUFFIXES)}, so choose one as the suffix")
    for target in (path, path.with_suffix(".png")):
        try:
            if target.exists():
                with target.open("r+b"):
                    pass
            else:
                with tempfile.TemporaryFile(dir=target.parent):
                    pass
        except OSError as error:
            raise DemoError(f"--out: {target} can't be written ({error.strerror}); choose another place") from None


def write_sound(path: Path, frames: Sequence[Frame]) -> None:
    """Writes the frames one after the other, in the format that the suffix names.

    Raises:
        DemoError: it can't be written; no half a file is left.
    """
    try:
        if path.suffix.lower() == ".wav":
            _write_wav(path, frames)
        else:
            _write_ogg(path, frames)
    except OSError as error:  # PyAV's errors are of its kin
        with contextlib.suppress(OSError):
            path.unlink()
        raise DemoError(f"{path} could not be written: {error.strerror or error}") from None


def _write_wav(path: Path, frames: Sequence[Frame]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(CHANNELS)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        for frame in frames:
            file.writeframesraw(frame.astype("<i2").tobytes())


def _write_ogg(path: Path, frames: Sequence[Frame]) -> None:
    with av.open(str(path), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, options={"application": "audio"})
        assert isinstance(stream, AudioStream)  # noqa: S101 - tells the type checker what libopus is
        stream.codec_context.layout = "stereo"
        stream.codec_context.format = "s16"
        stream.codec_context.bit_rate = _BITRATE
        for place, frame in enumerate(frames):
            audio = av.AudioFrame.from_ndarray(np.ascontiguousarray(frame).reshape(1, -1), "s16", "stereo")
            audio.sample_rate = SAMPLE_RATE
            audio.time_base = Fraction(1, SAMPLE_RATE)
            audio.pts = place * FRAME_SAMPLES
            container.mux(stream.encode(audio))
        container.mux(stream.encode(None))
