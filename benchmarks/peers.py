"""Bardcast and what else could be run in its place, side by side on this machine: what a second of music costs.

The peers are built at their own sizes with random weights (``benchmarks/architectures.py``): nothing is downloaded, and
speed does not depend on them. Each of their networks computes in whichever form is fastest here: float32, bfloat16 by
autocast, or bfloat16 weights, with channels last if that is faster still. Bardcast plays as it always does, sampler and
vocoder. A step of denoising costs the same at each noise level, so of many steps a few are timed (``--steps``) and the
rest reckoned, and the output says so.
"""

import argparse
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Final

import torch

from benchmarks.architectures import Part, Peer, audio_diffusion, musicgen, need_libraries, riffusion
from benchmarks.realtime import measure_windows
from benchmarks.report import finish, gpu_name, note, parser
from generator.device import pick_device, precision
from generator.engine import Engine, load_engine
from generator.protocol import FRAME_SECONDS

NAMES: Final = ("musicgen", "riffusion", "audio-diffusion")
FORMS: Final = ("float32", "bfloat16 autocast", "bfloat16")
COLUMNS: Final = ("parameters", "library", "steps", "music", "computing", "real-time factor")


@dataclass(frozen=True)
class Cost:
    """What one network of a peer took.

    Attributes:
        form: in which it was fastest.
        timed: how often its work was timed.
        times: how often it is done for one piece.
        seconds: for one piece; reckoned from those timed where these are fewer.
    """

    form: str
    timed: int
    times: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    name: str
    parameters: int
    library: str
    steps: int
    music_seconds: float
    compute_seconds: float
    parts: Mapping[str, Cost]

    @property
    def factor(self) -> float:
        """Seconds of music over seconds of computing."""
        return self.music_seconds / self.compute_seconds


class Meter:
    """Times work on a device."""

    def __init__(self, device: torch.device, steps: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.steps, self.clock = device, steps, clock

    def peer(self, peer: Peer) -> Result:
        """What one piece of the peer's music costs."""
        costs = {}
        for part in peer.parts:
            costs[part.name] = self.part(part)
            note(f"{peer.name}: {part.name}: {costs[part.name]}")
        return Result(
            peer.name,
            peer.parameters,
            f"{peer.library} {metadata.version(peer.library)}",
            peer.steps,
            peer.seconds,
            sum(cost.seconds for cost in costs.values()),
            costs,
        )

    def part(self, part: Part) -> Cost:
        """What one of its networks costs, in the form that is fastest."""
        tried = {form: self._in_form(part, form, part.trial, 1) for form in FORMS}
        form = name = min(tried, key=lambda each: tried[each])
        if part.images:
            part.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if self._in_form(part, form, part.trial, 1) < tried[form]:
                name += ", channels last"
            else:
                part.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        timed = min(part.times, self.steps)
        each = self._in_form(part, form, part.work, timed)
        return Cost(name, timed, part.times, each * part.times)

    def _in_form(self, part: Part, form: str, work: Callable[[], object], times: int) -> float:
        """Seconds that the work takes once, after a warm-up."""
        part.module.to(torch.bfloat16 if form == "bfloat16" else torch.float32)
        with torch.no_grad(), precision(self.device, form == "bfloat16 autocast"):
            part.trial()
            self._synchronise()
            begun = self.clock()
            for _ in range(times):
                work()
            self._synchronise()
            return (self.clock() - begun) / times

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure_bard(engine: Engine, seconds: float, seed: int) -> Result:
    """Bardcast's own row: windows one after the other, after a first that warms the machine up."""
    windows = max(1, round(seconds / (engine.new_frames * FRAME_SECONDS)))
    figures = measure_windows(engine, windows, seed)
    music = windows * figures["window_audio_seconds"]
    spent = {part: music / figures["real_time_factor"][part] for part in ("sampler", "vocoder")}
    costs = {part: Cost("as it always plays", windows, windows, seconds) for part, seconds in spent.items()}
    parameters = sum(p.numel() for module in (engine.network, engine.vocoder) for p in module.parameters())
    library = f"torch {metadata.version('torch')}"
    return Result(engine.name, parameters, library, engine.steps, music, sum(spent.values()), costs)


def measure_peer(name: str, device: torch.device, seconds: float, steps: int) -> Result:
    """A peer's row. It is built here and let go: together they need more memory than many a machine has."""
    match name:
        case "musicgen":
            peer = musicgen(device, seconds)
        case "riffusion":
            peer = riffusion(device)
        case _:
            peer = audio_diffusion(device)
    return Meter(device, steps).peer(peer)


def table(results: Sequence[Result]) -> list[tuple[str, str]]:
    """The rows, fastest first, in columns; and what was reckoned and not timed."""
    ranked = sorted(results, key=lambda result: -result.factor)
    cells = [COLUMNS] + [
        (
            f"{result.parameters / 1e6:.1f} M",
            result.library,
            str(result.steps),
            f"{result.music_seconds:.2f} s",
            f"{result.compute_seconds:.2f} s",
            f"{result.factor:.3g}",
        )
        for result in ranked
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    rows = list(zip(["", *(result.name for result in ranked)], lines, strict=True))
    for result in ranked:
        for name, cost in result.parts.items():
            said = f"{cost.seconds:.2f} s, {cost.form}"
            if cost.timed < cost.times:
                said += f"; reckoned from {cost.timed} of {cost.times} steps"
            rows.append((f"{result.name}: {name}", said))
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure Bardcast and each peer in turn."""
    options = _parse(arguments)
    gpu = gpu_name(options.device)
    need_libraries()
    device = torch.device(options.device) if options.device else pick_device()
    torch.manual_seed(options.seed)
    engine = load_engine(options.model, options.device)
    # On a thread of its own, as the service computes.
    with ThreadPoolExecutor(1) as thread:
        results = [thread.submit(measure_bard, engine, options.seconds, options.seed).result()]
        for name in options.peers:
            results.append(thread.submit(measure_peer, name, device, options.seconds, options.steps).result())
            gc.collect()
    figures: dict[str, Any] = {
        "device": gpu or "cpu",
        "results": [asdict(result) | {"real_time_factor": result.factor} for result in results],
    }
    finish("Peers", options, table(results), figures)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0])
    made.add_argument("--peers", type=_names, default=",".join(NAMES), metavar="A,B,…", help="which")
    made.add_argument("--steps", type=int, default=5, help="steps of denoising that are timed; the rest is reckoned")
    made.add_argument("--seconds", type=float, default=10.0, help="of music, from what makes as much as is asked for")
    made.add_argument("--device", choices=("cpu", "cuda"), help="if not given, the GPU where there is one")
    return made.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(NAMES)):
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    main()
