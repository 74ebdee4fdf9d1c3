"""What a session plays, whatever makes it. Torch-free."""

from collections.abc import Callable, Sequence
from typing import Protocol

from generator.protocol import Bar, Controls, Transition


class Chunk(Protocol):
    """What the engine makes: see ``generator.stream.Chunk``."""

    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def frames(self) -> Sequence[bytes]: ...  # noqa: D102
    @property
    def lands(self) -> int | None: ...  # noqa: D102
    @property
    def bars(self) -> Sequence[Bar]: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102


class Stream(Protocol):
    """Endless music, made a window at a time: see ``generator.stream.Stream``."""

    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def controls(self) -> Controls: ...  # noqa: D102
    @property
    def volume(self) -> float: ...  # noqa: D102
    @property
    def continues(self) -> bool: ...  # noqa: D102
    def snapshot(self) -> bytes: ...  # noqa: D102
    def advance(self, slack: float = ..., wanted: Callable[[], bool] = ...) -> Chunk: ...  # noqa: D102
    def change(  # noqa: D102
        self, controls: Controls, playhead: Callable[[], int], transition: Transition
    ) -> Chunk: ...
    def set_volume(self, volume: float, playhead: int) -> Chunk: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Engine(Protocol):
    """What makes streams: see ``generator.engine.Engine``."""

    @property
    def name(self) -> str: ...  # noqa: D102
    def stream(  # noqa: D102
        self,
        seed: int,
        controls: Controls,
        volume: float = 1.0,
        start: int = 0,
        origin: int | None = None,
        home: int | None = None,
    ) -> Stream: ...
    def resume(self, state: bytes) -> Stream: ...  # noqa: D102
