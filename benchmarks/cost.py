"""What music costs: by its length, and by the number of streams. Lines through both, and how straight they are.

All is asked of ``bardcast-generator serve`` in a process of its own, by listeners that take whatever has come for
played. Compute seconds are those that the service tells of each window; waiting is timed here, wire and queue included.
A machine holds as many streams as get their music as fast as it is played, with every one waited for.
"""

import argparse
import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.cost_picture import draw
from benchmarks.line import Line, fit
from benchmarks.report import finish, gpu_name, note, parser
from benchmarks.served import Service, listen, serving
from generator.moods import MOODS
from generator.protocol import Open
from training.errors import RunError

LENGTHS: Final = "10,30,60,120,300"
STREAMS: Final = "1,2,4,8"


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement.

    Attributes:
        asked: seconds of music, or number of streams.
        audio_seconds: music made for each stream, in whole windows and so a little more than was asked for.
        compute_seconds: of the service, for all streams together.
        waited_seconds: from the first opening to the last stream's last frame.
        slowest_factor: seconds of music over seconds waited, of the slowest stream.
    """

    asked: float
    audio_seconds: float
    compute_seconds: float
    waited_seconds: float
    slowest_factor: float


async def play(service: Service, streams: int, seconds: float, asked: float, seed: int) -> Point:
    """So many streams at once, each of so many seconds."""
    async with aiohttp.ClientSession() as session:
        openings = [Open(MOODS[(seed + n) % len(MOODS)], seed + n) for n in range(streams)]
        heard = await asyncio.gather(
            *(
                listen(session, service.url, each, lambda paces: sum(p.audio_seconds for p in paces) >= seconds)
                for each in openings
            )
        )
    # A listener that goes leaves a window in hand, for which the next one would have to wait.
    await asyncio.sleep(2 * max(pace.compute_seconds for each in heard for pace in each.paces))
    return Point(
        asked,
        sum(each.audio_seconds for each in heard) / streams,
        sum(each.compute_seconds for each in heard),
        max(each.seconds for each in heard),
        min(each.audio_seconds / each.seconds for each in heard),
    )


async def measure(options: argparse.Namespace) -> tuple[list[Point], list[Point]]:
    """By length, and by number of streams. In turn, so that what a machine does meanwhile falls on all alike."""
    lengths: list[Point] = []
    streams: list[Point] = []
    most = max(options.streams)
    async with serving(options.model, threads=options.threads, streams=most, device=options.device) as service:
        await play(service, 1, options.seconds / 10, 0, options.seed)  # warms the machine up
        for repeat in range(options.repeats):
            seed = options.seed + 100 * repeat
            for length in options.lengths:
                lengths.append(await play(service, 1, length, length, seed))
                note(f"{length:g} s: {lengths[-1]}")
            for number in options.streams:
                streams.append(await play(service, number, options.seconds, number, seed))
                note(f"{number} streams: {streams[-1]}")
    return lengths, streams


def look(lengths: Sequence[Point], streams: Sequence[Point]) -> dict[str, Any]:
    """All figures."""
    by_length = fit([p.audio_seconds for p in lengths], [p.compute_seconds for p in lengths])
    by_streams = fit([p.asked for p in streams], [p.compute_seconds for p in streams])
    waiting = fit([p.asked for p in streams], [p.waited_seconds for p in streams])
    audio = sum(p.audio_seconds for p in streams) / len(streams)
    kept_up = [p.asked for p in streams if p.slowest_factor >= 1]
    failed = [p.asked for p in streams if p.slowest_factor < 1]
    return {
        "by_length": asdict(by_length),
        "by_streams": asdict(by_streams),
        "waiting_by_streams": asdict(waiting),
        "stream_audio_seconds": audio,
        "streams_held": max(0, math.floor(waiting.reaches(audio))) if waiting.slope > 0 else None,
        "most_streams_that_kept_up": max((n for n in kept_up if n < min(failed, default=math.inf)), default=0),
        "lengths": [asdict(point) for point in lengths],
        "streams": [asdict(point) for point in streams],
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, show, and draw if a picture was asked for."""
    options = _parse(arguments)
    gpu = gpu_name(options.device)
    lengths, streams = asyncio.run(measure(options))
    figures = look(lengths, streams) | {"device": gpu or "the CPU"}
    held, most = figures["streams_held"], figures["most_streams_that_kept_up"]
    rows = [
        ("computed by", gpu or "the CPU"),
        ("by length", _words(Line(**figures["by_length"]), "a second of music")),
        *((f"  {name:g} s", _compute(some)) for name, some in _alike(lengths)),
        ("by streams", _words(Line(**figures["by_streams"]), f"a stream of {figures['stream_audio_seconds']:.1f} s")),
        *(
            (
                f"  {name:g} at once",
                f"{_compute(some)}; the slowest stream at {min(p.slowest_factor for p in some):.2f} times real time",
            )
            for name, some in _alike(streams)
        ),
        ("streams that it holds", f"{held} by the line of seconds waited; of those tried, {most:g} at most"),
    ]
    finish("Cost", options, rows, figures)
    if options.plot is not None:
        try:
            draw(figures, options.plot)
        except RunError as error:
            raise SystemExit(str(error)) from None


def _words(line: Line, each: str) -> str:
    return (
        f"{line.slope:.4f} s of computing {each}, and {line.intercept:.2f} s once; R² {line.r_squared:.5f}; no point "
        f"is further from this line than {line.largest_deviation:.2f} s ({100 * line.largest_deviation_share:.1f} %)"
    )


def _compute(points: Sequence[Point]) -> str:
    music = sum(p.audio_seconds for p in points) / len(points)
    return f"{', '.join(f'{p.compute_seconds:.2f}' for p in points)} s of computing for {music:.1f} s of music each"


def _alike(points: Sequence[Point]) -> list[tuple[float, list[Point]]]:
    return [(asked, [p for p in points if p.asked == asked]) for asked in dict.fromkeys(p.asked for p in points)]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0])
    made.add_argument("--lengths", type=_numbers, default=LENGTHS, metavar="S,S,…", help="seconds of one stream")
    made.add_argument("--streams", type=_counts, default=STREAMS, metavar="N,N,…", help="how many at once")
    made.add_argument("--seconds", type=float, default=60.0, help="of music in each of many streams")
    made.add_argument("--repeats", type=int, default=3, help="how often all is measured; every point counts")
    made.add_argument("--threads", type=int, help="CPU threads; if not given, one a core")
    made.add_argument("--device", choices=("cpu", "cuda"), help="if not given, the GPU where there is one")
    made.add_argument("--plot", type=Path, metavar="PNG", help="draw both lines there")
    return made.parse_args(arguments)


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError("numbers, with commas between them") from None
    if not all(0 < number < math.inf for number in numbers) or len(set(numbers)) < 2:
        raise argparse.ArgumentTypeError("a line needs two different numbers at least, above 0")
    return numbers


def _counts(text: str) -> list[int]:
    numbers = _numbers(text)
    if any(number % 1 for number in numbers):
        raise argparse.ArgumentTypeError("there are only whole streams")
    return [int(number) for number in numbers]


if __name__ == "__main__":
    main()
