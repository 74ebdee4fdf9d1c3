"""Lines for whoever looks at a terminal. That nobody does is no reason to stop. Torch-free."""

import contextlib
import os
import sys
from typing import Literal


def fill_closed() -> None:
    """Let stdin, stdout and stderr lead nowhere where they are closed: a socket would take their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free


def put(text: str, stream: Literal["stdout", "stderr"] = "stdout") -> None:
    """Write it at once; if the stream is closed, a broken pipe or on a full disk, it and all that follows is lost."""
    out = getattr(sys, stream)
    if out is None:  # it was closed before Python began
        return
    try:
        out.write(text)
        out.flush()
    except (OSError, ValueError):
        # What is left in its buffer would fail once more when Python ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, out.fileno())
            os.close(nowhere)
