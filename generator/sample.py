"""Clips in files: the stream's first seconds as wav or ogg, with a picture of each. Torch-free."""

import os
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol

import av
import numpy as np
import numpy.typing as npt

from generator.errors import GeneratorError
from generator.playable import Engine
from generator.protocol import CHANNELS, FRAME_BYTES, FRAMES_PER_SECOND, SAMPLE_RATE, Controls

OPUS_BITS_PER_SECOND: Final = 160_000

Pcm = npt.NDArray[np.int16]


class OutputError(GeneratorError):
    """A clip can't be written where it should go."""


class Draw(Protocol):
    """What draws a clip's picture: see ``generator.picture.draw_spectrogram``."""

    def __call__(self, path: Path, audio: npt.NDArray[np.float32], sample_rate: int, title: str) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Order:
    """What to write.

    Attributes:
        controls: mood and intensity.
        seconds: length of each clip.
        count: number of clips.
        seed: the same seed gives the same files.
        out: the folder.
        format: Ogg holds Opus.
    """

    controls: Controls
    seconds: float
    count: int
    seed: int
    out: Path
    format: Literal["wav", "ogg"] = "wav"


def clip_seed(seed: int, index: int) -> int:
    """The stream's seed for clip ``index``: neighbours have nothing in common."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def open_folder(out: Path) -> None:
    """Make the folder, and find out before any work whether it can be written to.

    Raises:
        OutputError: it can't.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OutputError(f"can't write to {out} ({error.strerror}): choose another folder with --out") from None


def write_clips(
    engine: Engine, order: Order, draw: Draw, progress: Callable[[int, float], None] = lambda clip, seconds: None
) -> Iterator[Path]:
    """Write every clip and its picture, and yield each path once its file is whole.

    Args:
        engine: makes the music.
        order: what to write.
        draw: draws the pictures.
        progress: told the clip's number and the seconds of it that are made.

    Raises:
        OutputError: the disk is full or the folder has gone.
    """
    for index in range(order.count):
        pcm = render(engine, order, index, partial(progress, index))
        name = f"{order.controls.mood}-{order.seed}-{index}"
        path = order.out / f"{name}.{order.format}"
        with _whole_file(path) as part:
            (_write_ogg if order.format == "ogg" else _write_wav)(part, pcm)
        yield path
        picture = order.out / f"{name}.png"
        with _whole_file(picture) as part:
            draw(
                part, np.divide(pcm, 32768, dtype=np.float32), SAMPLE_RATE, f"{order.controls.mood}, seed {order.seed}"
            )
        yield picture


def render(engine: Engine, order: Order, index: int, progress: Callable[[float], None]) -> Pcm:
    """Clip ``index`` as samples, shape (time, 2)."""
    wanted = max(1, round(order.seconds * SAMPLE_RATE))
    stream = engine.stream(clip_seed(order.seed, index), order.controls)
    frames: list[bytes] = []
    while len(frames) * (FRAME_BYTES // (2 * CHANNELS)) < wanted:
        frames.extend(stream.advance().frames)
        progress(min(len(frames) / FRAMES_PER_SECOND, order.seconds))
    return np.frombuffer(b"".join(frames), dtype="<i2").astype(np.int16).reshape(-1, CHANNELS)[:wanted]


def _write_wav(path: Path, pcm: Pcm) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(CHANNELS)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.astype("<i2").tobytes())


def _write_ogg(path: Path, pcm: Pcm) -> None:
    # PyAV and not soundfile, whose Ogg streams get a serial number from the clock: the same seed, other bytes.
    with av.open(str(path), "w", format="ogg", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("libopus", rate=SAMPLE_RATE, layout="stereo")
        stream.bit_rate = OPUS_BITS_PER_SECOND
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(format=stream.format, layout="stereo", rate=SAMPLE_RATE)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            file.mux(stream.encode(piece))


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """A name to write under; ``path`` appears only when all is written."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
