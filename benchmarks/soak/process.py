"""The bot as a process: begun, ended, killed, and asked what it holds."""

import asyncio
import json
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.soak.hurried_bot import FILE
from tests.discord_server import TOKEN, DiscordServer

READY_SECONDS: Final = 90.0
END_SECONDS: Final = 60.0
_READY: Final = "ready as"
_MORE: Final = {"TCP": 8, "file descriptor": 10, "asyncio thread": 8}  #: connections and threads that wait for work


@dataclass(frozen=True, slots=True)
class Census:
    """All that a process holds.

    Attributes:
        held: how many of each kind and name.
        rss: MiB.
    """

    held: Counter[str]
    rss: float

    def leaks(self, before: "Census") -> dict[str, int]:
        """What there is more of than before."""
        more = self.held - before.held
        return {name: count for name, count in more.items() if count > _MORE.get(name, 0)}


class BotProcess:
    """One bot after another, on the same store.

    Attributes:
        log: the file with all that they wrote.
        starts: how many there were.
    """

    def __init__(self, server: DiscordServer, folder: Path, env: Mapping[str, str]) -> None:
        self.log = folder / "bot.log"
        self.starts = 0
        self._server = server
        self._census = folder / "census.json"
        store = folder / "bardcast.sqlite3"
        self._env = {"DISCORD_TOKEN": TOKEN, "BARDCAST_STORE": str(store), FILE: str(self._census), **env}
        self._running: asyncio.subprocess.Process | None = None

    @property
    def _process(self) -> asyncio.subprocess.Process:
        if self._running is None:
            raise RuntimeError("the bot was never begun")
        return self._running

    async def start(self) -> None:
        """Begins, and returns when the bot knows its guilds."""
        self.starts += 1
        with self.log.open("ab") as log:
            self._running = await self._server.spawn("benchmarks.soak.hurried_bot", "run", env=self._env, output=log)
        until = time.monotonic() + READY_SECONDS
        while self.log.read_text(encoding="utf-8", errors="replace").count(_READY) < self.starts:
            if self._process.returncode is not None or time.monotonic() > until:
                raise RuntimeError("the bot did not begin")
            await asyncio.sleep(0.1)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._running is not None and self._running.returncode is None

    async def stop(self) -> int:
        """Asks it to end (SIGTERM); its exit status."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """It has no time for anything (SIGKILL)."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> int:
        if self._process.returncode is None:
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(END_SECONDS):
                status = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise RuntimeError(f"the bot did not end within {END_SECONDS:g} s of {number.name}") from None
        self._server.gateway.sessions.clear()  # nobody will resume them
        return status

    async def census(self) -> Census:
        """What the process holds now."""
        self._census.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(10.0):
            while not self._census.exists():  # noqa: ASYNC110 - a file rings no bell
                await asyncio.sleep(0.02)
        told = json.loads(self._census.read_text(encoding="utf-8"))
        process = psutil.Process(self._process.pid)
        held: Counter[str] = Counter()
        for task in told["tasks"]:
            held["task " + re.sub(r"Task-\d+: ", "", task)] += 1
        for thread in told["threads"]:
            name = re.sub(r"[-_]?\d+.*", "", thread)
            held["asyncio thread" if name == "asyncio" else f"thread {name}"] += 1
        for connection in process.net_connections(kind="all"):
            tcp = connection.type is socket.SOCK_STREAM and connection.family is not socket.AF_UNIX
            held["TCP" if tcp else f"socket {connection.type.name}"] += 1
        for file in process.open_files():
            held[f"file {Path(file.path).name}"] += 1
        held["file descriptor"] = process.num_fds()
        return Census(held, process.memory_info().rss / 2**20)

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
