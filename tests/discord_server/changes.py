"""Waiting until something becomes true, without polling."""

import asyncio
from collections.abc import Callable


class Changes:
    """One bell for the whole server: it rings at each change, and waiters look whether it was theirs."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()

    def notify(self) -> None:
        """Something changed."""
        self._bell.set()
        self._bell = asyncio.Event()

    async def until(self, true: Callable[[], object], *, timeout: float, what: str) -> None:  # noqa: ASYNC109
        """Return as soon as ``true()`` is.

        Raises:
            TimeoutError: ``what`` did not happen in ``timeout`` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while not true():
                    await self._bell.wait()
        except TimeoutError:
            raise TimeoutError(f"waited {timeout:g} s for {what}") from None
