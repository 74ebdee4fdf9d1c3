"""The bot is a light process: no torch in it, little memory, and only the torch-free part of the generator."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROBE = """
import sys
import bot.__main__, bot.run, bot.demo, bot.commands, bot.fake, generator.picture
from bot.opus import OpusEncoder
from bot.bard import Bard
OpusEncoder(64000)
guests = {"torch", "torchaudio", "librosa", "numba", "scipy", "matplotlib"}
heavy = sorted({name.split(".")[0] for name in sys.modules} & guests)
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
print(peak, *heavy)
"""


def test_the_bot_imports_nothing_heavy_and_is_small() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    peak, *heavy = done.stdout.split()
    assert heavy == []
    assert int(peak) < 150, f"{peak} MB"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "bot").glob("*.py")), ids=lambda path: path.name)
def test_no_module_is_a_warehouse(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
