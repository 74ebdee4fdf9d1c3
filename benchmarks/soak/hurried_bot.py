"""The bot, unchanged but for its patience: a minute of the game lasts a second. And it can be asked what it holds.

Run in place of ``bot`` by ``benchmarks.soak``. On SIGUSR1 it writes its tasks and threads into a file.
"""

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

import bot.bard
import bot.run
from bot.__main__ import main

FILE: Final = "SOAK_CENSUS"  #: the variable that names the file

#: Times that are meant for people, and for a Discord that is far away.
HURRY: Final[dict[str, Any]] = {
    "bot.commands._MINUTE": 1,
    "bot.client.STEADY_SECONDS": 1.0,
    "bot.supervisor.NOTICE_SECONDS": 1.0,
    "bot.supervisor.REJOIN_PAUSES": (0.0, 0.2, 0.5, 1.0, 2.0),
    "bot.supervisor.STEADY_SECONDS": 1.0,
    "bot.table.NOTICE_SECONDS": 0.5,
    "bot.panel_messages.EVERY_SECONDS": 0.3,
    "bot.panel_messages.SETTLED_SECONDS": 1.0,
    "bot.panel_messages.IDLE_SECONDS": 3.0,
}
#: discord.py's own: until a silent gateway is given up, and until all guilds are taken to have come.
CLIENT: Final[dict[str, Any]] = {"heartbeat_timeout": 8.0, "guild_ready_timeout": 0.2}


def census(*_: object) -> None:
    """Writes down who is there; gives back the memory that nobody holds and that glibc keeps, thread by thread."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # it is another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    tasks = [f"{task.get_name()}: {_work(task)}" for task in asyncio.all_tasks(asyncio.get_running_loop())]
    body = {"tasks": sorted(tasks), "threads": sorted(thread.name for thread in threading.enumerate())}
    path = Path(os.environ[FILE])
    path.with_suffix(".new").write_text(json.dumps(body), encoding="utf-8")
    path.with_suffix(".new").rename(path)


def _work(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "?")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, census)
    with contextlib.ExitStack() as stack:
        for name, value in HURRY.items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(mock.patch.object(bot.run, "Bard", partial(bot.bard.Bard, **CLIENT)))
        sys.exit(main())
