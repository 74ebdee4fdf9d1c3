"""What a cluster costs and carries: its windows beside those of the plain service, and tables against samplers.

Both services run at once on this machine and are asked in turns, so that whatever else the machine does slows both.
Then tables join clusters of one sampler and of more, each sampler with a core of its own, until one is turned away or
misses a frame.
"""

import argparse
import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.report import finish, note, parser, spread
from benchmarks.served import Heard, listen, serving
from generator.moods import MOODS
from generator.protocol import Open
from tests.generator.cluster_process import Table, cluster, playing, until
from training.drawing import FIRST, dress, new_figure, save

PAUSE_SECONDS: Final = 0.5  #: for what a stream that is gone leaves behind
ALLOWED: Final = 0.1  #: more of a window's time
SETTLE_SECONDS: Final = 6.0
JOIN_SECONDS: Final = 60.0


async def compare(model: str, times: int, seed: int) -> dict[str, Any]:
    """From the opening of a stream to its first frame, which is a window: plain and clustered, one thread each."""
    plain: list[Heard] = []
    clustered: list[Heard] = []
    async with (
        serving(model, threads=1, device="cpu") as service,
        cluster(Path(model), light=False) as one,
        aiohttp.ClientSession() as session,
    ):
        for number in range(times):
            opening = Open(MOODS[number % len(MOODS)], seed + number)
            for url, heard in ((service.url, plain), (f"{one.url}/v1/stream", clustered)):
                heard.append(await listen(session, url, opening, bool))
                await asyncio.sleep(PAUSE_SECONDS)
            both = f"{plain[-1].first_seconds:.3f} s plain, {clustered[-1].first_seconds:.3f} s in the cluster"
            note(f"{number + 1} of {times}: {both}")
    found = {
        name: {
            "window": spread([each.first_seconds for each in heard]),
            "computing": spread([each.compute_seconds for each in heard]),
        }
        for name, heard in (("plain", plain), ("cluster", clustered))
    }
    medians = [found[name]["window"]["median"] for name in ("cluster", "plain")]
    return {**found, "overhead": medians[0] / medians[1] - 1}


async def hold(model: str, replicas: int, most: int, seconds: float) -> dict[str, Any]:
    """Tables that such a cluster holds without a missing frame."""
    async with cluster(Path(model), replicas, light=False) as one:
        made: list[Table] = []
        async with playing(made):
            while len(made) < most:
                table = Table(one.url, len(made), MOODS[len(made) % len(MOODS)])
                table.client.start()
                await until(partial(_decided, table), JOIN_SECONDS)
                if table.refused:
                    await table.client.close()
                    break
                made.append(table)
                await asyncio.sleep(SETTLE_SECONDS)
                if any(each.buffer.counts.held for each in made):
                    break
            before = [table.buffer.counts.held for table in made]
            await asyncio.sleep(seconds)
            missed = [table.buffer.counts.held - held for table, held in zip(made, before, strict=True)]
    note(f"{replicas} samplers: {len(made)} tables were let in, {sum(map(bool, missed))} of them missed frames")
    return {"replicas": replicas, "let_in": len(made), "held": sum(not frames for frames in missed), "missed": missed}


def _decided(table: Table) -> bool:
    return table.refused or table.buffer.can_start


def draw(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Tables held, against samplers."""
    figure = new_figure(7, 4.6)
    axes = figure.subplots()
    replicas, held = [point["replicas"] for point in points], [point["held"] for point in points]
    axes.plot(replicas, held, color=FIRST, marker="o")
    axes.set_xticks(replicas)
    axes.set_ylim(0, 1.2 * max(1, *held))
    axes.set_xlabel("samplers, a core each")
    axes.set_ylabel("tables")
    axes.grid(visible=True, alpha=0.12)
    dress(axes, "Tables held without a missing frame")
    save(figure, path)


def main(arguments: list[str] | None = None) -> None:
    """Measure both."""
    options = _parse(arguments)
    compared = asyncio.run(compare(options.model, options.times, options.seed))
    points = [
        asyncio.run(hold(options.model, replicas, options.most, options.seconds)) for replicas in options.replicas
    ]
    if options.picture is not None:
        draw(points, options.picture)
    rows = [
        *(
            (
                f"a window, {name}",
                f"median {compared[key]['window']['median']:.3f} s, p95 {compared[key]['window']['p95']:.3f} s; "
                f"the device took {compared[key]['computing']['median']:.3f} s of it",
            )
            for name, key in (("plain", "plain"), ("in the cluster", "cluster"))
        ),
        ("overhead", f"{compared['overhead']:+.1%} (allowed: {ALLOWED:.0%})"),
        *((f"{point['replicas']} samplers", f"{point['held']} of {point['let_in']} tables held") for point in points),
    ]
    finish("A cluster", options, rows, {"windows": compared, "tables": points})


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0])
    made.add_argument("--times", type=int, default=40, help="that a stream is opened at each service")
    made.add_argument("--replicas", type=int, nargs="+", default=[1, 2], help="samplers in each cluster")
    made.add_argument("--most", type=int, default=32, help="tables at most")
    made.add_argument("--seconds", type=float, default=30.0, help="that all tables are listened to at the end")
    made.add_argument("--picture", type=Path, metavar="FILE", help="draw tables against samplers into a PNG")
    return made.parse_args(arguments)


if __name__ == "__main__":
    main()
