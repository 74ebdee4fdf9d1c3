"""An hour of game in minutes: random commands and random faults from a seed, and what the tables heard.

Several tables in one bot, a loopback Discord that fails, a generator that plays one sine a mood and dies. After each
step each table has to sound, or be silent, as it should; every so often all tables end, and nothing may be left over.
A step depends on its number and the seed alone: ``--seed 7 --steps 118:121`` repeats those three.
"""

import argparse
import asyncio
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import finish, note, parser, spread
from benchmarks.soak.play import Soak, play


def main(arguments: list[str] | None = None) -> int:
    """Play and show how it went; 1 if something was not as it should be."""
    options = _parse(arguments)
    first, last = options.steps
    steps = range(first, last) if last is not None else itertools.count(first)
    soak = asyncio.run(play(options.seed, options.tables, steps, options.minutes, note, options.log))
    found = figures(soak)
    rows = [
        ("steps", f"{soak.steps} in {soak.seconds / 60:.1f} minutes, at {options.tables} tables each"),
        ("what people did", f"{soak.acts.total()}: {_counted(found['acts'])}"),
        ("what went wrong", f"{soak.faults.total()}: {_counted(found['faults'])}"),
        ("all as it should be, calm steps", _times(found["calm_seconds"])),
        ("all as it should be, with faults", _times(found["troubled_seconds"])),
        ("slowest first answer", f"{soak.slowest_answer:.2f} s"),
        ("most gateway requests in a minute", str(soak.gateway_requests)),
        ("memory at each interlude", f"{json.dumps(soak.rss)} MiB"),
        ("violation", soak.violation or "none"),
    ]
    finish("Soak", options, rows, found)
    if soak.violation is not None:
        note("\n".join(["", *soak.trail, "", soak.log]))
        return 1
    return 0


def figures(soak: Soak) -> dict[str, Any]:
    """All of it, to be kept."""
    return {
        "steps": soak.steps,
        "seconds": soak.seconds,
        "acts": dict(soak.acts.most_common()),
        "faults": dict(soak.faults.most_common()),
        "calm_seconds": spread(soak.calm) if soak.calm else None,
        "troubled_seconds": spread(soak.troubled) if soak.troubled else None,
        "slowest_answer_seconds": soak.slowest_answer,
        "gateway_requests_a_minute": soak.gateway_requests,
        "rss_mib": soak.rss,
        "violation": soak.violation,
    }


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _times(found: dict[str, float] | None) -> str:
    if found is None:
        return "none"
    return f"median {found['median']:.1f} s, p95 {found['p95']:.1f} s, most {found['most']:.1f} s"


def _steps(text: str) -> tuple[int, int | None]:
    first, _, last = text.partition(":")
    return int(first or 0), int(last) if last else None


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0])
    made.add_argument("--minutes", type=float, default=10.0, help="after which no step is begun")
    made.add_argument("--tables", type=int, default=3, help="at once")
    made.add_argument("--steps", type=_steps, default="0:", metavar="FIRST:LAST", help="only these, without LAST")
    made.add_argument("--log", type=Path, metavar="FILE", help="keep the bot's log there")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
