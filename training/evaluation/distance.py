"""How far generated music is from recorded music, in the space of an embedding, fairly at small samples.

Two distances between two distributions of clips, each unbiased in its way:

- the kernel distance, the unbiased MMD² with the polynomial kernel of Bińkowski et al. 2018 (arXiv:1801.01401,
  section 4, known as KID);
- the Fréchet distance extrapolated to infinitely many clips (Chong & Forsyth 2020, arXiv:1911.07023, section 3).

Clips of one recording are alike, so it is recordings that are independent, not clips. Both distances take that into
account, and are therefore functions of how often each track is taken: the interval resamples whole tracks, and the
floor (what chance alone makes of real music) puts whole tracks on one side or the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from training.errors import EvaluationError

Features = NDArray[np.floating]  #: [clips, dimensions]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]  #: [tracks]: how often each is taken

COVERAGE: Final = 0.95  #: of intervals
DIMENSIONS: Final = 16  #: principal components of the reference that the Fréchet distance looks at
SHARES: Final = 1 / np.linspace(1.0, 3.0, 5)  #: of the tracks, evenly spaced in 1 / N
REPEATS: Final = 8  #: subsets of each share
CLIPS_PER_DIMENSION: Final = 2  #: that the smallest subset must have, for its covariance to mean something


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the interval in which it lies with 95 % confidence."""

    value: float
    low: float
    high: float


class Distance(Protocol):
    """A distance between a sample and a reference, of which each track is taken so many times."""

    def __call__(self, sample: Counts, reference: Counts, /) -> float:
        """The distance; tracks as :class:`Clips` orders them."""
        ...


@dataclass(frozen=True, slots=True)
class Clips:
    """Embedded clips.

    Attributes:
        features: [clips, dimensions], track by track.
        tracks: their names, in order.
        sizes: [tracks], how many clips each has.
    """

    features: Floats
    tracks: tuple[str, ...]
    sizes: Counts

    @classmethod
    def of(cls, features: Features, tracks: Sequence[str]) -> "Clips":
        """Gather the clips by track.

        Args:
            features: [clips, dimensions].
            tracks: [clips], the name of each clip's track.

        Raises:
            EvaluationError: there are fewer than two, or features that are not finite.
        """
        names, owner = np.unique(np.asarray(tracks), return_inverse=True)
        if len(names) < 2:
            raise EvaluationError("a distance needs clips of two tracks or more; give more music")
        if not np.isfinite(features).all():
            raise EvaluationError("some features are not finite, so no distance can be measured")
        by_track = np.argsort(owner, kind="stable")
        return cls(
            np.asarray(features, np.float64)[by_track], tuple(names.tolist()), np.bincount(owner).astype(np.int64)
        )

    @property
    def once(self) -> Counts:
        """Each track taken once."""
        return np.ones_like(self.sizes)

    def sums(self, values: Floats, axis: int = 0) -> Floats:
        """Values of clips, [clips] along ``axis``, summed to those of tracks."""
        total: Floats = np.add.reduceat(values, np.cumsum(self.sizes) - self.sizes, axis=axis)
        return total


class KernelDistance:
    """The unbiased MMD² of Bińkowski et al. 2018 with k(x, y) = (x · y / d + 1)³, over pairs of different tracks.

    The paper leaves out the pair of a clip with itself. Here all pairs within a track are left out: with them, tracks
    would look like clusters, and two samples of the same distribution would differ. It also keeps a track that was
    drawn twice from being compared with its copy, which would bias every resampling upwards.
    """

    def __init__(self, sample: Clips, reference: Clips) -> None:
        self._within_sample = _kernel_sums(sample, sample)
        self._within_reference = _kernel_sums(reference, reference)
        self._between = _kernel_sums(sample, reference)
        self._sizes = sample.sizes, reference.sizes

    def __call__(self, sample: Counts, reference: Counts) -> float:
        """The distance; negative about every other time where there is none."""
        mine, theirs = sample * self._sizes[0], reference * self._sizes[1]
        between = sample @ self._between @ reference / (mine.sum() * theirs.sum())
        return float(
            _mean_of_pairs(self._within_sample, sample, mine)
            + _mean_of_pairs(self._within_reference, reference, theirs)
            - 2 * between
        )


class FrechetDistance:
    """The Fréchet distance between Gaussians, extrapolated to infinite samples as by Chong & Forsyth 2020.

    At N clips it is too large by about a constant over N. So it is measured at several N, and the line through them
    over 1/N is read at 0. Here both sides shrink together, by whole tracks, so the bias of both is taken away.

    A line fits only while there are several clips for each dimension, so the features are first projected onto the
    reference's first principal components. What lies outside them only the kernel distance sees.
    """

    def __init__(self, sample: Clips, reference: Clips) -> None:
        smallest = SHARES[-1] * min(len(sample.features), len(reference.features))
        if smallest < CLIPS_PER_DIMENSION * DIMENSIONS:
            raise EvaluationError(
                f"a Fréchet distance needs {round(CLIPS_PER_DIMENSION * DIMENSIONS / SHARES[-1])} clips on either side"
            )
        axes = _principal_axes(reference.features)
        self._sample = _Moments(sample, sample.features @ axes)
        self._reference = _Moments(reference, reference.features @ axes)

    def __call__(self, sample: Counts, reference: Counts) -> float:
        """The distance at infinity; subsets are drawn alike at each call, so that it is a function of its counts."""
        rng = np.random.default_rng(0)
        shares = np.repeat(SHARES, REPEATS)
        sides = [
            moments(np.array([_subset(counts, share, rng) for share in shares]))
            for moments, counts in ((self._sample, sample), (self._reference, reference))
        ]
        _, at_infinity = np.polyfit(1 / shares, frechet(*sides[0], *sides[1]), 1)
        return float(at_infinity)


def frechet(mean: Floats, covariance: Floats, other_mean: Floats, other_covariance: Floats) -> Floats:
    """The Fréchet distance between Gaussians (Dowson & Landau 1982): means [..., d], covariances [..., d, d] → [...].

    The trace of the root of the product is that of a symmetric product, whose eigenvalues are real and not negative.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None))[..., None, :] @ np.swapaxes(vectors, -1, -2)
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other_covariance @ root), 0, None)).sum(-1)
    traces = np.trace(covariance + other_covariance, axis1=-2, axis2=-1)
    distance: Floats = ((mean - other_mean) ** 2).sum(-1) + traces - 2 * cross
    return distance


def estimate(
    distance: Distance, sample: Clips, reference: Clips, rng: np.random.Generator, draws: int = 200
) -> Estimate:
    """A distance, with an interval by bootstrap over whole tracks of both sides (Efron 1979).

    The interval is that of the draws, moved so that their mean is the estimate: a set in which tracks are repeated is
    narrower than what it was drawn from, which is a bias of the draws and not of the estimate.
    """
    value = distance(sample.once, reference.once)
    drawn = np.array([distance(_draw(sample, rng), _draw(reference, rng)) for _ in range(draws)])
    low, high = quantiles(drawn - drawn.mean() + value)
    return Estimate(value, low, high)


def floor(
    distance: Distance, reference: Clips, mood_of: Mapping[str, str], rng: np.random.Generator, splits: int = 200
) -> Estimate:
    """What a distance makes of real music against real music: the mean and spread over random halves.

    Args:
        distance: between ``reference`` and itself.
        reference: the recordings.
        mood_of: by track; the tracks of every mood are halved.
        rng: draws the halves.
        splits: how many.

    Raises:
        EvaluationError: there are fewer than four recordings, two for either half.
    """
    if len(reference.tracks) < 4:
        raise EvaluationError("halves of real music need four recordings or more that are held out; give more music")
    moods = np.array([mood_of[track] for track in reference.tracks])
    measured: list[float] = []
    while len(measured) < splits:
        half = _half(moods, rng)
        if min(half.sum(), (1 - half).sum()) > 1:  # moods of one recording each may all fall to one side
            measured.append(distance(half, 1 - half))
    return Estimate(float(np.mean(measured)), *quantiles(np.array(measured)))


def quantiles(values: Floats) -> tuple[float, float]:
    """The ends of the middle 95 %."""
    low, high = np.quantile(values, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


class _Moments:
    """Mean and covariance of clips whose tracks are taken so many times, from sums made once."""

    def __init__(self, clips: Clips, features: Floats) -> None:
        self._centre = features.mean(0)  # so that the covariance is no small difference of large numbers
        centred = features - self._centre
        self._sizes = clips.sizes
        self._sums = clips.sums(centred)
        self._products = clips.sums(np.einsum("ni,nj->nij", centred, centred))

    def __call__(self, counts: Counts) -> tuple[Floats, Floats]:
        """[sets, tracks] → [sets, dimensions] and [sets, dimensions, dimensions]."""
        clips = (counts @ self._sizes)[:, None]
        mean = counts @ self._sums / clips
        products = np.tensordot(counts, self._products, 1) / clips[..., None]
        return self._centre + mean, products - mean[:, :, None] * mean[:, None, :]


def _kernel_sums(one: Clips, other: Clips) -> Floats:
    """[tracks, other tracks], the sum of the kernel over all pairs of their clips."""
    kernel = (one.features @ other.features.T / one.features.shape[1] + 1) ** 3
    return other.sums(one.sums(kernel), axis=1)


def _mean_of_pairs(sums: Floats, counts: Counts, clips: Counts) -> float:
    """The mean of the kernel over all pairs of clips of different tracks."""
    total = counts @ sums @ counts - (counts**2 * np.diag(sums)).sum()
    pairs = clips.sum() ** 2 - (clips**2).sum()
    return float(total / pairs)


def _principal_axes(features: Floats) -> Floats:
    """[dimensions, DIMENSIONS], orthonormal."""
    _, vectors = np.linalg.eigh(np.cov(features, rowvar=False))
    axes: Floats = vectors[:, ::-1][:, :DIMENSIONS]
    return axes


def _draw(clips: Clips, rng: np.random.Generator) -> Counts:
    """As many tracks as there are, drawn with replacement; two different ones at least."""
    while True:
        tracks = len(clips.sizes)
        counts = np.bincount(rng.integers(tracks, size=tracks), minlength=tracks)
        if np.count_nonzero(counts) > 1:
            return counts.astype(np.int64)


def _subset(counts: Counts, share: float, rng: np.random.Generator) -> Counts:
    """A share of the tracks taken, without replacement."""
    taken = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    kept = taken[: round(share * len(taken))]
    return np.bincount(kept, minlength=len(counts)).astype(np.int64)


def _half(moods: NDArray[np.str_], rng: np.random.Generator) -> Counts:
    """1 for the tracks of one half, 0 for the others; of an odd number, the odd one is on either side."""
    half = np.zeros(len(moods), np.int64)
    for mood in np.unique(moods):
        members = rng.permutation(np.flatnonzero(moods == mood))
        half[members[: (len(members) + rng.integers(2)) // 2]] = 1
    return half
