"""Running the service: the socket, the line that says it is ready, signals, and the parent that may vanish."""

import asyncio
import errno
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
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
HANGUP: Final[signal.Signals | None] = getattr(signal, "SIGHUP", None)  #: which Windows lacks
BACKLOG: Final = 2048  #: connections that may wait to be accepted: uvicorn's own default


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
        raise _refused(host, port, error) from None
    return bound


def _refused(host: str, port: int, error: OSError) -> ListenError:
    remedies = {
        errno.EADDRNOTAVAIL: "choose an address of this machine with --host",
        errno.EACCES: "choose a port from 1024 on with --port, or allow this program the lower ones",
    }
    number = error.errno or 0
    remedy = remedies.get(number, "stop what uses it, or choose another with --port")
    return ListenError(f"can't listen on {host}:{port} ({os.strerror(number)}): {remedy}")


def need_certificate(path: Path) -> None:
    """Make sure, before anything slow is done, that HTTPS can be spoken with a certificate.

    Raises:
        SettingsError: the file is missing, or holds no certificate with its key, or a key that wants a pass phrase.
    """
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path, password="")
    except OSError as error:  # of which ssl's are
        raise SettingsError(
            f"can't use the certificate {path}: {error.strerror or error}; give a PEM file with its key, unencrypted"
        ) from None


class Server(uvicorn.Server):
    """A uvicorn server that tells when it is ready, and that need be told but once to end."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then say so."""
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; told again, end no faster, since that takes a moment at most, and raise the signal no more after it."""
        self.should_exit = True


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

    Raises:
        ListenError: somebody else listens there by now.
    """
    host, port = bound.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    terminal = os.isatty(STDIN)

    def announce() -> None:
        loop = asyncio.get_running_loop()

        def hang_up(*_: object) -> None:
            if terminal and not os.isatty(STDIN):
                server.should_exit = True
            elif not loop.is_closed():
                loop.call_soon_threadsafe(on_hangup)

        # Not the loop's own handler, which is gone as soon as the loop is, and the process would die by the next.
        if HANGUP is not None:
            signal.signal(HANGUP, hang_up)
        put(f"listening on {address}\n")

    server = make_server(app, announce, certificate)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    if exit_with_stdin:
        threading.Thread(target=_watch_stdin, args=(server,), name="stdin", daemon=True).start()
    try:
        # Here and not by the server: two may have bound one port while neither listened, and uvloop tells nobody.
        bound.listen(BACKLOG)
    except OSError as error:
        raise _refused(host, port, error) from None
    server.run(sockets=[bound])
    for number in filter(None, (signal.SIGTERM, signal.SIGINT, HANGUP)):
        signal.signal(number, signal.SIG_IGN)  # it is ending, and whoever asks for it again comes too late


@contextmanager
def minding_signals() -> Iterator[None]:
    """While nothing is served yet: SIGTERM ends the process as it does later, and SIGHUP is no reason to end.

    Unless the terminal was closed. There is nothing to reload, since the model is only just being read.
    """
    terminal = os.isatty(STDIN)

    def leave(*_: object) -> None:
        logging.shutdown()
        os._exit(0)  # torch's threads would not let the interpreter end in the middle of a window

    def hang_up(*_: object) -> None:
        if terminal and not os.isatty(STDIN):
            leave()

    minded = {signal.SIGTERM: leave} | ({} if HANGUP is None else {HANGUP: hang_up})
    before = {number: signal.signal(number, handler) for number, handler in minded.items()}
    try:
        yield
    finally:
        for number, handler in minded.items():
            if signal.getsignal(number) is handler:  # nobody minds it in another way by now
                signal.signal(number, before[number])


def _watch_stdin(server: uvicorn.Server) -> None:
    # os.read and not sys.stdin: a buffered reader's lock, held here for ever, would trip the interpreter's exit.
    try:
        while os.read(STDIN, 4096):
            pass
    except OSError:
        pass  # no stdin at all is a closed one
    server.should_exit = True
