"""Draws the README's pictures of the listening room: the real page in a real browser, while the model plays."""

import argparse
import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser

from benchmarks.room import serving
from tests.room.chromium import PHONE, chromium, until, until_text, visitor

DOCS: Final = Path(__file__).parents[1] / "docs"
DESK: Final = {"width": 1280, "height": 1070}
PLAY_SECONDS: Final = 13.0


def draw(folder: Path) -> tuple[Path, Path]:
    """Write ``room.png``, tavern turning into fight, and ``room-phone.png``."""
    with serving(live=True) as address, chromium() as browser:
        return _desk(browser, address, folder / "room.png"), _phone(browser, address, folder / "room-phone.png")


def _desk(browser: Browser, address: str, path: Path) -> Path:
    with visitor(browser, viewport=DESK) as page:
        page.goto(address)
        page.keyboard.press("7")
        until_text(page, "#now", "Tavern", 60)
        page.wait_for_timeout(1_000 * PLAY_SECONDS)
        page.keyboard.press("3")
        until(page, "document.querySelector('#now').textContent === 'Fight'")
        page.wait_for_timeout(4_000)
        page.keyboard.press("4")  # and what comes is seen before it is heard
        until(page, "document.querySelector('#next').textContent !== ''")
        page.screenshot(path=path)
    return path


def _phone(browser: Browser, address: str, path: Path) -> Path:
    with visitor(browser, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2) as page:
        page.goto(address)
        page.get_by_role("button", name="Festival").tap()
        until_text(page, "#now", "Festival", 60)
        page.wait_for_timeout(1_000 * PLAY_SECONDS)
        page.screenshot(path=path)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Draw both."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.room_page", description=str(__doc__))
    made.add_argument("--out", type=Path, default=DOCS, metavar="FOLDER", help="where to (default: docs)")
    for path in draw(made.parse_args(arguments).out):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
