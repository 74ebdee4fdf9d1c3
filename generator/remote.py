"""Windows made elsewhere: whoever is asked may die, hang or be replaced, and then another is asked the same.

A window is a pure function of what is asked, so it matters neither who makes it nor how often.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakKeyDictionary

from generator.engine import Engine, State, Wanted, Window
from generator.player import Player
from generator.section import Section

#: Seconds until another is asked beside the one that was; doubled each time, for all may only be busy. A client has
#: eight seconds of music ahead, and asks for more when a window's length of them is played.
PATIENCE: Final = 1.5
GLANCE: Final = 0.25  #: seconds between two looks at whether a window is still wanted
BREATH: Final = 0.05  #: seconds before the next is asked once nobody answers


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked; it travels.

    Attributes:
        model: name or path of what shall make it.
        state: what was heard.
        section: what to play.
        seed: of all randomness.
        slack: seconds for which it can wait.
    """

    model: str
    state: State
    section: Section
    seed: int
    slack: float


class LostError(Exception):
    """Whoever was asked is gone, and may be asked again."""


#: Has an order made; raises :class:`LostError`, or what the maker raised. Cancelled, it need not be made.
Ask = Callable[[Order], Awaitable[Window]]


class Remote:
    """Makes players whose windows others compute; here an engine only tells how windows join."""

    def __init__(
        self,
        ask: Ask,
        load: Callable[[str], Engine],
        loop: asyncio.AbstractEventLoop,
        patience: float = PATIENCE,
    ) -> None:
        """Nobody is asked yet.

        Args:
            ask: has an order made.
            load: makes an engine of a model's name or path.
            loop: on which ``ask`` is called.
            patience: seconds until another is asked.
        """
        self._ask, self._load, self._loop, self._patience = ask, load, loop, patience
        self._models: WeakKeyDictionary[Engine, str] = WeakKeyDictionary()

    def player(self, model: str) -> Player:
        """A player of a model's name or path.

        Raises:
            CheckpointError: it is missing, damaged or foreign.
        """
        engine = self._load(model)
        self._models[engine] = model
        return Player(engine, self.window)

    def window(self, engine: Engine, state: State, section: Section, seed: int, slack: float, wanted: Wanted) -> Window:
        """Have a window made, and wait for it. Any thread but the loop's.

        Arguments as for :meth:`generator.batching.Batcher.window`.

        Raises:
            CancelledError: it is no longer wanted.
            GenerationError: the model's output is not finite.
        """
        order = Order(self._models[engine], state, section, seed, slack)
        return asyncio.run_coroutine_threadsafe(self._until_made(order, wanted), self._loop).result()

    async def _until_made(self, order: Order, wanted: Wanted) -> Window:
        begun, patience = time.monotonic(), self._patience
        due = begun
        calls: set[asyncio.Future[Window]] = set()
        try:
            while wanted():
                now = time.monotonic()
                if now >= due or not calls:
                    calls.add(asyncio.ensure_future(self._ask(replace(order, slack=order.slack - (now - begun)))))
                    due, patience = now + patience, 2 * patience
                done, calls = await asyncio.wait(calls, timeout=GLANCE, return_when=asyncio.FIRST_COMPLETED)
                for call in done:
                    if not isinstance(call.exception(), LostError):
                        return call.result()
                if done and not calls:
                    await asyncio.sleep(BREATH)
                    patience = self._patience
        finally:
            for call in calls:
                call.cancel()
        raise asyncio.CancelledError
