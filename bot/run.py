"""``bardcast run``: the bot, from its first log line to its last."""

import asyncio
import contextlib
import importlib.util
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discord

from bot.bard import Bard, ShardedBard
from bot.client import Endpoint, FixedEndpoint
from bot.commands import add_commands
from bot.errors import BotError
from bot.generator_process import GeneratorProcess, serve_command
from bot.redaction import Redactor
from bot.settings import Settings
from bot.store import Store
from bot.unreachable import UNREACHABLE
from bot.watch import watched

log = logging.getLogger(__name__)


@asynccontextmanager
async def generator(settings: Settings) -> AsyncIterator[Endpoint]:
    """The generator that the settings name: elsewhere, or a child of this process that ends with the context.

    Raises:
        GeneratorError: a child can't be started here; the message says what to install.
    """
    if settings.generator_urls:
        yield FixedEndpoint(settings.generator_urls, settings.generator_token)
        return
    process = GeneratorProcess(serve_command(settings.model))
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


async def run(settings: Settings, redact: Redactor) -> int:
    """Serves Discord until a signal comes; the exit status.

    Args:
        settings: the admin's.
        redact: told of secrets that are made on the way.

    Raises:
        BotError: it can't begin; the message says why.
    """
    token = settings.require_discord_token()
    _require_voice_packages()
    # The store outlives the bard, which leaves its tables, and the generator, which may take seconds to end.
    async with (
        Store(settings.store.expanduser()) as store,
        generator(settings) as endpoint,
        _bard(endpoint, settings, store) as bard,
        watched(bard, settings.metrics_port),
    ):
        redact.hide(endpoint.token)
        add_commands(bard)
        # discord.py's own run() would die of SIGTERM at once, and leave the bot standing in its channels.
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        serving = asyncio.create_task(_serve(bard, token), name="discord")
        stopping = asyncio.create_task(stopped.wait(), name="signals")
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving  # raises what ended it
            log.info("leaving")
            # Tables first and while the gateway stands: leaving a channel is a message to it.
            await bard.close()
        finally:
            for task in (serving, stopping):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(serving, stopping, return_exceptions=True)
    return 0


def _bard(endpoint: Endpoint, settings: Settings, store: Store) -> Bard:
    if settings.shards == 1:
        return Bard(endpoint, settings, store)
    return ShardedBard(endpoint, settings, store, shard_count=settings.shards)


async def _serve(bard: Bard, token: str) -> None:
    try:
        await bard.start(token)
    except discord.LoginFailure:
        raise BotError(
            "Discord refuses the token in DISCORD_TOKEN. Copy it again, whole, from your application's Bot page at "
            "https://discord.com/developers/applications (Reset Token makes a new one)."
        ) from None
    except discord.PrivilegedIntentsRequired as error:
        raise BotError(f"Discord refuses the bot's intents: {error}") from None
    except UNREACHABLE as error:
        raise BotError(f"Discord can't be reached: {error}") from None


def _require_voice_packages() -> None:
    missing = [
        name for module, name in (("davey", "davey"), ("nacl", "PyNaCl")) if not importlib.util.find_spec(module)
    ]
    if missing:
        raise BotError(
            f"Discord's voice is encrypted, and {' and '.join(missing)}, which does that, is not installed: "
            f"run pip install {' '.join(missing)}"
        )
