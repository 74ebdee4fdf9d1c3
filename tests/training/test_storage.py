from pathlib import Path

import numpy as np
import pytest

from training.errors import StorageError
from training.storage import save_array, writing_to


@pytest.mark.parametrize("array", [np.arange(12.0).reshape(3, 4).T, np.zeros((0, 3), np.float16)])
def test_an_array_comes_back(tmp_path: Path, array: "np.ndarray[tuple[int, ...], np.dtype[np.floating]]") -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        save_array(file, array)
    again = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="is full; make room"),
        writing_to(tmp_path, "--out"),
        Path("/dev/full").open("wb") as file,
    ):
        save_array(file, np.zeros(100_000))
