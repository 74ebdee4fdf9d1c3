"""The only place that bends discord.py: three class attributes, none of them private.

discord.py 2.7 has no option for the address of REST and of the gateway (``Route.BASE`` and
``DiscordWebSocket.DEFAULT_GATEWAY`` are class attributes), and it always uses TLS with public authorities for voice
(``wss://`` is written into ``DiscordVoiceWebSocket.from_connection_state``). ``HTTPClient.connector`` takes a
connector, which ``static_login`` makes when the bot gave none: we make it first, with one that trusts the loopback
certificate. The bot is not changed.
"""

import contextlib
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import aiohttp
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import HTTPClient, Route
from discord.utils import MISSING

_API: Final = "LOOPBACK_DISCORD_API"
_GATEWAY: Final = "LOOPBACK_DISCORD_GATEWAY"
_AUTHORITY: Final = "LOOPBACK_DISCORD_AUTHORITY"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a loopback Discord is.

    Attributes:
        api: URL of REST, with the version.
        gateway: URL of the gateway.
        authority: PEM file of the certificate authority of its voice server.
    """

    api: str
    gateway: str
    authority: Path

    def environment(self) -> dict[str, str]:
        """Variables by which a child process finds it; the inverse of :meth:`from_environment`."""
        return {_API: self.api, _GATEWAY: self.gateway, _AUTHORITY: str(self.authority)}

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Address":
        return cls(env[_API], env[_GATEWAY], Path(env[_AUTHORITY]))


@contextlib.contextmanager
def patched(address: Address) -> Iterator[None]:
    """Inside, discord.py takes ``address`` for Discord."""
    tls = ssl.create_default_context(cafile=address.authority)
    log_in = HTTPClient.static_login

    async def static_login(self: HTTPClient, token: str) -> Any:
        if self.connector is MISSING:
            self.connector = aiohttp.TCPConnector(limit=0, ssl=tls)
        return await log_in(self, token)

    with (
        mock.patch.object(Route, "BASE", address.api),
        mock.patch.object(DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(address.gateway)),
        mock.patch.object(HTTPClient, "static_login", static_login),
    ):
        yield
