import numpy as np
import pytest
from numpy.typing import NDArray

from training.errors import EvaluationError
from training.evaluation.distance import (
    SHARES,
    Clips,
    Counts,
    Distance,
    FrechetDistance,
    KernelDistance,
    estimate,
    floor,
    frechet,
)

DIMENSIONS = 12


def music(rng: np.random.Generator, tracks: int, clips: int = 3, shift: float = 0.0, name: str = "track") -> Clips:
    """Tracks drawn from one normal distribution; the clips of a track are near each other, as they are in music."""
    centres = rng.normal(size=(tracks, DIMENSIONS))
    features = np.repeat(centres, clips, axis=0) + 0.4 * rng.normal(size=(tracks * clips, DIMENSIONS))
    return Clips.of(features + shift, [f"{name} {index // clips:04d}" for index in range(len(features))])


def plain(distance: Distance, sample: Clips, reference: Clips) -> float:
    return distance(sample.once, reference.once)


def kernel(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float((one @ other / len(one) + 1) ** 3)


def by_the_paper(sample: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Bińkowski et al. 2018, eq. 4, pair by pair: only a clip with itself is left out."""
    m, n = len(sample), len(reference)
    within = sum(kernel(sample[i], sample[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    other = sum(kernel(reference[i], reference[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within + other - 2 * sum(kernel(x, y) for x in sample for y in reference) / (m * n)


def test_where_each_clip_is_a_track_it_is_the_papers_estimate() -> None:
    rng = np.random.default_rng(0)
    sample, reference = music(rng, 7, clips=1), music(rng, 9, clips=1, shift=0.3)
    expected = by_the_paper(sample.features, reference.features)
    assert plain(KernelDistance(sample, reference), sample, reference) == pytest.approx(expected)


def test_the_kernel_distance_is_zero_on_average_where_nothing_differs() -> None:
    """Even of five tracks; the paper's own estimate, which takes clips for independent, is not."""
    rng = np.random.default_rng(1)
    ours, papers = [], []
    for _ in range(300):
        sample, reference = music(rng, 5), music(rng, 6)
        ours.append(plain(KernelDistance(sample, reference), sample, reference))
    for _ in range(20):
        sample, reference = music(rng, 5), music(rng, 6)
        papers.append(by_the_paper(sample.features, reference.features))
    assert abs(np.mean(ours)) < 3 * np.std(ours) / np.sqrt(len(ours))
    assert np.mean(papers) > 5 * np.std(papers) / np.sqrt(len(papers))


def test_tracks_drawn_twice_do_not_move_the_kernel_distance() -> None:
    rng = np.random.default_rng(2)
    sample, reference = music(rng, 10), music(rng, 12, shift=0.2)
    distance = KernelDistance(sample, reference)
    drawn = []
    for _ in range(2000):
        numbers = [len(clips.tracks) for clips in (sample, reference)]
        drawn.append(distance(*(np.bincount(rng.integers(n, size=n), minlength=n) for n in numbers)))
    value = plain(distance, sample, reference)
    assert np.mean(drawn) == pytest.approx(value, abs=4 * np.std(drawn) / np.sqrt(len(drawn)))
    # What it would be if a track were compared with its copy:
    copies = Clips.of(np.repeat(sample.features, 2, 0), [f"{index}" for index in range(2 * len(sample.features))])
    assert plain(KernelDistance(copies, reference), copies, reference) > value + np.std(drawn) / 2


@pytest.mark.parametrize("kind", [KernelDistance, FrechetDistance])
def test_a_distance_grows_with_the_shift(kind: type[KernelDistance | FrechetDistance]) -> None:
    rng = np.random.default_rng(3)
    reference = music(rng, 60)
    measured = []
    for shift in (0.0, 0.3, 0.6, 1.2):
        sample = music(np.random.default_rng(4), 40, shift=shift)
        measured.append(plain(kind(sample, reference), sample, reference))
    assert measured == sorted(measured)
    assert measured[-1] > 10 * abs(measured[0])


@pytest.mark.parametrize("kind", [KernelDistance, FrechetDistance])
def test_the_order_of_clips_means_nothing(kind: type[KernelDistance | FrechetDistance]) -> None:
    rng = np.random.default_rng(5)
    sample, reference = music(rng, 40), music(rng, 50, shift=0.2)
    mixed = rng.permutation(len(sample.features))
    again = Clips.of(sample.features[mixed], [f"track {index // 3:04d}" for index in mixed])
    one, other = (plain(kind(clips, reference), clips, reference) for clips in (sample, again))
    assert one == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize(("kind", "trials", "draws"), [(KernelDistance, 40, 100), (FrechetDistance, 20, 20)])
def test_the_interval_covers(kind: type[KernelDistance | FrechetDistance], trials: int, draws: int) -> None:
    """It holds what a large sample says in 80 % of trials at least, where 95 are due."""
    rng = np.random.default_rng(6)
    many, others = music(rng, 600), music(rng, 600, shift=0.3)
    truth = plain(kind(many, others), many, others)
    held = 0
    for _ in range(trials):
        sample, reference = music(rng, 40), music(rng, 50, shift=0.3)
        found = estimate(kind(sample, reference), sample, reference, rng, draws=draws)
        held += found.low <= truth <= found.high
        assert found.low <= found.value <= found.high
    assert held >= 0.8 * trials


def test_frechet_of_gaussians_in_closed_form() -> None:
    mean, other_mean = np.array([1.0, 2.0]), np.array([1.5, 0.0])
    covariance, other_covariance = np.diag([4.0, 1.0]), np.diag([1.0, 9.0])
    expected = 0.25 + 4 + (2 - 1) ** 2 + (1 - 3) ** 2
    assert frechet(mean, covariance, other_mean, other_covariance) == pytest.approx(expected)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])  # turning both changes nothing
    turned = [turn @ mean, turn @ covariance @ turn.T, turn @ other_mean, turn @ other_covariance @ turn.T]
    assert frechet(*turned) == pytest.approx(expected)


def test_frechet_bears_covariances_without_rank() -> None:
    rng = np.random.default_rng(7)
    flat = np.outer(*[rng.normal(size=5)] * 2)
    assert frechet(np.zeros(5), flat, np.zeros(5), flat) == pytest.approx(0, abs=1e-6)
    assert frechet(np.zeros(5), np.zeros((5, 5)), np.ones(5), np.eye(5)) == pytest.approx(10)


def test_at_infinity_the_bias_of_few_clips_is_gone() -> None:
    """Nothing differs, so the truth is 0: what is left of the bias is a small part of it."""
    rng = np.random.default_rng(8)
    extrapolated, measured = [], []
    for _ in range(30):
        sample, reference = music(rng, 60), music(rng, 80)
        extrapolated.append(plain(FrechetDistance(sample, reference), sample, reference))
        sides = [side for clips in (sample, reference) for side in (clips.features.mean(0), np.cov(clips.features.T))]
        measured.append(frechet(*sides))
    assert np.mean(measured) > 1
    assert abs(np.mean(extrapolated)) < 0.2 * np.mean(measured)


def test_clips_that_are_all_the_same_are_far_from_music() -> None:
    rng = np.random.default_rng(9)
    reference = music(rng, 40)
    silence = Clips.of(np.full((100, DIMENSIONS), 0.5), [f"stream {index // 4}" for index in range(100)])
    for kind in (KernelDistance, FrechetDistance):
        found = estimate(kind(silence, reference), silence, reference, rng, draws=20)
        assert found.low > 0


def test_real_against_real_is_about_nothing() -> None:
    rng = np.random.default_rng(10)
    reference = music(rng, 61)
    mood_of = {track: "sad" if index < 20 else "town" for index, track in enumerate(reference.tracks)}
    for kind, splits in ((KernelDistance, 200), (FrechetDistance, 30)):
        found = floor(kind(reference, reference), reference, mood_of, rng, splits=splits)
        assert found.low < 0 < found.high
        shifted = music(rng, 40, shift=1.0)
        assert plain(kind(shifted, reference), shifted, reference) > found.high


def test_moods_of_one_recording_each_have_halves_too() -> None:
    rng = np.random.default_rng(11)
    reference = music(rng, 4)
    mood_of = {track: f"mood {index}" for index, track in enumerate(reference.tracks)}
    found = floor(KernelDistance(reference, reference), reference, mood_of, rng)
    assert np.isfinite([found.value, found.low, found.high]).all()


def test_three_recordings_have_no_halves() -> None:
    rng = np.random.default_rng(12)
    reference = music(rng, 3)
    with pytest.raises(EvaluationError, match="four recordings"):
        floor(KernelDistance(reference, reference), reference, dict.fromkeys(reference.tracks, "sad"), rng)


def test_halves_hold_half_of_every_mood() -> None:
    moods = {"sad": 2, "town": 5, "epic": 8}
    names = [mood for mood, tracks in moods.items() for _ in range(tracks)]
    reference = Clips.of(np.zeros((30, 1)), [f"{index:02d}" for index in range(15) for _ in range(2)])
    mood_of = dict(zip(reference.tracks, names, strict=True))
    seen: list[Counts] = []

    def watch(sample: Counts, other: Counts) -> float:
        assert np.array_equal(sample + other, reference.once)
        seen.append(sample)
        return 0.0

    floor(watch, reference, mood_of, np.random.default_rng(0), splits=50)
    for mood, tracks in moods.items():
        counts = {int(half[np.array(names) == mood].sum()) for half in seen}
        assert counts == {tracks // 2, (tracks + 1) // 2}
    assert len({half.tobytes() for half in seen}) > 40


def test_the_same_seed_says_the_same() -> None:
    rng = np.random.default_rng(11)
    sample, reference = music(rng, 40), music(rng, 40)
    for kind in (KernelDistance, FrechetDistance):
        one, other = (
            estimate(kind(sample, reference), sample, reference, np.random.default_rng(0), draws=10) for _ in range(2)
        )
        assert one == other


def test_what_can_not_be_measured_is_said() -> None:
    rng = np.random.default_rng(12)
    with pytest.raises(EvaluationError, match="two tracks"):
        music(rng, 1)
    with pytest.raises(EvaluationError, match="not finite"):
        Clips.of(np.full((4, 2), np.nan), list("abcd"))
    few = music(rng, 10, clips=1)
    with pytest.raises(EvaluationError, match=f"needs {round(32 / SHARES[-1])} clips"):
        FrechetDistance(few, music(rng, 100))
