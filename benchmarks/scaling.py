"""How many tables a cluster carries, by a simulation of its queue that is fed with measured window times.

First the most tables a worker at which 99 of 100 changes of mood are made in time and hardly any table is without new
music, by bisection and for clusters of several sizes. Then how changes slow down as tables come, what an evening of
coming, going and failing does, and what 100, 10,000 and a million tables ask for.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.report import finish, note, parser
from benchmarks.scaling_picture import draw
from benchmarks.scaling_queue import WARM_UP_SECONDS, Fleet, Load, Outcome, simulate
from benchmarks.service_curve import Curve, load_curve
from generator.protocol import FRAME_BYTES, FRAMES_PER_SECOND
from training.errors import RunError

#: A change is to be heard within 2 s (README): the window, and the handover to the ear of 0.3 s.
IN_TIME_SECONDS: Final = 1.7
MOST_HELD: Final = 0.001
#: Of the computing that full passes make possible: with less to spare, buffers that an outage emptied fill too slowly,
#: and what is too much shows only after longer than is simulated here.
MOST_LOAD: Final = 0.95
FOREVER_HOURS: Final = 1e5  #: a search wants as many tables at its end as at its beginning
LEAST_SECONDS: Final = 180.0
EVENING_SECONDS: Final = 3600.0

# Of one table. The wire's frames carry 8 bytes of place and 4 of WebSocket; Ethernet, IP and TCP add 3 in 100.
WIRE_BITS: Final = (FRAME_BYTES + 12) * FRAMES_PER_SECOND * 8 * 1.03
#: To Discord: Opus at a channel's usual 64 kbit/s, and 90 bytes a packet for RTP, encryption twice over, UDP and below.
VOICE_BITS: Final = 64_000 + 90 * 8 * FRAMES_PER_SECOND
TABLES_A_BOT_CORE: Final = 50  #: benchmarks.load
GUILDS_A_SHARD: Final = 1_000  #: advised; 2,500 are the most
TABLES_SHARE: Final = 0.1  #: of the guilds that the bot is in, those that play at the busiest hour: a guess


@dataclass(frozen=True, slots=True)
class Carried:
    """How so many tables fared in a trial.

    Attributes:
        workers: of the fleet.
        overtaking: its policy.
        tables: that played.
        p50: seconds within which half of the changes were made.
        p95: 95 of 100.
        p99: 99 of 100.
        most: all.
        held: share of the tables' time without new music.
        busy: share of the workers' time in which they computed.
        load: share of what they would compute in passes that are always full.
    """

    workers: int
    overtaking: bool
    tables: int
    p50: float
    p95: float
    p99: float
    most: float
    held: float
    busy: float
    load: float


def search(curve: Curve, fleet: Fleet, change_seconds: float, table_hours: float, seed: int) -> Carried:
    """The most tables that a fleet carries in time, to within one in fifty. None of them leaves."""
    good, bad = 0, math.ceil(curve.most_tables * fleet.workers) + 1
    best: Carried | None = None
    while bad - good > max(1, good // 50):
        tables = (good + bad) // 2
        tried = trial(curve, fleet, tables, change_seconds, table_hours, seed)
        if tried.p99 < IN_TIME_SECONDS and tried.held < MOST_HELD and tried.load < MOST_LOAD:
            good, best = tables, tried
        else:
            bad = tables
    return best or replace(trial(curve, fleet, 1, change_seconds, table_hours, seed), tables=0)


def trial(curve: Curve, fleet: Fleet, tables: int, change_seconds: float, table_hours: float, seed: int) -> Carried:
    """How a fleet fares with so many tables, none of which leaves."""
    seconds = max(LEAST_SECONDS, 3600 * table_hours / tables)
    outcome = simulate(curve, Load(tables, FOREVER_HOURS, change_seconds=change_seconds), fleet, seconds, seed)
    p50, p95, p99, most = (outcome.change(share) for share in (0.5, 0.95, 0.99, 1.0))
    load = outcome.made * curve.window_seconds(curve.rows) / (fleet.workers * (WARM_UP_SECONDS + seconds))
    return Carried(fleet.workers, fleet.overtaking, tables, p50, p95, p99, most, outcome.held, outcome.busy, load)


def sweep(curve: Curve, fleet: Fleet, change_seconds: float, table_hours: float, seed: int) -> list[Carried]:
    """How a fleet fares with more and more tables, up to what it could just compute if no mood ever changed."""
    most = curve.most_tables * fleet.workers
    counts = [max(1, round(most * tenth / 10)) for tenth in range(2, 11)]
    return [trial(curve, fleet, tables, change_seconds, table_hours, seed) for tables in counts]


def demand(tables: int, a_worker: float, figures: Mapping[str, Any]) -> dict[str, float]:
    """What so many tables ask for, with so many to a worker; ``figures`` are those of the window times."""
    new = figures["new_seconds"]
    windows = tables / new
    guilds = tables / TABLES_SHARE
    return {
        "tables": tables,
        "windows_a_second": windows,
        "workers": math.ceil(tables / a_worker) + 1,  # one may be away
        "ingress_cores": windows * median(figures["splice_cpu_seconds"]),
        "bot_cores": math.ceil(tables / TABLES_A_BOT_CORE),
        "wire_gigabits": tables * WIRE_BITS / 1e9,
        "inner_gigabits": windows * (figures["state_bytes"] + figures["window_bytes"]) * 8 / 1e9,
        "voice_gigabits": tables * VOICE_BITS / 1e9,
        "shards": math.ceil(guilds / GUILDS_A_SHARD),
    }


def main(arguments: list[str] | None = None) -> None:
    """Simulate, show, and draw if a picture was asked for."""
    options = _parse(arguments)
    curve = load_curve(options.times)
    change, hours, seed = 60 * options.change_minutes, options.table_hours, options.seed
    fleets = [
        Fleet(workers, options.failure_hours, overtaking=overtaking)
        for overtaking in (False, True)
        for workers in options.workers
    ]
    carried = []
    for fleet in fleets:
        carried.append(search(curve, fleet, change, hours, seed))
        note(str(carried[-1]))
    middle = sorted(options.workers)[len(options.workers) // 2]
    fleet = Fleet(middle, options.failure_hours)
    swept = {
        policy: sweep(curve, replace(fleet, overtaking=policy == "overtaking"), change, hours, seed)
        for policy in ("waiting", "overtaking")
    }
    tables = max(1, round(0.8 * next(each.tables for each in reversed(carried) if each.workers == middle)))
    evenings = {
        notice: simulate(
            curve,
            Load(tables, change_seconds=change),
            Fleet(middle, 2.0, notice_seconds=notice, overtaking=True),
            EVENING_SECONDS,
            seed,
        )
        for notice in (1.0, 15.0)
    }
    largest = max(options.workers)
    a_worker = max(1.0, carried[-1].tables / largest)
    times = json.loads(options.times.read_text(encoding="utf-8"))["figures"]
    demands = [demand(each, a_worker, times) for each in (100, 10_000, 1_000_000)]
    figures = {
        "curve": {**asdict(curve), "rows": curve.rows, "most_tables": curve.most_tables},
        "in_time_seconds": IN_TIME_SECONDS,
        "carried": [asdict(each) for each in carried],
        "swept": {policy: [asdict(each) for each in rows] for policy, rows in swept.items()},
        "evenings": {str(notice): _told(outcome) for notice, outcome in evenings.items()},
        "demands": demands,
    }
    rows = [
        (curve.name, f"{curve.rows} windows in a pass, {curve.most_tables:.1f} tables at most if it never rests"),
        *((_policy(each), _words(each)) for each in carried),
        *((f"{_policy(each)}, {each.tables} tables", _words(each)) for rows in swept.values() for each in rows),
        *((f"an evening, noticed in {notice:g} s", _evening(tables, outcome)) for notice, outcome in evenings.items()),
        *(
            (f"{each['tables']:,} tables", ", ".join(f"{name} {value:,.4g}" for name, value in each.items()))
            for each in demands
        ),
    ]
    finish("Scaling", options, rows, figures)
    if options.plot is not None:
        try:
            draw(figures, options.plot)
        except RunError as error:
            raise SystemExit(str(error)) from None


def _policy(each: Carried) -> str:
    return f"{each.workers} worker{'s' * (each.workers > 1)}{', a change drops its own' * each.overtaking}"


def _words(each: Carried) -> str:
    return (
        f"{each.tables / each.workers:.2f} tables a worker; a change in {each.p50:.2f} s, p95 {each.p95:.2f}, "
        f"p99 {each.p99:.2f}, longest {each.most:.2f}; without new music {100 * each.held:.3f} %, "
        f"busy {100 * each.busy:.0f} %, load {100 * each.load:.0f} %"
    )


def _evening(tables: int, outcome: Outcome) -> str:
    return (
        f"{tables} tables, {outcome.failures} failures, {outcome.called_again} windows called again, none lost; "
        f"a change p99 {outcome.change(0.99):.2f} s, longest {outcome.change(1):.2f}; without new music "
        f"{100 * outcome.held:.3f} %"
    )


def _told(outcome: Outcome) -> dict[str, float]:
    kept = {name: value for name, value in asdict(outcome).items() if name != "change_seconds"}
    return kept | {f"p{100 * share:g}": outcome.change(share) for share in (0.5, 0.95, 0.99, 1.0)}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0], model=False)
    times = Path(__file__).parent / "times" / "core.json"
    made.add_argument("--times", type=Path, default=times, metavar="FILE", help="of benchmarks.window_times")
    made.add_argument("--workers", type=_counts, default="1,2,4,8,16,32,64", metavar="N,N,…", help="sizes of clusters")
    made.add_argument("--table-hours", type=float, default=50.0, help="of music in each trial")
    made.add_argument("--change-minutes", type=float, default=2.5, help="between a table's changes of mood, on average")
    made.add_argument("--failure-hours", type=float, default=168.0, help="between a worker's failures, on average")
    made.add_argument("--plot", type=Path, metavar="PNG", help="draw the outcome there")
    return made.parse_args(arguments)


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError("whole numbers above 0, with commas between them")
    return counts


if __name__ == "__main__":
    main()
