"""An HTTP port on loopback for whoever watches over the bot: ``/healthz`` and ``/metrics``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import discord
from aiohttp import web

from bot.bard import Bard
from bot.errors import SettingsError
from bot.metrics import CONTENT_TYPE, page

HOST: Final = "127.0.0.1"
_CLOSE_SECONDS: Final = 0.5


def at_gateway(bard: Bard) -> bool:
    """Whether Discord has let the bot in, and every line to it stands."""
    if not bard.is_ready() or bard.is_closed():
        return False
    if isinstance(bard, discord.AutoShardedClient):
        return not any(shard.is_closed() for shard in bard.shards.values())
    return bard.ws.open


@asynccontextmanager
async def watched(bard: Bard, port: int | None) -> AsyncIterator[int | None]:
    """Inside, the port is open; its number. None: there is none, and nothing listens.

    Raises:
        SettingsError: the port is taken.
    """
    if port is None:
        yield None
        return

    async def healthz(_: web.Request) -> web.Response:
        """Not healthy is a bot that Discord can't reach; a generator that is away is not the bot's illness."""
        ready = at_gateway(bard)
        body = {"status": "ok" if ready else "not connected to Discord", "tables": len(bard.tables())}
        return web.json_response(body, status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        statuses = {guild: table.status() for guild, table in bard.tables().items()}
        text = page(statuses, len(bard.guilds), at_gateway(bard))
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError as error:
            raise SettingsError(
                f"Port {port} of {HOST} can't be had for metrics ({error.strerror}): set BARDCAST_METRICS_PORT to "
                "another one, or leave it out."
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
