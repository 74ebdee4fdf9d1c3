"""How fast a model makes music here, part by part, and how much memory the service takes.

First in this process, one window after the other: the whole, its sampler and its vocoder. Then as ``bardcast-generator
serve`` in a process of its own, asked for as many windows as fast as it can send them.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import torch

from benchmarks.report import finish, gpu_name, note, parser, peak_rss, spread
from benchmarks.served import listen, serving
from generator.engine import Engine, load_engine
from generator.moods import MOODS
from generator.protocol import FRAME_SECONDS, Controls, Open
from generator.stream import Stream

Figures = dict[str, Any]


class Stopwatch:
    """Adds up the time that a module's forward passes take."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.seconds = 0.0
        self._begun = 0.0
        module.register_forward_pre_hook(self._begin)
        module.register_forward_hook(self._end)

    def lap(self) -> float:
        """What was added since the last lap."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def _begin(self, *_: object) -> None:
        _synchronise()
        self._begun = time.perf_counter()

    def _end(self, *_: object) -> None:
        _synchronise()
        self.seconds += time.perf_counter() - self._begun


def measure_windows(engine: Engine, windows: int, seed: int) -> Figures:
    """Windows one after the other; the first, which warms the machine up, is told apart."""
    vocoder = Stopwatch(engine.vocoder)
    stream = Stream(engine, seed, Controls(MOODS[seed % len(MOODS)]))
    audio, whole, voiced = [], [], []
    for number in range(windows + 1):
        begun = time.perf_counter()
        chunk = stream.advance()
        _synchronise()
        whole.append(time.perf_counter() - begun)
        voiced.append(vocoder.lap())
        audio.append(len(chunk.frames) * FRAME_SECONDS)
        note(f"window {number} of {windows}: {audio[-1]:.2f} s of music in {whole[-1]:.3f} s")
    parts = {
        "together": whole[1:],
        "sampler": [total - part for total, part in zip(whole[1:], voiced[1:], strict=True)],
        "vocoder": voiced[1:],
    }
    return {
        "first_window_seconds": whole[0],
        "window_audio_seconds": audio[-1],
        "seconds": {name: spread(values) for name, values in parts.items()},
        "real_time_factor": {name: sum(audio[1:]) / sum(values) for name, values in parts.items()},
        # The slow windows are what a buffer has to bridge: the factor that 95 of 100 windows reach.
        "real_time_factor_p95": audio[-1] / spread(whole[1:])["p95"],
    }


async def measure_service(model: str, threads: int | None, device: str | None, windows: int, seed: int) -> Figures:
    """The same as a service: how long it takes to start and to open a stream, and its peak of memory."""
    async with serving(model, threads=threads, device=device) as service, aiohttp.ClientSession() as session:
        cold = await listen(session, service.url, Open(MOODS[0], seed), bool)
        warm = await listen(session, service.url, Open(MOODS[1], seed + 1), lambda paces: len(paces) > windows)
        return {
            "start_seconds": service.start_seconds,
            "first_frame_cold_seconds": cold.first_seconds,
            "first_frame_warm_seconds": warm.first_seconds,
            "real_time_factor": warm.audio_seconds / warm.compute_seconds,
            "peak_rss_mib": peak_rss(service.pid),
        }


def main(arguments: list[str] | None = None) -> None:
    """Measure in this process, then as a service."""
    options = _parse(arguments)
    gpu_name(options.device)  # says so where there is none
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    engine = load_engine(options.model, options.device)
    # On a thread of its own, as the service does it: OpenMP waits less eagerly there, which matters on a busy machine.
    with ThreadPoolExecutor(1) as thread:
        alone = thread.submit(measure_windows, engine, options.windows, options.seed).result()
    service = asyncio.run(
        measure_service(options.model, options.threads, options.device, options.windows, options.seed)
    )
    factor = alone["real_time_factor"]
    rows = [
        ("window", f"{alone['window_audio_seconds']:.2f} s of music, {options.windows} of them"),
        (
            "real-time factor",
            f"{factor['together']:.2f} (95 of 100 windows: {alone['real_time_factor_p95']:.2f} or more)",
        ),
        *((f"  {part} alone", f"{factor[part]:.2f}") for part in ("sampler", "vocoder")),
        *(
            (f"{part}, a window", f"median {seconds['median']:.3f} s, p95 {seconds['p95']:.3f} s")
            for part, seconds in alone["seconds"].items()
        ),
        ("first window", f"{alone['first_window_seconds']:.3f} s, cold"),
        ("service starts in", f"{service['start_seconds']:.2f} s"),
        (
            "stream's first frame",
            f"{service['first_frame_warm_seconds']:.3f} s warm, {service['first_frame_cold_seconds']:.3f} s cold",
        ),
        ("service's peak RSS", f"{service['peak_rss_mib']:.0f} MiB"),
    ]
    finish("Real time", options, rows, {"windows": alone, "service": service})


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0])
    made.add_argument("--windows", type=int, default=100, help="how many, after the first")
    made.add_argument("--threads", type=int, help="CPU threads; if not given, one a core")
    made.add_argument("--device", choices=("cpu", "cuda"), help="if not given, the GPU where there is one")
    return made.parse_args(arguments)


_synchronise: Callable[[], None] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None

if __name__ == "__main__":
    main()
