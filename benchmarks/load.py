"""Many tables in one bot: how late its voice packets are, and what a table costs.

The bot runs at a loopback Discord, alone on one core where there are two; its generator sends recorded frames. In each
guild a person asks for music and for a panel, and for another mood once a minute.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.report import finish, note, parser, peak_rss
from generator.moods import MOODS
from tests.discord_server import SILENCE, TOKEN, DiscordServer, Listener, Member
from tests.discord_server.world import MANAGE_GUILD

LATE_SECONDS: Final = 0.04  #: from one packet to the next, where 20 ms are due: the ear's own buffer is emptied
SETTLE_SECONDS: Final = 5.0
CHANGE_SECONDS: Final = 60.0
BEGIN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What the bot's process has used so far."""

    cpu: float
    rss: float

    @classmethod
    def of(cls, process: psutil.Process) -> "Cost":
        """Now: CPU seconds and MiB."""
        times = process.cpu_times()
        return cls(times.user + times.system, process.memory_info().rss / 2**20)


@dataclass(frozen=True, slots=True)
class Run:
    """One number of tables, as it went."""

    listeners: list[Listener]
    start: float
    end: float
    idle: Cost
    begun: Cost
    ended: Cost
    peak: float


@contextlib.asynccontextmanager
async def recorded_generator(cores: set[int]) -> AsyncIterator[str]:
    """A generator of recorded frames; its address."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "benchmarks.recorded")
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    os.sched_setaffinity(process.pid, cores)
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    assert process.stdout is not None  # noqa: S101
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def play(tables: int, seconds: float, seed: int) -> Run:
    """That many tables for so long, from the first packet of the last on."""
    mine, bots = _cores()
    os.sched_setaffinity(0, mine)
    rng = random.Random(seed)  # noqa: S311 - when to ask for what
    with tempfile.TemporaryDirectory() as folder:
        async with recorded_generator(mine) as url, DiscordServer(guilds=tables) as discord:
            people = []
            for guild in discord.guilds:
                role = guild.add_role("gm", MANAGE_GUILD)
                people.append(discord.add_member("gm", roles=[role], guild=guild))
                await discord.join_voice(people[-1], guild.voice)
            store = str(Path(folder) / "bardcast.sqlite3")
            env = {"DISCORD_TOKEN": TOKEN, "BARDCAST_GENERATOR_URL": url, "BARDCAST_STORE": store}
            process = await discord.spawn("bot", "run", env=env, output=asyncio.subprocess.DEVNULL)
            try:
                os.sched_setaffinity(process.pid, bots)
                await discord.wait_ready(timeout=BEGIN_SECONDS)
                await discord.command("mood", timeout=BEGIN_SECONDS)
                watched = psutil.Process(process.pid)
                idle = Cost.of(watched)
                listeners = [await _begin(discord, gm) for gm in people]
                await asyncio.sleep(SETTLE_SECONDS)
                begun, start = Cost.of(watched), time.monotonic()
                changing = asyncio.create_task(_change(discord, people, rng))
                try:
                    await asyncio.sleep(seconds)
                finally:
                    changing.cancel()
                    await asyncio.gather(changing, return_exceptions=True)
                ended, end, peak = Cost.of(watched), time.monotonic(), peak_rss(process.pid)
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()
    return Run(listeners, start, end, idle, begun, ended, peak)


def _cores() -> tuple[set[int], set[int]]:
    """This process's and the generator's, and the bot's: one of its own if there are two."""
    first, *others = sorted(os.sched_getaffinity(0))
    return (set(others) or {first}), {first}


async def _begin(discord: DiscordServer, gm: Member) -> Listener:
    await discord.slash(gm, "mood", mood="tavern")
    listener = await discord.wait_voice(gm.guild.voice, timeout=BEGIN_SECONDS)
    await discord.slash(gm, "panel")
    return listener


async def _change(discord: DiscordServer, people: list[Member], rng: random.Random) -> None:
    """One after the other asks for another mood, each once a minute."""
    for gm in itertools.cycle(people):
        await asyncio.sleep(CHANGE_SECONDS / len(people))
        await discord.slash(gm, "mood", mood=rng.choice(MOODS))


def look(run: Run) -> dict[str, Any]:
    """All figures."""
    gaps = [listener.inter_arrival(run.start, run.end) for listener in run.listeners]
    every: NDArray[np.float64] = np.concatenate(gaps)
    packets = [
        packet for listener in run.listeners for packet in listener.packets if run.start <= packet.arrival <= run.end
    ]
    tables, seconds = len(run.listeners), run.end - run.start
    return {
        "tables": tables,
        "seconds": seconds,
        "packets": len(packets),
        "packets_missing": sum(len(listener.gaps()) for listener in run.listeners),
        "silent_share": sum(packet.payload == SILENCE for packet in packets) / len(packets),
        "late_share": float(np.mean(every > LATE_SECONDS)),
        "inter_arrival_ms": {
            "p50": 1000 * float(np.percentile(every, 50)),
            "p99": 1000 * float(np.percentile(every, 99)),
            "most": 1000 * float(every.max()),
            "worst_table_p99": 1000 * max(float(np.percentile(gap, 99)) for gap in gaps),
        },
        "cpu_seconds_per_table_second": (run.ended.cpu - run.begun.cpu) / (tables * seconds),
        "cpu_share": (run.ended.cpu - run.begun.cpu) / seconds,
        "idle_rss_mib": run.idle.rss,
        "peak_rss_mib": run.peak,
        "rss_mib_per_table": (run.ended.rss - run.idle.rss) / tables,
    }


def main(arguments: list[str] | None = None) -> int:
    """Play with each number of tables and show how it went."""
    options = _parse(arguments)
    allowed = os.sched_getaffinity(0)
    found, rows = [], []
    for tables in options.tables:
        note(f"{tables} tables for {options.seconds:g} s")
        figures = look(asyncio.run(play(tables, options.seconds, options.seed)))
        os.sched_setaffinity(0, allowed)
        found.append(figures)
        arrival = figures["inter_arrival_ms"]
        rows += [
            (
                f"{tables} tables: inter-arrival",
                f"p50 {arrival['p50']:.2f} ms, p99 {arrival['p99']:.2f} ms, most {arrival['most']:.1f} ms; "
                f"worst table's p99 {arrival['worst_table_p99']:.2f} ms",
            ),
            (
                "  late, silent, missing",
                f"{100 * figures['late_share']:.3f} % over {1000 * LATE_SECONDS:g} ms, "
                f"{100 * figures['silent_share']:.3f} % silent, {figures['packets_missing']} missing "
                f"of {figures['packets']}",
            ),
            (
                "  CPU",
                f"{1000 * figures['cpu_seconds_per_table_second']:.2f} ms a second and table, "
                f"{100 * figures['cpu_share']:.0f} % of a core",
            ),
            (
                "  memory",
                f"{figures['rss_mib_per_table']:.2f} MiB a table; {figures['idle_rss_mib']:.0f} MiB without any, "
                f"{figures['peak_rss_mib']:.0f} MiB at most",
            ),
        ]
    finish("Load", options, rows, {"runs": found})
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0], model=False)
    made.add_argument("--tables", type=_counts, default=_counts("1,10,50"), metavar="A,B,…", help="how many, in turn")
    made.add_argument("--seconds", type=float, default=60.0, help="how long each is measured")
    return made.parse_args(arguments)


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError("a table is the least that can be measured")
    return counts


if __name__ == "__main__":
    sys.exit(main())
