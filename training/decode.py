"""A recording of any kind → 48 kHz mono PCM, as a stream: the only place that runs ffmpeg."""

import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import ffmpeg
import imageio_ffmpeg

from training.errors import DecodeError, TrainingError
from training.manifest import SAMPLE_RATE

PIECE_BYTES: Final = 1 << 18  #: read from the pipe at a time

#: A file that ends before this share of the length that its header states was cut off.
WHOLE_SHARE: Final = 0.9

_DURATION: Final = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")
_COMPLAINT: Final = re.compile(r"\[(?:error|fatal|panic)\] *(.*)")
_LOG_LINES: Final = 200  # kept of ffmpeg's log; a badly damaged file fills megabytes with it


class Decoder:
    """One recording being decoded. Iterate over it for pieces of mono s16le PCM at ``SAMPLE_RATE``.

    A damaged spot inside is no error: ffmpeg goes on behind it, as every player does.

    Use it as a context manager: leaving it ends ffmpeg, however far it got.

    Attributes:
        declared_seconds: the length by the file's header; ``None`` until it was read, or if there is none.
    """

    def __init__(self, path: Path) -> None:
        self.declared_seconds: float | None = None
        self._path = path
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        try:
            executable = imageio_ffmpeg.get_ffmpeg_exe()
            # ffmpeg-python spells the command. Its run_async can't put ffmpeg into a process group of its own,
            # which it needs: a Ctrl-C that reached ffmpeg first would look like a broken file.
            self._process = subprocess.Popen(  # noqa: S603 - an argument list, no shell
                _command(path, executable),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f"ffmpeg can't be started ({error}): reinstall the package imageio-ffmpeg, which carries it, or "
                "set IMAGEIO_FFMPEG_EXE to an ffmpeg"
            ) from error
        # Its log is drained beside its output: with one of the two pipes full, ffmpeg would wait for ever.
        self._drain = threading.Thread(target=self._read_log, daemon=True)
        self._drain.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # the group: "ffmpeg" may be a script around it
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()
        self._drain.join()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __iter__(self) -> Iterator[bytes]:
        """The pieces, in order.

        Raises:
            DecodeError: at the end, if ffmpeg failed, found no sound, or the file was cut off.
        """
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - for the type checker: it was asked for
        size = 0
        while piece := pipe.read(PIECE_BYTES):
            size += len(piece)
            yield piece
        status = self._process.wait()
        self._drain.join()
        if status != 0 or size == 0:
            raise DecodeError(f"{self._path.name} can't be decoded: {self._complaint()}")
        seconds = size / (2 * SAMPLE_RATE)
        if self.declared_seconds is not None and seconds < WHOLE_SHARE * self.declared_seconds:
            raise DecodeError(
                f"{self._path.name} is damaged: it ends after {seconds:.0f} of {self.declared_seconds:.0f} seconds"
            )

    def _read_log(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None  # noqa: S101 - for the type checker: it was asked for
        estimated = False
        for raw in pipe:
            line = raw.decode("utf-8", "replace").strip()
            self._log.append(line)
            estimated |= "Estimating duration from bitrate" in line  # wrong by far for a variable bitrate
            if self.declared_seconds is None and not estimated and (found := _DURATION.search(line)):
                hours, minutes, seconds = found.groups()
                self.declared_seconds = int(hours) * 3600 + int(minutes) * 60 + float(seconds)

    def _complaint(self) -> str:
        complaints = [found[1] for line in self._log if (found := _COMPLAINT.search(line))]
        # A film without sound, say: of that ffmpeg complains in its own options' terms.
        silent = not complaints or "matches no streams" in complaints[0]
        return "no sound in it" if silent else complaints[0]


def _command(path: Path, executable: str) -> list[str]:
    # "file:" and the whitelist: a name such as "concat:…", or a playlist in disguise, opens nothing else.
    source = ffmpeg.input("file:", protocol_whitelist="file")
    output = ffmpeg.output(
        source["a:0"], "pipe:", format="s16le", acodec="pcm_s16le", ac=1, ar=SAMPLE_RATE, loglevel="level+info"
    )
    command: list[str] = ffmpeg.compile(output.global_args("-hide_banner", "-nostdin", "-nostats"), cmd=executable)
    # Only now, since ffmpeg-python can't take a name that is no valid UTF-8, and old music folders hold such names.
    return [f"file:{path.absolute()}" if word == "file:" else word for word in command]
