"""Threads for what would hold up the event loop. Torch-free."""

import asyncio
import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: Each stream has at most one job, and most of those only wait for the device.
MOST_THREADS: Final = 1_024


class Worker:
    """Runs jobs, each on a thread of its own for as long as it lasts."""

    def __init__(self, name: str = "windows", threads: int = MOST_THREADS) -> None:
        """No thread yet.

        Args:
            name: of the threads, for whoever looks into the process.
            threads: at once; further jobs wait.
        """
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._numbers = itertools.count()
        self._begun: dict[int, float] = {}  # when each job in hand was
        self._futures: set[Future[Any]] = set()

    @property
    def busy_seconds(self) -> float:
        """How long the oldest job in hand has taken so far; 0 when there is none."""
        return time.monotonic() - min(self._begun.copy().values(), default=time.monotonic())

    @property
    def alive(self) -> bool:
        """Whether a job is still in hand."""
        return bool(self._begun)

    def stop(self, timeout: float) -> None:
        """Drop what waits, and wait up to ``timeout`` seconds for what is in hand."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        wait(self._futures.copy(), timeout)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work()``, done on a thread. Cancelling the caller drops it if it hasn't begun."""
        future = self._executor.submit(self._do, work)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return await asyncio.wrap_future(future)

    def _do(self, work: Callable[[], T]) -> T:
        number = next(self._numbers)
        self._begun[number] = time.monotonic()
        try:
            return work()
        finally:
            del self._begun[number]
