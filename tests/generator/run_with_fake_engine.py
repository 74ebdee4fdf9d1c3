"""``python -m generator`` with the fake engine in the real one's place, as a process of its own."""

import sys
from types import ModuleType

from generator.__main__ import main
from tests.generator.fake_engine import FakeEngine


def fake_modules() -> dict[str, ModuleType]:
    """Modules to stand in for those that need a model."""
    engine, stream = ModuleType("generator.engine"), ModuleType("generator.stream")
    engine.load_engine = FakeEngine  # type: ignore[attr-defined]
    stream.Player = lambda engine: engine  # type: ignore[attr-defined]
    return {"generator.engine": engine, "generator.stream": stream}


if __name__ == "__main__":
    sys.modules.update(fake_modules())
    sys.exit(main())
