"""The one thread that computes windows, for all streams. Torch-free.

One thread, because a window already uses every core (or the one device): two at a time would only make both late.
"""

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """Who goes first; equals go in the order of arrival."""

    URGENT = 0  #: somebody waits to hear it: a change of mood or volume, a first window, one for a buffer run low
    WINDOW = 1  #: seconds of buffer are left


@dataclass(order=True, slots=True)
class _Job:
    priority: int
    arrival: int
    work: Callable[[], Any] | None = field(compare=False)  # None: stop
    future: Future[Any] = field(compare=False, default_factory=Future)


class Worker:
    """Runs jobs one by one on its own thread, urgent ones first."""

    def __init__(self, name: str = "windows") -> None:
        self._jobs: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._arrivals = itertools.count()
        self._busy_since: float | None = None
        # A daemon: a job that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    @property
    def busy_seconds(self) -> float:
        """How long the job in hand has taken so far; 0 when there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """Drop what is queued, and wait up to ``timeout`` seconds for the job in hand."""
        self._jobs.put(_Job(-1, next(self._arrivals), None))
        self._thread.join(timeout)

    async def run(self, priority: Priority, work: Callable[[], T]) -> T:
        """The result of ``work()``, done on the thread. Cancelling the caller drops it if it hasn't begun."""
        job = _Job(priority, next(self._arrivals), work)
        self._jobs.put(job)
        result: T = await asyncio.wrap_future(job.future)
        return result

    def _loop(self) -> None:
        while self._do_next():
            pass
        while not self._jobs.empty():
            self._jobs.get().future.cancel()

    def _do_next(self) -> bool:
        # A function of its own, so that no finished job (and the stream in it) is kept alive while waiting.
        job = self._jobs.get()
        if job.work is None:
            return False
        if job.future.set_running_or_notify_cancel():
            self._busy_since = time.monotonic()
            try:
                result = job.work()
            except BaseException as error:  # the caller's to handle; the thread lives on
                job.future.set_exception(error)
            else:
                job.future.set_result(result)
            finally:
                self._busy_since = None
        return True
