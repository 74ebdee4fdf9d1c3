"""``python -m generator`` with the fake engine in the real one's place, as a process of its own."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

from generator.__main__ import main
from generator.console import put
from generator.errors import GeneratorError
from generator.moods import MOODS
from generator.protocol import Controls
from tests.generator.fake_engine import FakeEngine


class BusyEngine(FakeEngine):
    """Computes for half a minute in torch, where nobody can interrupt it, once it was measured."""

    measured = False

    def work(self, call: str, wanted: Callable[[], bool] = lambda: True) -> None:
        import torch

        super().work(call, wanted)
        until = time.monotonic() + 30
        while self.measured and time.monotonic() < until:
            torch.ones(300, 300) @ torch.ones(300, 300)


def load_engine(model: str) -> FakeEngine:
    """By name; or by a file, in which the name is."""
    path = Path(model)
    if path.suffix:
        if not path.is_file():
            raise GeneratorError(f"{model}: no such model")
        model = path.read_text(encoding="utf-8")
    if model == "slow":
        put("loading\n")
        time.sleep(60)
    return BusyEngine(model) if model == "busy" else FakeEngine(model)


def real_time_factor(engine: FakeEngine, rows: int) -> float:
    """As if it had been measured, of a second window."""
    stream = engine.stream(0, Controls(MOODS[0]))
    stream.advance()
    stream.advance()
    if isinstance(engine, BusyEngine):
        engine.measured = True
    return 100.0


def fake_modules() -> dict[str, ModuleType]:
    """Modules to stand in for those that need a model."""
    engine, player = ModuleType("generator.engine"), ModuleType("generator.player")
    batching = ModuleType("generator.batching")
    engine.load_engine = load_engine  # type: ignore[attr-defined]
    player.Player = lambda engine, make=None: engine  # type: ignore[attr-defined]
    batching.Batcher = lambda rows: Mock(rows=rows, alive=False)  # type: ignore[attr-defined]
    batching.best_rows = lambda _: 1  # type: ignore[attr-defined]
    batching.real_time_factor = real_time_factor  # type: ignore[attr-defined]
    return {"generator.engine": engine, "generator.player": player, "generator.batching": batching}


if __name__ == "__main__":
    sys.modules.update(fake_modules())
    sys.exit(main())
