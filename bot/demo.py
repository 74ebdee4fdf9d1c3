"""``bardcast demo``: a minute at a table without Discord, to a file, a picture and a table of figures."""

import asyncio
import importlib.util
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import numpy as np
from numpy.typing import NDArray

from bot.errors import DemoError
from bot.jitter_buffer import JitterBuffer
from bot.recording import check_writable, write_sound
from bot.run import generator
from bot.settings import Settings
from bot.stage import PACKET_SECONDS, Order, Performance, Stage
from generator.console import put
from generator.loudness import MOMENTARY_SECONDS, jump
from generator.moods import COLOURS
from generator.protocol import FRAME_SAMPLES, FRAME_SECONDS, FRAMES_PER_SECOND, SAMPLE_RATE

INTERRUPTED: Final = 130  #: the exit status of what a Ctrl-C ended, by the shell's custom
_REFRESH_FRAMES: Final = FRAMES_PER_SECOND // 5


@dataclass(slots=True)
class LiveLine:
    """How things stand: rewritten in place on a terminal, else one line a mood."""

    out: TextIO
    seconds: float
    asked: int = 0
    width: int = 0

    def report(self, performance: Performance, buffer: JitterBuffer) -> None:
        """Called once a frame."""
        heard = len(performance.frames)
        if self.out.isatty():
            if heard % _REFRESH_FRAMES == 0:
                self._show("\r" + self._state(performance, buffer), "")
        elif len(performance.changes) > self.asked:
            self.asked = len(performance.changes)
            self._show(self._state(performance, buffer), "\n")

    def end(self) -> None:
        """Leaves the last state standing."""
        if self.out.isatty():
            self._show("", "\n")

    def _state(self, performance: Performance, buffer: JitterBuffer) -> str:
        factor = performance.realtime_factor
        return (
            f"{len(performance.frames) * FRAME_SECONDS:6.1f} of {self.seconds:g} s  "
            f"{performance.changes[-1].mood:<10}  buffer {buffer.ready * FRAME_SECONDS:4.1f} s  "
            f"{'' if factor is None else f'{factor:.1f} times real time'}"
            f"{'  holding' if buffer.holding else ''}"
        )

    def _show(self, text: str, end: str) -> None:
        self.out.write(text.ljust(self.width) + end)
        self.out.flush()
        self.width = len(text) if end == "" else 0


async def demo(settings: Settings, order: Order, out: Path) -> int:
    """Plays the order, writes what was heard, prints how it went; the exit status.

    Raises:
        BotError: it can't be done; the message says why.
    """
    check_writable(out)
    if importlib.util.find_spec("matplotlib") is None:
        raise DemoError("the demo draws a picture with matplotlib, which is not installed: install bardcast[generator]")
    live = LiveLine(sys.stderr, order.seconds)
    put("starting the music generator ...\n", "stderr")
    async with generator(settings) as endpoint:
        stage = Stage(order, endpoint, live.report)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stage.stop)
        performance = await stage.perform()
    live.end()
    if not performance.frames:
        put("bardcast: stopped before there was any music, so nothing is written\n", "stderr")
        return INTERRUPTED
    write_sound(out, performance.frames)
    picture = out.with_suffix(".png")
    audio = np.concatenate(performance.frames).astype(np.float32) / np.float32(32_768)
    draw(picture, audio, performance)
    put(summary(performance, audio, order) + f"\n\n{out} and {picture} are written.\n")
    return INTERRUPTED if performance.interrupted else 0


def draw(path: Path, audio: NDArray[np.float32], performance: Performance) -> None:
    """The spectrogram, with each mood's stretch in its colour.

    Raises:
        DemoError: it can't be written.
    """
    # Here, because matplotlib takes longer to import than all of the bot.
    from generator.picture import draw_spectrogram

    marks = [
        (change.landed * FRAME_SECONDS, str(change.mood), COLOURS[change.mood])
        for change in performance.changes
        if change.landed is not None
    ]
    try:
        draw_spectrogram(path, audio, SAMPLE_RATE, f"Bardcast: what the table heard ({performance.model})", marks)
    except OSError as error:
        raise DemoError(f"{path} could not be written: {error.strerror or error}") from None


def summary(performance: Performance, audio: NDArray[np.float32], order: Order) -> str:
    """The figures, as a table with a note on how each was got."""
    rows = [("model", performance.model or "unknown"), ("first music after", f"{performance.first_sound:.2f} s")]
    for before, change in zip(performance.changes, performance.changes[1:], strict=False):
        heard = "not heard before the end" if change.delay is None else f"{change.delay:.2f} s"
        rows.append((f"{before.mood} to {change.mood}", heard))
    factor = performance.realtime_factor
    rows += [
        ("real-time factor", "unknown" if factor is None else f"{factor:.1f}"),
        ("underruns", str(performance.underruns)),
        ("held", f"{performance.counts.held * FRAME_SECONDS:.2f} s"),
        ("late frames", str(performance.counts.late)),
        ("loudest jump at a seam", _loudest_jump(performance, audio)),
    ]
    width = max(len(name) for name, _ in rows)
    pace = "in seconds of music, as if heard at a table's pace" if order.fast else "by the clock"
    notes = (
        f"Changes: from the command to the ear, {pace}, with {PACKET_SECONDS:g} s for the packets made ahead.\n"
        f"Jumps: K-weighted loudness (ITU-R BS.1770-4), {MOMENTARY_SECONDS * 1000:.0f} ms after a seam against "
        "as much before it."
    )
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows) + f"\n\n{notes}"


def _loudest_jump(performance: Performance, audio: NDArray[np.float32]) -> str:
    jumps = [jump(audio, seam * FRAME_SAMPLES) for seam in performance.seams]
    return f"{max(jumps):.1f} LU" if jumps else "no seam"
