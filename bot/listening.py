"""``bardcast demo`` at a terminal: the generator's listening room, in a browser."""

import asyncio
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable, Mapping
from typing import Final

from bot.generator_process import GeneratorProcess, serve_command
from bot.settings import Settings

#: Where one of these is set a browser has a window; without one, webbrowser might start one inside the terminal.
_DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY")


def somebody_watches(env: Mapping[str, str | None]) -> bool:
    """Whether a person sits at this terminal, rather than a machine that only wants to see it end."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not env.get("CI")


def has_window(env: Mapping[str, str | None]) -> bool:
    """Whether a browser can be shown here."""
    return sys.platform == "darwin" or any(env.get(name) for name in _DISPLAYS)


async def listen(
    settings: Settings, env: Mapping[str, str | None], show: Callable[[str], object] = webbrowser.open
) -> int:
    """Starts a generator and opens its page, until it is interrupted; the exit status.

    Args:
        settings: the model to play; or generators elsewhere, of which the first one's page is opened.
        env: tells whether a browser has a window here.
        show: opens an address in one.

    Raises:
        GeneratorError: the generator can't be started; the message says why.
    """
    if settings.generator_urls:
        await _open(settings.generator_urls[0], env, show)
        return 0
    # On loopback and without a secret: the page's address is all that a person needs. The port is one that stays, so
    # that the page finds the generator again should it have to be restarted.
    process = GeneratorProcess(serve_command(settings.model, _free_port()), secret=False)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    sys.stdout.write("starting the music generator ...\n")
    await process.start()
    address, end = asyncio.create_task(process.url()), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({address, end}, return_when=asyncio.FIRST_COMPLETED)
        if not end.done():
            await _open(await address, env, show)
            sys.stdout.write("Ctrl-C ends it.\n")
            sys.stdout.flush()
            await end
    finally:
        address.cancel()
        end.cancel()
        await asyncio.gather(address, end, return_exceptions=True)
        await process.stop()
    return 0


async def _open(address: str, env: Mapping[str, str | None], show: Callable[[str], object]) -> None:
    sys.stdout.write(f"the listening room: {address}/\n")
    sys.stdout.flush()
    if has_window(env):
        await asyncio.to_thread(show, f"{address}/")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
