from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from generator.config import ModelConfig
from generator.mel import Mel
from generator.mood_embedding import NO_MOOD
from generator.moods import MOODS
from generator.plan import FEATURES
from tests.training.small_run import SMALL_BARD, SMALL_NOISE, prepare_small
from training.data import Clips, Dataset, identity_of, load_dataset, plan_statistics
from training.errors import ManifestError, StorageError
from training.manifest import load_manifest

FIGHT, TAVERN = (next(i for i, mood in enumerate(MOODS) if mood == name) for name in ("fight", "tavern"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_small(tmp_path_factory.mktemp("data") / "prepared")


def load(prepared: Path, model: ModelConfig = SMALL_BARD) -> tuple[Dataset, Mel]:
    mel = Mel(model.mel)
    return load_dataset(load_manifest(prepared), model, mel), mel


def cache_files(prepared: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in prepared.glob("cache/mel-*/*")}


def test_whole_tracks_are_on_one_side(prepared: Path) -> None:
    dataset, _ = load(prepared)
    assert dataset.validation is not None
    train = {array.tobytes() for array in dataset.train.mels}
    held_out = {array.tobytes() for array in dataset.validation.mels}
    assert (len(train), len(held_out)) == (5, 2)
    assert not train & held_out
    clips = [{clip.tobytes() for track in side.mels for clip in track} for side in (dataset.train, dataset.validation)]
    assert not clips[0] & clips[1]


def test_an_unsure_mood_is_trained_without_a_mood(prepared: Path) -> None:
    dataset, _ = load(prepared)
    assert sorted(dataset.train.moods) == sorted([FIGHT, FIGHT, TAVERN, TAVERN, NO_MOOD])


def test_the_mel_is_standard_on_the_training_side(prepared: Path) -> None:
    dataset, mel = load(prepared)
    values = np.concatenate([track.astype(np.float32) for track in dataset.train.mels])
    assert np.abs(values.mean((0, 2))).max() < 0.02
    moving = mel.deviation.numpy() > 0.51  # the others are held at 0.5
    assert moving.any()
    assert np.abs(values.std((0, 2))[moving] - 1).max() < 0.02


def test_a_second_run_computes_nothing(prepared: Path) -> None:
    load(prepared)
    before = cache_files(prepared)
    load(prepared)
    assert cache_files(prepared) == before


@pytest.mark.parametrize("name", ["fight-0.mel.npy", "fight-0.plan.npy", "bands.npy"])
@pytest.mark.parametrize("left", [0, 60, 0.5])
def test_a_file_cut_short_is_made_anew(tmp_path: Path, name: str, left: float) -> None:
    prepared = prepare_small(tmp_path / "prepared", moods=("fight",), sides=("train",))
    load(prepared)
    path = next(prepared.glob(f"cache/mel-*/{name}"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left if left >= 1 else left * len(whole))])
    load(prepared)
    assert path.read_bytes() == whole


def test_a_missing_mel_beside_its_plan_is_made_anew(tmp_path: Path) -> None:
    prepared = prepare_small(tmp_path / "prepared", moods=("fight",), sides=("train",))
    load(prepared)
    path = next(prepared.glob("cache/mel-*/fight-0.mel.npy"))
    path.unlink()
    load(prepared)
    assert path.exists()


def test_other_tracks_another_split_or_another_mel_have_another_cache(prepared: Path) -> None:
    manifest = load_manifest(prepared)
    here = identity_of(manifest, SMALL_BARD)
    moved = replace(manifest, tracks=(replace(manifest.tracks[0], split="validation"), *manifest.tracks[1:]))
    fewer = replace(manifest, tracks=manifest.tracks[1:])
    others = {identity_of(moved, SMALL_BARD), identity_of(fewer, SMALL_BARD), identity_of(manifest, SMALL_NOISE)}
    assert len({here, *others}) == 4
    assert identity_of(replace(manifest, tracks=manifest.tracks[::-1]), SMALL_BARD) == here


def test_where_nothing_is_held_out_there_is_no_validation(tmp_path: Path) -> None:
    dataset, _ = load(prepare_small(tmp_path / "prepared", sides=("train",)))
    assert dataset.validation is None


def test_nothing_to_train_on_is_a_sentence(tmp_path: Path) -> None:
    manifest = load_manifest(prepare_small(tmp_path / "prepared"))
    replace(manifest, tracks=()).save()
    with pytest.raises(ManifestError, match="no clip to train on"):
        load(tmp_path / "prepared")


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    from tests.training.test_state import disk_with_room_for

    prepared = prepare_small(tmp_path / "prepared", moods=("fight",), sides=("train",))
    with disk_with_room_for(5_000), pytest.raises(StorageError, match="PREPARED"):
        load(prepared)
    assert not list(prepared.glob("cache/mel-*/*mel*")) + list(prepared.glob("cache/mel-*/.*"))


def test_windows_begin_on_plan_columns_and_carry_their_own_plan(prepared: Path) -> None:
    dataset, _ = load(prepared)
    clips = dataset.train
    assert clips.plans is not None
    starts = set()
    for seed in range(20):
        batch = clips.batch(np.array([4]), np.random.default_rng(seed))
        mel, plan = clips.mels[1][1].astype(np.float32), clips.plans[1][1].astype(np.float32)
        first = next(c for c in range(9) if np.array_equal(mel[:, 8 * c : 8 * c + 64], batch.mel[0].numpy()))
        assert batch.plan is not None
        assert np.array_equal(batch.plan[0].numpy(), plan[:, first : first + 8])
        starts.add(first)
    assert len(starts) > 4


def test_a_clip_that_is_shorter_than_a_window_is_held_at_its_last_frame(prepared: Path) -> None:
    dataset, _ = load(prepared, SMALL_NOISE)
    frames = dataset.train.mels[0].shape[2]
    assert frames == 110  # 1.28 s at 22.05 kHz; a window has 112
    batch = dataset.train.batch(np.array([0]), np.random.default_rng(0))
    assert batch.mel.shape == (1, 16, 112)
    assert torch.equal(batch.mel[..., frames:], batch.mel[..., frames - 1 : frames].expand(-1, -1, 2))
    assert batch.plan is None


def test_a_batch_may_be_larger_than_the_corpus(prepared: Path) -> None:
    dataset, _ = load(prepared)
    batch = next(dataset.train.batches(100, np.random.default_rng(0)))
    assert batch.mel.shape == (100, 32, 64)
    assert batch.mood.dtype == torch.int64


def small_clips(counts: dict[int, int]) -> Clips:
    mels = [np.zeros((count, 32, 128), np.float16) for count in counts.values()]
    return Clips(SMALL_BARD, mels, None, list(counts))


@given(st.dictionaries(st.integers(0, NO_MOOD), st.integers(1, 40), min_size=1))
@settings(max_examples=30)
def test_a_mood_is_drawn_by_the_root_of_its_clips(counts: dict[int, int]) -> None:
    clips = small_clips(counts)
    weights = clips.weights()
    assert weights.sum() == pytest.approx(1)
    total = sum(count**0.5 for count in counts.values())
    for mood, count in counts.items():
        assert weights[clips.labels == mood].sum() == pytest.approx(count**0.5 / total)


def test_plan_statistics_are_each_moods_own(prepared: Path) -> None:
    dataset, _ = load(prepared)
    statistics = plan_statistics(dataset.train)
    assert statistics is not None
    assert statistics.shape == (NO_MOOD + 1, 2, FEATURES)
    plans = dataset.train.plans
    assert plans is not None

    def expected(moods: set[int]) -> NDArray[np.float64]:
        chosen = [plan for plan, mood in zip(plans, dataset.train.moods, strict=True) if mood in moods]
        columns = np.concatenate([plan.astype(np.float64).swapaxes(1, 2).reshape(-1, FEATURES) for plan in chosen])
        return np.stack([columns.mean(0), columns.std(0)])

    everything = expected({FIGHT, TAVERN, NO_MOOD})
    np.testing.assert_allclose(statistics[FIGHT], expected({FIGHT}), atol=1e-4)
    np.testing.assert_allclose(statistics[NO_MOOD], everything, atol=1e-4)
    np.testing.assert_allclose(statistics[0], everything, atol=1e-4)  # no clip is epic
    assert (statistics[FIGHT] - statistics[TAVERN]).abs().max() > 0.05


def test_a_model_without_a_plan_has_no_statistics(prepared: Path) -> None:
    assert plan_statistics(load(prepared, SMALL_NOISE)[0].train) is None
