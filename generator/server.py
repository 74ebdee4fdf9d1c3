"""Running the service: the socket, the line that says it is ready, signals, and the parent that may vanish."""

import asyncio
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from generator.console import put
from generator.errors import GeneratorError
from generator.protocol import MAX_MESSAGE_BYTES, MAX_OPEN_BYTES
from generator.settings import SettingsError

#: How long open connections get to say goodbye; with the worker's share, well within two seconds.
GRACE_SECONDS: Final = 1
PING_SECONDS: Final = 5.0
STDIN: Final = 0


class ListenError(GeneratorError):
    """The address can't be listened on."""


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to ``host`` and ``port``, before anything slow is done.

    Raises:
        ListenError: the port is taken, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(f"can't listen on {host}: {error.strerror}") from None
    except UnicodeError:
        raise ListenError(f"can't listen on {host}: that is no name of a machine") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        foreign = error.errno == errno.EADDRNOTAVAIL
        remedy = (
            "choose an address of this machine with --host"
            if foreign
            else "stop what uses it, or choose another with --port"
        )
        raise ListenError(f"can't listen on {host}:{port} ({os.strerror(error.errno or 0)}): {remedy}") from None
    return bound


class Server(uvicorn.Server):
    """A uvicorn server that tells when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then say so."""
        await super().startup(sockets)
        self._on_ready()


def make_server(app: ASGIApp, on_ready: Callable[[], None], certificate: Path | None = None) -> Server:
    """A server for the service, with the bounds that the service relies on; HTTPS if there is a certificate."""
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            # A little more than the protocol allows: a message a little too long gets an answer, a huge one the door.
            ws_max_size=MAX_OPEN_BYTES + 4 * MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # sound doesn't deflate; it would only cost time
            # Who has vanished must not keep their own place among the streams from themselves for long.
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=2 * PING_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_certfile=certificate,
        ),
        on_ready,
    )


def serve(
    app: ASGIApp,
    bound: socket.socket,
    *,
    on_hangup: Callable[[], None],
    exit_with_stdin: bool,
    certificate: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT (or, if asked, until stdin closes), then let the clients go and return.

    Prints one line, ``listening on HOST:PORT``, once the first client may come. From then on SIGHUP, where there is
    such a signal, calls ``on_hangup`` on the event loop; but if the terminal was closed, that ends the service.
    """
    host, port = bound.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    terminal = os.isatty(STDIN)

    def hang_up() -> None:
        if terminal and not os.isatty(STDIN):
            server.should_exit = True
        else:
            on_hangup()

    def announce() -> None:
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
        put(f"listening on {address}\n")

    try:
        server = make_server(app, announce, certificate)
        server.config.load()
    except OSError as error:  # of which ssl's are
        reason = error.strerror or error
        raise SettingsError(
            f"can't use the certificate {certificate}: {reason}; give a PEM file with its key"
        ) from None
    if exit_with_stdin:
        threading.Thread(target=_watch_stdin, args=(server,), name="stdin", daemon=True).start()
    # uvicorn raises the signal again once it is done; by then there is nothing left for it to end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        server.run(sockets=[bound])
    except OSError as error:
        raise ListenError(f"can't listen on {address}: {error.strerror}") from None


def _watch_stdin(server: uvicorn.Server) -> None:
    # os.read and not sys.stdin: a buffered reader's lock, held here for ever, would trip the interpreter's exit.
    try:
        while os.read(STDIN, 4096):
            pass
    except OSError:
        pass  # no stdin at all is a closed one
    server.should_exit = True
