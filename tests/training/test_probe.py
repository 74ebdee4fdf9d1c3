import numpy as np
import pytest
from numpy.typing import NDArray

from generator.moods import MOODS, Mood
from training.errors import EvaluationError
from training.evaluation.probe import MoodProbe

DIMENSIONS = 10
CENTRES = np.random.default_rng(0).normal(0, 1.2, (len(MOODS), DIMENSIONS))

Labelled = tuple[NDArray[np.float64], list[Mood], list[str]]


def music(seed: int, tracks: int = 6, clips: int = 4, moods: tuple[Mood, ...] = MOODS) -> Labelled:
    """Clips around their track, tracks around their mood."""
    rng = np.random.default_rng(seed)
    features, labels, owners = [], [], []
    for mood in moods:
        for track in range(tracks):
            centre = CENTRES[MOODS.index(mood)] + rng.normal(0, 0.6, DIMENSIONS)
            features.append(centre + rng.normal(0, 0.3, (clips, DIMENSIONS)))
            labels += [mood] * clips
            owners += [f"{mood} {track}"] * clips
    return np.concatenate(features), labels, owners


def wrong(moods: list[Mood]) -> list[Mood]:
    return [MOODS[(MOODS.index(mood) + 1) % len(MOODS)] for mood in moods]


@pytest.fixture(scope="module")
def probe() -> MoodProbe:
    return MoodProbe(*music(1))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_right_moods_are_told_and_wrong_ones_too(probe: MoodProbe) -> None:
    features, moods, tracks = music(2)
    right = probe.judge(features, moods, tracks, rng())
    assert right.accuracy.low > 0.8
    assert right.chance == 1 / 8
    planted = probe.judge(features, wrong(moods), tracks, rng())
    assert planted.accuracy.high < planted.chance


def test_music_without_moods_is_told_by_chance(probe: MoodProbe) -> None:
    features, moods, tracks = music(3, tracks=40, clips=2)
    whole = features.reshape(-1, 2, DIMENSIONS)
    mixed = np.random.default_rng(4).permutation(whole).reshape(-1, DIMENSIONS)  # whole tracks under others' names
    found = probe.judge(mixed, moods, tracks, rng())
    assert found.accuracy.low < found.chance < found.accuracy.high


def test_the_confusion_says_what_was_heard_instead(probe: MoodProbe) -> None:
    features, moods, tracks = music(5)
    found = probe.judge(features, moods, tracks, rng())
    planted = probe.judge(features, wrong(moods), tracks, rng())
    assert found.confusion.sum(1).tolist() == [24] * len(MOODS)
    assert np.array_equal(np.roll(planted.confusion, -1, axis=0), found.confusion)
    assert np.trace(found.confusion) / found.confusion.sum() == pytest.approx(found.accuracy.value)
    np.testing.assert_allclose(found.votes.sum(1), 1)
    heard = found.votes.argmax(1)
    assert all(found.confusion[row, column] for row, column in zip(map(MOODS.index, moods), heard, strict=True))


def test_each_mood_weighs_the_same(probe: MoodProbe) -> None:
    """Many clips of a mood that is heard well do not hide the one that is not."""
    many, good, owners = music(6, tracks=20, moods=MOODS[:1])
    few, bad, others = music(7, tracks=1, moods=MOODS[1:2])
    found = probe.judge(np.concatenate([many, few]), good + wrong(bad), owners + others, rng())
    heard = np.diag(found.confusion)[[0, 2]] / found.confusion.sum(1)[[0, 2]]
    assert heard[0] > 0.6 > 0.2 > heard[1]
    assert found.accuracy.value == pytest.approx(heard.mean())


def test_the_interval_is_that_of_tracks_not_clips(probe: MoodProbe) -> None:
    """A hundred copies of each clip say no more than one."""
    features, moods, tracks = music(8, clips=1)
    features = features + np.random.default_rng(9).normal(0, 1.0, features.shape)  # hard enough to err
    once = probe.judge(features, moods, tracks, rng()).accuracy
    copies = probe.judge(
        np.repeat(features, 100, 0), np.repeat(moods, 100).tolist(), np.repeat(tracks, 100).tolist(), rng()
    ).accuracy
    assert once.low < once.value < once.high
    assert (copies.low, copies.value, copies.high) == pytest.approx((once.low, once.value, once.high))


def test_the_penalty_is_chosen_by_tracks_it_did_not_see() -> None:
    """Tracks whose moods are noise: to know a track by heart is to know its mood, but only of tracks that were seen."""
    random = np.random.default_rng(10)
    tracks = [f"{index}" for index in range(48) for _ in range(3)]
    features = np.repeat(random.normal(size=(48, 40)), 3, 0) + random.normal(0, 0.01, (144, 40))
    moods = [MOODS[int(track) % 2] for track in tracks]
    blind = MoodProbe(features, moods, tracks)
    deceived = MoodProbe(features, moods, [f"{index}" for index in range(144)])
    assert blind.strength < deceived.strength


def test_moods_that_it_never_learnt_are_never_heard() -> None:
    few = MoodProbe(*music(11, moods=MOODS[2:5]))
    features, moods, tracks = music(12, moods=MOODS[4:7])
    found = few.judge(features, moods, tracks, rng())
    assert found.chance == pytest.approx(1 / 3)
    for table in (found.confusion, found.votes):
        assert table[:, 2:5].any()
        assert not np.delete(table, slice(2, 5), axis=1).any()
    assert found.confusion[4, 4] > 18  # of 24: it is there that the known mood is heard


def test_a_rare_mood_is_learnt_as_well_as_a_common_one() -> None:
    common, often, owners = music(15, tracks=40, moods=MOODS[:1])
    rare, seldom, others = music(16, tracks=2, moods=MOODS[1:2])
    blur = np.random.default_rng(17).normal(0, 4, (len(common) + len(rare), DIMENSIONS))  # so that guessing often pays
    lopsided = MoodProbe(np.concatenate([common, rare]) + blur, often + seldom, owners + others)
    features, _, _ = music(18, tracks=20, moods=MOODS[:2])
    assert (lopsided.votes(features).argmax(1) == 1).mean() > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_folds_that_lack_a_mood_are_borne(seed: int) -> None:
    """Two tracks of one mood, of which one fold may hold both."""
    features, moods, tracks = music(19, tracks=12, moods=MOODS[:3])
    kept = [index for index, track in enumerate(tracks) if track.split()[0] != MOODS[2] or int(track.split()[1]) < 2]
    some = MoodProbe(features[kept], [moods[index] for index in kept], [tracks[index] for index in kept], seed=seed)
    assert some.votes(features).argmax(1).max() == 2


def test_too_little_to_learn_from_is_said() -> None:
    for learnt in (music(13, moods=MOODS[:1]), music(14, tracks=1)):
        with pytest.raises(EvaluationError, match="labelled recordings of two moods or more, and two of each"):
            MoodProbe(*learnt)
