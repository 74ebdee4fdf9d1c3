"""One browser and one service for all tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

import generator.room
from tests.room.chromium import chromium, visitor
from tests.room.service import Service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def modules(browser: Browser) -> Iterator[Page]:
    """The page's modules, without a service."""
    folder = Path(generator.room.__file__).parent / "page"

    def serve(route: Route) -> None:
        path = folder / route.request.url.rpartition("/")[2]
        if path.is_file():
            route.fulfill(path=path, content_type="text/javascript")
        else:
            route.fulfill(body="<p id='status'></p>", content_type="text/html")

    with visitor(browser) as page:
        page.route("http://room.test/**", serve)
        page.goto("http://room.test/")
        yield page


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Two models beside each other, nobody asked for a token."""
    started = Service("--model", "one", "--beside", "other")
    started.start()
    yield started
    started.kill()
