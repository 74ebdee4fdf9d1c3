"""Is it new? The nearest training music to each clip, against what held-out recordings reach, and what copies reach.

Twice: by sound (the spectrum in semitones, over 3.2 s, transposed by up to 2 semitones) and by plan (chroma, over 8 s,
in any key); neither looks for another tempo. How near a stranger comes by chance is what held-out recordings tell, and
how near a copy comes is what copies planted on purpose tell.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.evaluation.excerpts import Excerpt, Sound
from training.evaluation.fingerprints import BANDS, FRAMES_PER_SECOND, STEP_DB, Library, Pitches, chroma, fingerprint
from training.evaluation.nearest import Rows, nearest
from training.manifest import CLIP_SAMPLES, SAMPLE_RATE, Manifest

TRANSPOSED: Final = 2  #: semitones up or down by which a copied sound may have been moved
COPY_QUANTILE: Final = 0.05  #: of what planted copies score: from there on a clip is called a copy
NOISE_DB: Final = -12.0  #: of the noise in a planted copy: it leaves about as much of a score as the vocoder does
EQUALISER_DB: Final = 3.0
PERMUTATIONS: Final = 9_999
LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class View:
    """A way to compare.

    Attributes:
        name: what is compared.
        length: of a piece, frames; short enough that what was copied from a window or a phrase holds a whole one.
        step: frames from piece to piece.
        still: standard deviation of the features below which nothing happens.
        rows: features of the training music, in whose width a piece is tried at every offset.
        features: features of a clip.
        semitones: for each offset, by how much the training music is higher.
    """

    name: str
    length: int
    step: int
    still: float
    rows: Callable[[Pitches], Rows]
    features: Callable[[Pitches], Rows]
    semitones: tuple[int, ...]

    def pieces(self, pitches: Pitches) -> NDArray[np.float32]:
        """The pieces of a clip, [pieces, length, width]."""
        features = self.features(pitches)
        firsts = range(0, len(features) - self.length + 1, self.step)
        return np.stack([features[first : first + self.length] for first in firsts]).astype(np.float32)


def _two_octaves(pitches: Pitches) -> Rows:
    classes = chroma(pitches)
    return np.concatenate([classes, classes[:, :-1]], axis=1)  # on B follows C


SOUND: Final = View(
    "sound",
    length=40,
    step=20,
    still=1.5 / STEP_DB,
    rows=lambda pitches: pitches,
    features=lambda pitches: pitches[:, TRANSPOSED : BANDS - TRANSPOSED],
    semitones=tuple(range(-TRANSPOSED, TRANSPOSED + 1)),
)
PLAN: Final = View(
    "plan",
    length=100,
    step=25,
    still=0.02,
    rows=_two_octaves,
    features=chroma,
    semitones=(*range(7), *range(-5, 0)),
)


@dataclass(frozen=True, slots=True)
class Match:
    """The place in the training music that a clip comes nearest to.

    Attributes:
        track: what the clip was taken from.
        start: seconds into it at which the likeness begins.
        source: the recording that was learnt from.
        source_start: seconds into it (silence that ``prepare`` dropped is not counted).
        semitones: by how much the recording is higher.
        score: correlation, 0 to 1.
    """

    track: str
    start: float
    source: str
    source_start: float
    semitones: int
    score: float

    @property
    def label(self) -> str:
        """What a person plays side by side."""
        moved = f" ({self.semitones:+d} semitones)" if self.semitones else ""
        places = f"{self.track} at {_clock(self.start)}, {self.source} at {_clock(self.source_start)}"
        return f"{places}{moved}: {self.score:.2f}"


Matches = Sequence[Match]


@dataclass(frozen=True, slots=True)
class Planted:
    """A copy made on purpose.

    Attributes:
        excerpt: one clip.
        source: the recording that it was cut from.
        source_start: seconds into it.
    """

    excerpt: Excerpt
    source: str
    source_start: float


@dataclass(frozen=True, slots=True)
class Null:
    """How near recordings come that were not learnt from.

    Attributes:
        clips: how many.
        median: of their scores.
        upper: what one in twenty exceeds.
        maximum: what none exceeds.
    """

    clips: int
    median: float
    upper: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Novelty:
    """What there is to say of many clips.

    Attributes:
        clips: how many were compared.
        median: of their scores; ``None`` if there are none.
        null: what they are held against; ``None`` if nothing is held out.
        share_above_upper: share of the clips above the null's ``upper``; by chance 0.05.
        share_above_maximum: share above its ``maximum``; by chance 1 in the number of its clips.
        p_value: of their being no nearer than held-out recordings, one-sided, by permutation of whole tracks; ``None``
            with fewer than two tracks on either side.
        copy_score: from here on a clip is called a copy.
        planted_found: share of the planted copies whose nearest recording is the one they were cut from.
        copies: the clips called copies, the likeliest first.
        duplicates: held-out clips called copies: most likely one piece on both sides of the split. Their recordings are
            left out of the null.
        closest: the nearest pairs, at most one for each generated track.
        closest_real: the same of held-out recordings.
    """

    clips: int
    median: float | None
    null: Null | None
    share_above_upper: float | None
    share_above_maximum: float | None
    p_value: float | None
    copy_score: float
    planted_found: float
    copies: tuple[Match, ...]
    duplicates: tuple[Match, ...]
    closest: tuple[Match, ...]
    closest_real: tuple[Match, ...]


def search(excerpts: Iterable[Excerpt], library: Library, view: View) -> tuple[Match, ...]:
    """The nearest training music to each clip of 10 s, in order; what is shorter than that is not looked for."""
    places, pieces = [], []  # and not the sounds, of which there may be more than fits into memory
    for excerpt in excerpts:
        for clip in excerpt.clips():
            own = view.pieces(fingerprint(clip.heard))
            places += [(clip.track, clip.start + number * view.step / FRAMES_PER_SECOND) for number in range(len(own))]
            pieces.append(own)
    if not pieces:
        return ()
    found = nearest(np.concatenate(pieces), view.rows(library.pitches), library.ends, view.still)
    matches, first = [], 0
    for own in pieces:
        best = first + int(found.score[first : first + len(own)].argmax())
        semitones, score = view.semitones[int(found.offset[best])], float(found.score[best])
        matches.append(Match(*places[best], *library.place(int(found.row[best])), semitones, score))
        first += len(own)
    return tuple(matches)


def plant_copies(manifest: Manifest, count: int, random: np.random.Generator) -> tuple[Planted, ...]:
    """Training clips as a model that memorised would render them: cut anywhere, at another level, equalised, noisy.

    They are taken from ``count`` recordings, or fewer if there are fewer.
    """
    tracks = manifest.of("train")
    planted = []
    for number in sorted(random.permutation(len(tracks))[:count]):
        track = tracks[number]
        pcm = manifest.shard(track).reshape(-1)
        first = int(random.integers(len(pcm) - CLIP_SAMPLES + 1))
        sound = disguise(np.divide(pcm[first : first + CLIP_SAMPLES], 32_768, dtype=np.float32), random)
        planted.append(
            Planted(Excerpt(sound, track.mood, f"copy of {track.source}"), track.source, first / SAMPLE_RATE)
        )
    return tuple(planted)


def disguise(sound: Sound, random: np.random.Generator) -> Sound:
    """The sound at half its level, through an equaliser, with white noise."""
    spectrum = np.fft.rfft(sound)
    octaves = np.log2(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE).clip(min=20))
    wave = EQUALISER_DB * np.sin(octaves + random.uniform(0, 2 * np.pi))
    equalised = np.fft.irfft(spectrum * 10 ** (wave / 20), len(sound))
    noise = random.standard_normal(len(sound)) * np.sqrt(np.square(equalised).mean()) * 10 ** (NOISE_DB / 20)
    disguised: Sound = (0.5 * (equalised + noise)).astype(np.float32)
    return disguised


def judge(
    generated: Matches,
    held_out: Matches,
    copies: Matches,
    planted: Sequence[Planted],
    random: np.random.Generator,
) -> Novelty:
    """Hold clips against held-out recordings and against copies.

    Args:
        generated: what :func:`search` found for the clips to judge.
        held_out: the same for recordings that were not learnt from.
        copies: the same for the planted copies, at least one.
        planted: those copies.
        random: permutes.
    """
    copy_score = float(np.quantile(_scores(copies), COPY_QUANTILE, method="lower"))
    duplicates = _best(match for match in held_out if match.score >= copy_score)
    doubtful = {match.track for match in duplicates}
    strangers = [match for match in held_out if match.track not in doubtful]
    scores, null = _scores(generated), _null(_scores(strangers))
    return Novelty(
        clips=len(generated),
        median=float(np.median(scores)) if generated else None,
        null=null,
        share_above_upper=float((scores > null.upper).mean()) if generated and null else None,
        share_above_maximum=float((scores > null.maximum).mean()) if generated and null else None,
        p_value=nearer(generated, strangers, random),
        copy_score=copy_score,
        planted_found=float(
            np.mean([found.source == made.source for found, made in zip(copies, planted, strict=True)])
        ),
        copies=_best(match for match in generated if match.score >= copy_score),
        duplicates=duplicates,
        closest=_one_a_track(generated)[:LISTED],
        closest_real=_one_a_track(held_out)[:LISTED],
    )


def nearer(generated: Matches, null: Matches, random: np.random.Generator) -> float | None:
    """One-sided p-value of ``generated`` being no nearer to the training music than ``null``.

    Clips of one track are alike, so tracks are what is permuted: their mean ranks, by a studentised statistic, which
    holds its level though one side's tracks have more clips than the other's (Janssen 1997).

    Returns:
        ``None`` with fewer than two tracks on either side.
    """
    both = [*generated, *null]
    scores = _scores(both)
    ordered = np.sort(scores)
    ranks = (np.searchsorted(ordered, scores) + np.searchsorted(ordered, scores, side="right")) / 2  # ties share one
    names = [*((True, match.track) for match in generated), *((False, match.track) for match in null)]
    tracks = sorted(set(names))
    means = np.array([ranks[[name == track for name in names]].mean() for track in tracks])
    side = np.array([is_generated for is_generated, _ in tracks], bool)
    if not 2 <= side.sum() <= len(side) - 2:
        return None
    sides = random.permuted(np.broadcast_to(side, (PERMUTATIONS, len(side))), axis=1)
    permuted = _welch(means, sides)
    at_least = permuted >= _welch(means, side[None])[0] - 1e-9
    return float((1 + at_least.sum()) / (1 + PERMUTATIONS))


def _welch(values: NDArray[np.float64], sides: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Welch's t of the values on the side that is true against the others, for each row of ``sides``."""
    statistics = []
    for mask in (sides.astype(np.float64), (~sides).astype(np.float64)):
        count = mask.sum(axis=1)
        mean = mask @ values / count
        statistics.append((mean, (mask @ values**2 / count - mean**2).clip(min=0) / (count - 1)))
    (mean, error), (other_mean, other_error) = statistics
    t: NDArray[np.float64] = (mean - other_mean) / np.sqrt(error + other_error + 1e-12)
    return t


def _scores(matches: Matches) -> NDArray[np.float64]:
    return np.array([match.score for match in matches], np.float64)


def _null(scores: NDArray[np.float64]) -> Null | None:
    if len(scores) == 0:
        return None
    return Null(len(scores), float(np.median(scores)), float(np.quantile(scores, 0.95)), float(scores.max()))


def _best(matches: Iterable[Match]) -> tuple[Match, ...]:
    return tuple(sorted(matches, key=lambda match: -match.score))


def _one_a_track(matches: Matches) -> tuple[Match, ...]:
    """The best of each track, the best first."""
    best = {match.track: match for match in reversed(_best(matches))}
    return _best(best.values())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"
