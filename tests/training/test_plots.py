import shutil
from collections.abc import Sequence
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generator.checkpoint import load_checkpoint, save_checkpoint
from generator.moods import MOODS, Mood
from tests.training.small_run import BARD_RUN, PAPER_RUN, prepare_small
from training import log
from training.errors import RunError
from training.loop import Bounds, train
from training.plots import draw_loss, draw_samples, smooth
from training.presets import TrainConfig


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_small(tmp_path_factory.mktemp("plots") / "prepared")


def pixels(path: Path) -> NDArray[np.float32]:
    image: NDArray[np.float32] = matplotlib.image.imread(path)[..., :3]
    return image


def near(image: NDArray[np.float32], colour: str, distance: float = 0.08) -> int:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return int((np.abs(image - wanted).max(axis=-1) < distance).sum())


def write_log(folder: Path, count: int, validation: bool) -> None:
    log.append(folder, {"event": "start", "step": 0})
    for step in range(1, count + 1):
        entry: dict[str, object] = {"step": step, "samples": 4 * step, "loss": 1 / step, "seconds": step}
        log.append(folder, entry | ({"validation": 2 / step} if validation and step % 10 == 0 else {}))


@pytest.mark.parametrize("validation", [True, False])
def test_the_loss_is_drawn(tmp_path: Path, validation: bool) -> None:
    write_log(tmp_path, 100, validation)
    image = pixels(draw_loss(tmp_path))
    assert near(image, "#c9a227") > 500
    assert (near(image, "#4c956c") > 100) is validation


def test_one_step_is_enough_for_a_picture(tmp_path: Path) -> None:
    write_log(tmp_path, 1, validation=False)
    assert pixels(draw_loss(tmp_path)).std() > 0.01


def test_a_run_without_a_step_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no step of training"):
        draw_loss(tmp_path)


def test_smoothing_keeps_the_early_fall_and_the_mean_of_the_end() -> None:
    values = np.concatenate([[100.0], np.random.default_rng(0).normal(1, 0.5, 4999)])
    smoothed = smooth(values)
    assert smoothed[0] == 100
    assert smoothed[1] == pytest.approx(values[1])
    assert smoothed[-1] == pytest.approx(values[-100:].mean())
    assert smoothed[2500:].std() < 0.2 * values[2500:].std()


def panels(image: NDArray[np.float32]) -> list[float]:
    """How much each of the 4 × 4 spectrograms varies."""
    high, wide = image.shape[0] * 0.91 / 4, image.shape[1] / 4
    top = image.shape[0] * 0.09
    inner = [(slice(int(top + (row + 0.35) * high), int(top + (row + 0.8) * high))) for row in range(4)]
    across = [slice(int((column + 0.2) * wide), int((column + 0.8) * wide)) for column in range(4)]
    return [float(image[rows, columns].std(axis=(0, 1)).max()) for rows in inner for columns in across]


@pytest.mark.parametrize("run", [BARD_RUN, PAPER_RUN])
def test_each_mood_is_drawn_beside_a_recording(prepared: Path, tmp_path: Path, run: TrainConfig) -> None:
    train(run, prepared, tmp_path, Bounds(steps=2))
    followed: list[Mood] = []

    def follow(moods: Sequence[Mood]) -> Sequence[Mood]:
        followed.extend(moods)
        return moods

    image = pixels(draw_samples(tmp_path, prepared, follow))
    assert tuple(followed) == MOODS
    varied = np.array(panels(image)).reshape(4, 4) > 0.02
    assert varied[1].tolist() == [False, False, True, False]  # epic, festival, fight, mysterious; recorded
    assert varied[3].tolist() == [False, False, True, False]  # romance, sad, tavern, town
    if run is BARD_RUN:
        assert varied[0].all()
        assert varied[2].all()


def test_a_model_of_other_music_is_drawn_from_what_it_was_trained_on(tmp_path: Path) -> None:
    """The cache that training made serves."""
    other = prepare_small(tmp_path / "other", moods=("town",))
    train(BARD_RUN, other, tmp_path / "first", Bounds(steps=1))
    checkpoint = load_checkpoint(tmp_path / "first" / "model.safetensors")
    prepared = prepare_small(tmp_path / "prepared")
    train(BARD_RUN, prepared, tmp_path / "run", Bounds(steps=1), start=checkpoint)
    (cache,) = (path.name for path in prepared.glob("cache/mel-*"))
    draw_samples(tmp_path / "run", prepared)
    assert [path.name for path in prepared.glob("cache/mel-*")] == [cache]


def test_infinite_samples_are_drawn_and_named_not_raised(prepared: Path, tmp_path: Path) -> None:
    train(BARD_RUN, prepared, tmp_path, Bounds(steps=1))
    made = load_checkpoint(tmp_path / "model.safetensors")
    huge = {
        key: torch.full_like(value, 3e38) if key == "network.pitch" else value for key, value in made.tensors.items()
    }
    save_checkpoint(tmp_path / "model.safetensors", type(made)(made.config, huge))
    image = pixels(draw_samples(tmp_path, prepared))
    varied = np.array(panels(image)).reshape(4, 4) > 0.02
    assert not varied[0].any()
    assert varied[1, 2]


def test_without_a_model_there_is_a_sentence(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no model that plays"):
        draw_samples(tmp_path, prepared)
    train(BARD_RUN, prepared, tmp_path, Bounds(steps=1))
    path = tmp_path / "model.safetensors"
    shutil.copy(path, tmp_path / "copy")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError, match="damaged"):
        draw_samples(tmp_path, prepared)
