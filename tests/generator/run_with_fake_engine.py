"""``python -m generator`` with the fake engine in the real one's place, as a process of its own."""

import sys
from types import ModuleType

from generator.__main__ import main
from tests.generator.fake_engine import FakeEngine


def fake_module() -> ModuleType:
    module = ModuleType("generator.engine")
    module.load_engine = lambda model: FakeEngine(model)  # type: ignore[attr-defined]
    return module


if __name__ == "__main__":
    sys.modules["generator.engine"] = fake_module()
    sys.exit(main())
