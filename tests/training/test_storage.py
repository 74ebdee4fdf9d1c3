from pathlib import Path

import numpy as np
import pytest

from training.errors import StorageError
from training.storage import save_array, writing_to


@pytest.mark.parametrize("array", [np.arange(12.0).reshape(3, 4).T, np.zeros((0, 3), np.float16)])
def test_an_array_comes_back(tmp_path: Path, array: "np.ndarray[tuple[int, ...], np.dtype[np.floating]]") -> None:
    save_array(tmp_path / "a.npy", array)
    again = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_array(tmp_path / "a.npy", np.ones(3))
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda _, mode: real(Path("/dev/full"), mode))
    with pytest.raises(StorageError, match="is full; make room"), writing_to(tmp_path, "--out"):
        save_array(tmp_path / "a.npy", np.zeros(100_000))
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.ones(3))
