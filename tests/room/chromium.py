"""A real browser, and an ear at its loudspeaker."""

import base64
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, sync_playwright

from generator.moods import MOODS
from generator.protocol import SAMPLE_RATE

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
MISSING: Final = "the listening room is tested in a real browser: install Chromium (Debian: apt-get install chromium)"
HERE: Final = Path(__file__).parent
SILENT: Final = 0.003  #: of full scale
PHONE: Final = {"width": 390, "height": 844}


def executable() -> str | None:
    """Where Chromium is, if it is anywhere."""
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window; the test is skipped where there is none."""
    path = executable()
    if path is None:
        pytest.skip(MISSING)
    # Without a GPU its emulation would take more of the processor than all else together.
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.getuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@contextmanager
def visitor(browser: Browser, *, ear: bool = False, **options: Any) -> Iterator[Page]:
    """A page of its own, in which nothing may go wrong.

    Args:
        browser: in which it is opened.
        ear: whether what reaches the loudspeaker is recorded. The recorder is a worklet of the test's own, which the
            page's policy would rightly refuse, so the policy is off with it.
        options: of the browser's context.
    """
    context = browser.new_context(bypass_csp=ear, **options)
    if ear:
        worklet, tap = ((HERE / name).read_text(encoding="utf-8") for name in ("ear_worklet.js", "ear.js"))
        context.add_init_script(f"{{ const worklet = {json.dumps(worklet)};\n{tap} }}")
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    yield page
    context.close()
    assert wrong == []


def begin(page: Page, address: str, key: str = "7") -> None:
    """Open the page and press a mood; returns once it is heard."""
    page.goto(address)
    page.keyboard.press(key)
    until(page, "document.querySelector('#now').textContent !== 'Silence'")


def until(page: Page, expression: str, seconds: float = 30) -> None:
    """Wait until an expression is true in the page; its policy forbids playwright's own way, which evaluates text."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"{expression} is not so; status: {page.inner_text('#status')}"
        page.wait_for_timeout(30)


def until_text(page: Page, selector: str, text: str, seconds: float = 30) -> None:
    """Wait until something reads so."""
    until(page, f"document.querySelector({selector!r}).textContent.includes({text!r})", seconds)


def now(page: Page) -> float:
    """Seconds that reached the loudspeaker so far."""
    return float(page.evaluate("window.ear.samples")) / SAMPLE_RATE


def heard(page: Page) -> NDArray[np.float32]:
    """All that reached the loudspeaker, (samples,), mono, full scale ±1."""
    return np.frombuffer(base64.b64decode(page.evaluate("window.ear.tape()")), "<f4")


def from_first_sound(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without the silence before it."""
    return sound[int(np.argmax(np.abs(sound) > SILENT)) :]


def longest_gap(sound: NDArray[np.float32]) -> float:
    """Seconds of the longest silence after the first sound."""
    loud = np.flatnonzero(np.abs(from_first_sound(sound)) > SILENT)
    return float(np.diff(loud, append=len(from_first_sound(sound))).max()) / SAMPLE_RATE


def mood_at(sound: NDArray[np.float32], second: float) -> str:
    """Which mood the fake generator's tone is, in the 0.1 s from a second on."""
    piece = sound[int(second * SAMPLE_RATE) :][: SAMPLE_RATE // 10]
    hertz = 10 * int(np.argmax(np.abs(np.fft.rfft(piece * np.hanning(len(piece))))))
    return str(MOODS[round(hertz / 50) - 1])


def turned_at(sound: NDArray[np.float32], mood: str, after: float) -> float:
    """The second, from ``after`` on, at which a mood is first heard."""
    places = np.arange(after, len(sound) / SAMPLE_RATE - 0.1, 0.02)
    return next(float(place) for place in places if mood_at(sound, place) == mood)
