"""What all tests share."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.discord_server import DiscordServer

# A machine that has other things to do is slow, and nothing is wrong with the test.
settings.register_profile("bardcast", deadline=None)
settings.load_profile("bardcast")


def pytest_configure(config: pytest.Config) -> None:
    # discord.py 2.7 imports audioop, which Python 3.11 and 3.12 announce to remove. Nothing of ours uses it.
    config.addinivalue_line("filterwarnings", "ignore:'audioop' is deprecated:DeprecationWarning")


#: A minute of a core and more, each: begun last, one of them would keep the others waiting.
LONGEST = ("test_card.py", "test_stream.py", "test_train_cli.py", "test_sound.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
async def discord_server() -> AsyncIterator["DiscordServer"]:
    """A loopback Discord with one guild; import is put off so that other tests don't pay for discord.py."""
    from tests.discord_server import DiscordServer

    async with DiscordServer() as server:
        yield server
