"""The service as a process, with the fake engine: one sine a mood, at once."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


class Service:
    """One that can be killed, and started again at the same address."""

    def __init__(self, *options: str, token: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}/"
        self.log = ""
        self._options = options
        self._env = {**os.environ, "BARDCAST_TOKEN": token, "OMP_NUM_THREADS": "1"}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns once it listens."""
        command = [sys.executable, "-m", "tests.generator.run_with_fake_engine", "serve", "--port", str(self._port)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*command, *self._options], cwd=ROOT, env=self._env, stdout=pipe, stderr=pipe, text=True
        )
        assert self._process.stdout is not None
        assert "listening" in self._process.stdout.readline()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """It ends without a word, unless a gentler signal is given."""
        assert self._process is not None
        self._process.send_signal(number)
        self.log += self._process.communicate()[1]
