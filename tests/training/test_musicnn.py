"""The port against the original.

``musicnn_reference.npz`` holds what musicnn 0.1.0 itself, run by TensorFlow 2.15.1 with librosa 0.10.2, made of
:func:`sound`; of its Mel every 19th frame.
"""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor

from training.errors import EvaluationError
from training.evaluation import musicnn
from training.evaluation.musicnn import BANDS, PATCH_FRAMES, SAMPLE_RATE, LogMel, Musicnn, load_musicnn

REFERENCE: Final = np.load(Path(__file__).with_name("musicnn_reference.npz"))
PATCHES: Final = 2

#: Our Mel is the original's but for 4 · 10⁻⁴ here and there, where half precision rounds the other way, and all else
#: follows from that. Each is about five times what was measured, and far narrower than a fault makes it.
TOLERANCES: Final = {
    "tags": 5e-5,  # measured 3e-6
    "penultimate": 4e-4,  # 6e-5
    "mean_pool": 5e-4,  # 8e-5
    "max_pool": 1.5e-2,  # 3e-3
}


def sound() -> Tensor:
    """Seven seconds of chords, beats of hiss and a sweep, of numbers that are the same on every machine."""
    k = np.arange(7 * SAMPLE_RATE)
    t = k / SAMPLE_RATE
    phase = np.cumsum(2 * np.pi * 220 * np.where(t % 4 < 2, 1.0, 1.5) / SAMPLE_RATE)
    tones = sum(np.sin(phase * harmonic) / harmonic for harmonic in (1, 1.25, 1.5, 2, 3, 5))
    hiss = np.sin(2 * np.pi * ((k * k * 7919) % 65536) / 65536)
    sweep = np.sin(2 * np.pi * (100 * t + 400 * t * t))
    return torch.from_numpy((0.15 * tones + 0.4 * hiss * np.exp(-(t % 0.5) * 30) + 0.1 * sweep).astype(np.float32))


@pytest.fixture(scope="module")
def mel() -> Tensor:
    frames: Tensor = LogMel()(sound())
    return frames


@pytest.fixture(scope="module")
def patches(mel: Tensor) -> Tensor:
    return mel[: PATCHES * PATCH_FRAMES].view(PATCHES, PATCH_FRAMES, BANDS)


@pytest.fixture(scope="module")
def network() -> Musicnn:
    return load_musicnn()


def test_the_mel_is_librosas(mel: Tensor) -> None:
    difference = np.abs(mel[::19].numpy() - REFERENCE["mel"])
    assert difference.max() < 1e-3
    assert difference.mean() < 1e-5


def test_the_port_hears_what_the_original_hears(network: Musicnn, patches: Tensor) -> None:
    heard = network(patches)._asdict()
    for name, tolerance in TOLERANCES.items():
        difference = np.abs(heard[name].numpy() - REFERENCE[name]).max()
        assert difference < tolerance, name


def test_patches_do_not_hear_each_other(network: Musicnn, patches: Tensor) -> None:
    together = network(patches)
    alone = [network(patch[None]) for patch in patches]
    assert (together.penultimate - torch.cat([one.penultimate for one in alone])).abs().max() < 1e-4


def test_nothing_of_the_package_is_run(network: Musicnn) -> None:
    assert not {"musicnn", "tensorflow"} & sys.modules.keys()


def test_a_missing_package_is_a_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(
        EvaluationError, match=r"not installed; install it with `pip install --no-deps musicnn==0\.1\.0`"
    ):
        load_musicnn()


def test_a_package_without_its_files_is_missing_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metadata.PathDistribution, "locate_file", lambda self, path: tmp_path / path)
    with pytest.raises(EvaluationError, match="not installed"):
        load_musicnn()


@pytest.mark.parametrize("name", [".index", ".data-00000-of-00001"])
def test_an_altered_file_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(musicnn.HASHES, name, "0" * 64)
    with pytest.raises(EvaluationError, match="damaged or another version"):
        load_musicnn()
