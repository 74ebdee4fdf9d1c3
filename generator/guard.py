"""Who may come in: the shared token, the page that asks, and the name that the service is called by. Torch-free."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse, Response

from generator.metrics import Metrics
from generator.protocol import AUTHORIZATION_HEADER, TOKEN_SUBPROTOCOL
from generator.settings import Settings, is_loopback

SUBPROTOCOLS_HEADER: Final = "sec-websocket-protocol"


class Guard:
    """Turns strangers away before they have cost anything."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """At the door.

        Args:
            settings: the token, and the pages that are let in beside the service's own.
            metrics: counts who is turned away.
        """
        self._settings, self._metrics = settings, metrics

    def refusal(self, headers: Mapping[str, str]) -> Response | None:
        """The answer that turns a stranger away, or ``None`` for a welcome client."""
        host = headers.get("host", "")
        origin = headers.get("origin")  # which only browsers send
        if origin is not None and origin not in self._settings.origins and origin.partition("://")[2] != host:
            return self._refuse(
                "origin", 403, "only the service's own page may use it: name others when it is started, with --origin"
            )
        token = self._settings.token
        if token is None:
            # A page elsewhere can have its own name lead to this machine (DNS rebinding), and then seems to be ours.
            if is_loopback(_name(host)):
                return None
            return self._refuse("origin", 403, "without a token this service answers to localhost and 127.0.0.1 only")
        if hmac.compare_digest(_shown(headers), token.encode()):
            return None
        refusal = self._refuse("token", 401, "this service needs the shared token: Authorization: Bearer <token>")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    def _refuse(self, reason: str, status: int, sentence: str) -> Response:
        self._metrics.refused.labels(reason).inc()
        return PlainTextResponse(f"{sentence}\n", status_code=status)


def _name(host: str) -> str:
    """A Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _shown(headers: Mapping[str, str]) -> bytes:
    """The token that a client shows: in its own header, or among the subprotocols."""
    kind, _, shown = headers.get(AUTHORIZATION_HEADER, "").partition(" ")
    if kind == "Bearer":
        return shown.encode()
    for offered in headers.get(SUBPROTOCOLS_HEADER, "").split(","):
        if (name := offered.strip()).startswith(TOKEN_SUBPROTOCOL):
            text = name.removeprefix(TOKEN_SUBPROTOCOL)
            try:
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            except (binascii.Error, ValueError):
                return b""
    return b""
