"""What goes to a terminal is for whoever looks; nobody has to."""

import subprocess
import sys

import pytest

TALKS = """
import sys
from generator.console import put
for _ in range(3):
    put("la" * 100_000 + "\\n", {stream!r})
sys.exit(7)
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("sink", ["/dev/full", "a pipe that nobody reads", "nothing"])
def test_nobody_who_looks_is_no_reason_to_stop(stream: str, sink: str) -> None:
    redirect = "1" if stream == "stdout" else "2"
    rest = {"/dev/full": f"{redirect}>/dev/full", "nothing": f"{redirect}>&-"}.get(sink, f"{redirect}>&9 9>&-")
    script = f'"$0" -c "$1" {rest}'
    if sink == "a pipe that nobody reads":
        script = f"exec 9> >(exec true); sleep 0.3; {script}"
    ended = subprocess.run(
        ["/bin/bash", "-c", script, sys.executable, TALKS.format(stream=stream)], capture_output=True, check=False
    )
    assert ended.returncode == 7
    assert ended.stdout == b""
    assert ended.stderr == b""


def test_no_socket_takes_the_place_of_what_is_closed() -> None:
    """A library may take it for a standard stream then."""
    script = "import socket, sys; from generator.console import fill_closed; fill_closed()"
    script += "; sys.exit(socket.socket().fileno())"
    command = ["/bin/sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, script]
    assert subprocess.run(command, check=False).returncode > 2


def test_it_is_there_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    from generator.console import put

    put("la\n")
    put("li\n", "stderr")
    assert capsys.readouterr() == ("la\n", "li\n")
