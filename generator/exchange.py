"""Another model in place of the one that plays, while the streams play on. Torch-free: a loader is handed in."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Final, Protocol, Self

from generator.errors import GeneratorError
from generator.metrics import Metrics
from generator.moods import MOODS
from generator.playable import Chunk, Engine, Stream
from generator.protocol import AHEAD_FRAMES, FRAME_SECONDS, Controls
from generator.worker import Worker

log = logging.getLogger(__name__)

#: The first window knows nothing of any other, and the second continues it: there is no third kind.
TRIAL_WINDOWS: Final = 2
#: Times what its frames last that the second may take: the trial has half of the cores where the tables' windows are
#: made on the others, so what takes longer is slower than real time by itself.
SLOWEST: Final = 2.0
PATIENCE: Final = 60.0  #: seconds for a window of the trial, with whatever is done but once; who asks next waits


class Player(Engine, Protocol):
    """What opens streams, and can play another's model in them: see ``generator.stream.Player``."""

    def take_over(self, other: Self) -> None: ...  # noqa: D102


Load = Callable[[str], Player]


class ExchangeError(GeneratorError):
    """The other model can't play, and the one before it plays on; the text is a sentence that says why."""


class Exchange:
    """Exchanges models, one at a time: who asks meanwhile waits.

    Loading and trying out have a thread of their own, beside that of the windows: a bad model may take very long over
    its first one, and every table would have to wait for it.
    """

    def __init__(
        self, player: Player, model: str, load: Load, metrics: Metrics, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Nothing is exchanged yet.

        Args:
            player: plays in all streams.
            model: name or path of what it plays.
            load: makes a player of a model's name or path, or raises a :class:`GeneratorError`.
            metrics: counts what is asked for.
            clock: seconds, by which it is known how long a window takes.
        """
        self._player, self._model, self._load, self._metrics, self._clock = player, model, load, metrics, clock
        self._loader = Worker("models", threads=1)
        self._one_at_a_time = asyncio.Lock()
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        """Name or path of what plays."""
        return self._model

    @property
    def loader(self) -> Worker:
        """The thread that loads."""
        return self._loader

    def start(self) -> None:
        """Begin to wait for what is asked. Called on the event loop."""
        self._task = asyncio.create_task(self._reload_when_asked())

    def stop(self, timeout: float) -> None:
        """Let go of what waits, and wait up to ``timeout`` seconds for a model that is being loaded."""
        if self._task is not None:
            self._task.cancel()
        self._loader.stop(timeout)

    def reload(self) -> None:
        """Have the model that plays read from its file again, soon. Called on the event loop; the log tells the end."""
        self._again.set()

    async def play(self, model: str | None = None) -> None:
        """Let all streams play a model from their next window on.

        Args:
            model: its name or path; the one that plays, from its file again, if not given.

        Raises:
            ExchangeError: it can't be used; nothing has changed.
        """
        async with self._one_at_a_time:
            wanted = self._model if model is None else model
            try:
                other = await self._loader.run(lambda: self._try_out(wanted))
            except Exception as error:
                self._metrics.models.labels("refused").inc()
                raise self._refusal(wanted, error) from error
            self._player.take_over(other)
            self._model = wanted
            self._metrics.models.labels("taken").inc()
            log.info("%s plays now, as read from %s", self._player.name, wanted)

    def _try_out(self, model: str) -> Player:
        other = self._load(model)
        stream = other.stream(0, Controls(MOODS[0]))
        for _ in range(TRIAL_WINDOWS):
            begun = self._clock()
            chunk = self._tried(model, stream, begun + PATIENCE)
            took = self._clock() - begun
        lasts = len(chunk.frames) * FRAME_SECONDS
        # Of the last window only: the first also does what is done but once.
        if took > min(SLOWEST * lasts, AHEAD_FRAMES * FRAME_SECONDS):
            raise ExchangeError(
                f"{model}: makes {lasts:.1f} s of music in {took:.1f} s on this machine and would starve the tables; "
                "give one that is faster"
            )
        return other

    def _tried(self, model: str, stream: Stream, until: float) -> Chunk:
        try:
            return stream.advance(wanted=lambda: self._clock() < until)
        except CancelledError:
            raise ExchangeError(
                f"{model}: makes no window in {PATIENCE:g} s on this machine; give one that is faster"
            ) from None

    def _refusal(self, model: str, error: Exception) -> ExchangeError:
        if isinstance(error, GeneratorError):
            why = str(error)
            log.warning("%s; %s plays on", why, self._player.name)
        else:
            why = f"{model}: can't be played; look into the generator's log, and give another model"
            log.error("%s can't be played; %s plays on", model, self._player.name, exc_info=error)
        return ExchangeError(f"{why}; {self._player.name} plays on")

    async def _reload_when_asked(self) -> None:
        while True:
            await self._again.wait()
            self._again.clear()  # before it begins: the file may be replaced once more after it was read
            with contextlib.suppress(ExchangeError):
                await self.play()
