"""Writing to disk: whole or not at all, and what can go wrong said in a sentence."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import StorageError


def write_atomically(path: Path, text: str) -> None:
    """Replace the file in one step, so that a reader or a crash sees the old text or the new."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """``numpy.save``, whole or not at all; and a full disk is told as one.

    Named by process, so that two runs that fill one cache don't write into one file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    array = np.ascontiguousarray(array)
    try:
        with partial.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            file.write(array.data)
        partial.replace(path)
    finally:
        with suppress(OSError):  # what goes wrong there went wrong before
            partial.unlink(missing_ok=True)


@contextmanager
def writing_to(folder: Path, option: str) -> Iterator[None]:
    """Turn an ``OSError`` inside into a :class:`StorageError`.

    Args:
        folder: what is written to.
        option: of the command line that names another.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"the disk that holds {folder} is full; make room and run the same command again, what is done is kept"
            ) from error
        raise StorageError(
            f"can't write to {error.filename or folder} ({error.strerror or error}); "
            f"choose another folder with {option}"
        ) from error
