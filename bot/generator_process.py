"""The generator as the bot's child: low in priority, restarted when it dies, gone when the bot is gone."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import random
import re
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from bot.backoff import Backoff
from bot.errors import GeneratorError

log = logging.getLogger(__name__)
child_log = logging.getLogger("generator")

READY_SECONDS: Final = 120.0  #: a cold disk may take long over torch
STOP_SECONDS: Final = 3.0  #: from SIGTERM to SIGKILL
STEADY_SECONDS: Final = 60.0  #: a child that lived so long did not fail at start
NICENESS: Final = 10  #: voice goes before inference: a late packet is heard, a late window is not

#: Exit status of a command that was asked for something impossible: trying again at once would not help.
_USAGE: Final = 2
_READY: Final = re.compile(rb"listening on ([\w.:\[\]-]+:\d+)")
_NEEDED: Final = ("torch", "fastapi", "uvicorn", "safetensors")


def missing_packages() -> list[str]:
    """What the generator needs and this Python does not have. Looks without importing: torch is a heavy guest."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def serve_command(model: str | None, port: int = 0) -> list[str]:
    """The command line of the child, on any free port unless one is given.

    Raises:
        GeneratorError: the packages that it needs are not installed.
    """
    if missing := missing_packages():
        raise GeneratorError(
            f"the music generator can't run here, because {', '.join(missing)} is not installed: install "
            "bardcast[generator], or set BARDCAST_GENERATOR_URL to a generator that runs elsewhere"
        )
    command = [
        sys.executable,
        "-P",  # a generator.py in the folder that one happens to be in is not this generator
        "-m",
        "generator",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--exit-with-stdin",
    ]
    return command if model is None else [*command, "--model", model]


class GeneratorProcess:
    """An :class:`bot.client.Endpoint` that keeps a child process running."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        rng: random.Random | None = None,
        ready_seconds: float = READY_SECONDS,
        secret: bool = True,
    ) -> None:
        """A process that is not started yet.

        Args:
            command: which prints ``listening on HOST:PORT`` once it is ready, and ends when its stdin does.
            env: environment of the child; the token is added.
            rng: for the jitter of the back-off.
            ready_seconds: how long a start may take.
            secret: whether only this process may use the child, or anybody on this machine.
        """
        self.starts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._command = list(command)
        self._token = secrets.token_urlsafe(32) if secret else None
        self._env = {**(os.environ if env is None else env), "BARDCAST_TOKEN": self._token or ""}
        self._backoff = Backoff(rng or random.Random(), first=0.5, most=30.0)  # noqa: S311 - jitter
        self._ready_seconds = ready_seconds
        self._address: asyncio.Future[str] | None = None
        self._failure: str | None = None
        self._last_words = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def token(self) -> str | None:
        """The secret that only this process and its child know, if there is one."""
        return self._token

    async def urls(self) -> Sequence[str]:
        """:meth:`url`, for want of another."""
        return (await self.url(),)

    async def url(self) -> str:
        """Where the child listens, once it does.

        Raises:
            GeneratorError: it failed to start, or takes too long.
        """
        if self._failure is not None:
            raise GeneratorError(self._failure)
        if self._address is None:
            raise GeneratorError("the music generator is not running")
        try:
            async with asyncio.timeout(self._ready_seconds):
                return await asyncio.shield(self._address)
        except TimeoutError:
            raise GeneratorError("the music generator takes too long to start") from None

    async def start(self) -> None:
        """Starts the child and begins to watch over it; returns at once."""
        self._address = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._watch(), name="generator-process")

    async def stop(self) -> None:
        """Ends the child: by request, then by force."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._address is not None and not self._address.done():
            self._address.cancel()
        self._address = None

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                status = await self._run_once()
            except OSError as error:
                status, self._last_words = -1, str(error)
            if loop.time() - begun >= STEADY_SECONDS:
                self._backoff.reset()
            was_ready = self._address is not None and self._address.done()
            sentence = f"the music generator ended (status {status})"
            if self._last_words:
                sentence += f": {self._last_words}"
            log.warning("%s; it will be started again", sentence)
            self._fail(sentence if not was_ready else None)
            await asyncio.sleep(self._backoff.next(5.0 if status == _USAGE else 0.0))
            self._failure = None

    def _fail(self, sentence: str | None) -> None:
        """The old address is void. With a sentence, whoever waits is told instead of being kept waiting."""
        old, self._address = self._address, asyncio.get_running_loop().create_future()
        self._failure = sentence
        if old is not None and not old.done():
            old.set_exception(GeneratorError(sentence or "the music generator ended"))
            old.exception()  # seen: nobody may be waiting

    async def _run_once(self) -> int:
        self._last_words = ""
        process = self.process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # never written to: its end is how an orphan learns that it is one
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._env,
            start_new_session=True,  # a Ctrl-C at the terminal is the bot's to act on
        )
        self.starts += 1
        # Before it has any threads: on Linux each inherits from the one that made it, and none is changed later.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS))
        readers = [
            asyncio.create_task(self._read_stdout(process.stdout)),
            asyncio.create_task(self._read_stderr(process.stderr)),
        ]
        late = asyncio.get_running_loop().call_later(self._ready_seconds, self._kill_unless_ready, process)
        try:
            status = await process.wait()
            await asyncio.wait(readers, timeout=1.0)
            return status
        finally:
            late.cancel()
            await _end(process)
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    def _kill_unless_ready(self, process: asyncio.subprocess.Process) -> None:
        if self._address is not None and not self._address.done():
            self._last_words = f"it was not ready after {self._ready_seconds:g} seconds"
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _read_stdout(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (line := await _line(stream)):
            if (match := _READY.search(line)) and self._address is not None and not self._address.done():
                self._address.set_result(f"http://{match.group(1).decode()}")

    async def _read_stderr(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (line := await _line(stream)):
            if text := line.decode(errors="replace").rstrip():
                self._last_words = text.removeprefix("bardcast-generator: ")
                child_log.info("%s", text)


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line, or what there is of one that is absurdly long."""
    try:
        return await stream.readline()
    except ValueError:
        return b"(a line too long to show)\n"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
