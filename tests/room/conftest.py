"""One browser and one service for all tests of a file."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.room.chromium import chromium
from tests.room.service import Service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Two models beside each other, nobody asked for a token."""
    started = Service("--model", "one", "--beside", "other")
    started.start()
    yield started
    started.kill()
