"""What was heard, in a file: Ogg Opus or WAV."""

import contextlib
import tempfile
import wave
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final

import av
from av.audio.stream import AudioStream

from bot.errors import DemoError
from bot.jitter_buffer import Frame
from bot.opus import OpusEncoder
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
            encoder = OpusEncoder(_BITRATE)
            write_packets(path, map(encoder.encode, frames))
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


def write_packets(file: Path | BinaryIO, packets: Iterable[bytes]) -> None:
    """Writes Opus packets of 20 ms one after the other as an Ogg Opus file, as they are."""
    with av.open(file, "w", format="ogg") as container:
        # An encoder that is never given a sound: from it Ogg learns the head of an Opus stream (RFC 7845, section 5.1).
        stream = container.add_stream("libopus", rate=SAMPLE_RATE)
        assert isinstance(stream, AudioStream)  # noqa: S101 - tells the type checker what libopus is
        stream.codec_context.layout = "stereo"
        stream.codec_context.format = "s16"
        container.start_encoding()
        for place, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = Fraction(1, SAMPLE_RATE)
            packet.pts = packet.dts = place * FRAME_SAMPLES
            packet.duration = FRAME_SAMPLES
            container.mux_one(packet)
