"""Many browsers in the listening room at once: what each hears, with recorded frames or with the model.

Each is a page of its own in one Chromium without a window, beside the service on the same machine. What reaches the
loudspeaker is recorded and looked through for silence; one after the other asks for another mood. With ``--live`` the
model plays, and browsers come in until one is refused.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page

from benchmarks.report import finish, note, parser
from generator.moods import MOODS
from generator.protocol import FRAME_SECONDS, SAMPLE_RATE
from tests.room.chromium import chromium, until, visitor

WATCH: Final = Path(__file__).with_name("watched_page.js")
FULL: Final = "one more would make all of them stutter"
CHANGE_SECONDS: Final = 10.0  #: between two changes of one listener
SETTLE_SECONDS: Final = 4.0


@contextlib.contextmanager
def serving(live: bool) -> Iterator[str]:
    """The service; its address."""
    real = ["generator", "serve", "--port", "0", "--exit-with-stdin"]
    command = [sys.executable, "-m", *(real if live else ["benchmarks.recorded_engine"])]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield f"http://{process.stdout.readline().split()[-1]}/"  # type: ignore[union-attr]
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait()


def come(page: Page, address: str, number: int) -> str:
    """Open the page and press a mood: the sentence by which it is refused, or nothing."""
    page.goto(address)
    page.keyboard.press(str(1 + number % len(MOODS)))
    until(page, "watched.frames > 0 || document.querySelector('.trouble') !== null", 60)
    return "" if page.evaluate("watched.frames > 0") else page.inner_text("#status")


def listen(pages: list[Page], seconds: float, seed: int) -> None:
    """So long, while one after the other asks for another mood."""
    rng = random.Random(seed)  # noqa: S311 - which mood
    end, turn = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        pages[turn % len(pages)].keyboard.press(str(rng.randint(1, len(MOODS))))
        pages[turn % len(pages)].wait_for_timeout(1_000 * CHANGE_SECONDS / len(pages))
        turn += 1


def measure(browser: Browser, address: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let browsers in, listen, and look at what was heard."""
    with contextlib.ExitStack() as stack:
        pages: list[Page] = []
        refusal = ""
        while refusal == "" and len(pages) < options.browsers:
            page = stack.enter_context(visitor(browser, ear=not options.live))
            page.add_init_script(path=WATCH)
            refusal = come(page, address, len(pages))
            if refusal == "":
                pages.append(page)
            page.wait_for_timeout(1_000 * SETTLE_SECONDS if options.live else 0)
            note(f"{len(pages)} listen {refusal}")
        before = [page.evaluate("({...watched})") for page in pages]
        listen(pages, options.seconds, options.seed)
        after = [page.evaluate("({...watched})") for page in pages]
        spans = list(zip(before, after, strict=True))
        return {
            "browsers": len(pages),
            "refusal": refusal,
            "held_seconds": [(late["held"] - early["held"]) * FRAME_SECONDS for early, late in spans],
            "heard_seconds": [(late["frames"] - early["frames"]) * FRAME_SECONDS for early, late in spans],
            "behind_seconds": [late["behind"] for late in after],
            "longest_gap_seconds": [] if options.live else [page.evaluate("ear.gap") / SAMPLE_RATE for page in pages],
        }


def main(arguments: list[str] | None = None) -> int:
    """Measure and show."""
    made = parser(str(__doc__).splitlines()[0], model=False)
    made.add_argument("--browsers", type=int, default=10, help="at most so many (default: 10)")
    made.add_argument("--seconds", type=float, default=30.0, help="how long they listen (default: 30)")
    made.add_argument("--live", action="store_true", help="the model plays, until one is refused")
    options = made.parse_args(arguments)
    with serving(options.live) as address, chromium() as browser:
        found = measure(browser, address, options)
    gaps = found["longest_gap_seconds"]
    rows = [
        ("browsers let in", str(found["browsers"])),
        ("the next was told", found["refusal"] or "nothing: it was not there"),
        ("each listened for", f"{min(found['heard_seconds']):.1f} s or more"),
        ("extended for want of music", f"{max(found['held_seconds']):.2f} s at most in one browser"),
        ("the audio thread was behind", f"{1_000 * max(found['behind_seconds']):.0f} ms at most"),
        ("longest silence", f"{1_000 * max(gaps):.1f} ms" if gaps else "not looked for: music has rests"),
    ]
    finish("Listening room", options, rows, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
