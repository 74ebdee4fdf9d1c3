"""Is it the mood? A classifier that learnt the moods of recordings is asked what it hears."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from generator.moods import MOODS, Mood
from training.errors import EvaluationError
from training.evaluation.distance import Estimate, Features, Floats, quantiles

STRENGTHS: Final = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  #: C, the inverse of the penalty
FOLDS: Final = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the probe says of a set of clips.

    Attributes:
        accuracy: the share of clips heard as what they should be, averaged over the moods that there are, so that a
            mood with many clips weighs no more; the interval resamples whole tracks, mood by mood.
        chance: what guessing makes of that.
        confusion: [wanted, heard], how many clips, in the order of ``MOODS``.
        votes: [clips, moods], how sure it is of each; rows sum to 1.
    """

    accuracy: Estimate
    chance: float
    confusion: NDArray[np.int64]
    votes: Floats


class MoodProbe:
    """Multinomial logistic regression on standardised embeddings, every mood weighing the same.

    Args:
        features: [clips, dimensions], of recordings to learn from.
        moods: of each.
        tracks: of each; how strongly it is regularised is chosen by cross-validation in which no track is on both
            sides.
        seed: of the folds.

    Raises:
        EvaluationError: fewer than two moods, or a mood with fewer than two tracks.
    """

    def __init__(self, features: Features, moods: Sequence[Mood], tracks: Sequence[str], seed: int = 0) -> None:
        wanted, owner = _indices(moods), np.asarray(tracks)
        features = np.asarray(features, np.float64)  # in float32 probabilities miss 1 by more than scikit-learn likes
        tracks_of = {mood: len(set(owner[wanted == mood])) for mood in np.unique(wanted)}
        if len(tracks_of) < 2 or min(tracks_of.values()) < 2:
            raise EvaluationError("a mood probe needs labelled recordings of two moods or more, and two of each")
        folds = StratifiedGroupKFold(min(FOLDS, *tracks_of.values()), shuffle=True, random_state=seed)
        splits = list(folds.split(features, wanted, owner))
        self.strength: Final = min(STRENGTHS, key=lambda strength: _loss(strength, features, wanted, splits))
        heard = _left_out(self.strength, features, wanted, splits).argmax(1)
        #: Accuracy on tracks left out in turn, averaged over moods: a ceiling from more tracks than are held out.
        self.cross_validated: Final = float(np.mean([(heard == wanted)[wanted == mood].mean() for mood in tracks_of]))
        self._model: Final = _model(self.strength).fit(features, wanted)

    def votes(self, features: Features) -> Floats:
        """[clips, moods], how sure it is of each mood; 0 for moods that it never learnt."""
        return _votes(self._model, features)

    def judge(
        self,
        features: Features,
        moods: Sequence[Mood],
        tracks: Sequence[str],
        rng: np.random.Generator,
        draws: int = 1000,
    ) -> Verdict:
        """Ask what it hears in clips that should be of certain moods."""
        wanted = _indices(moods)
        votes = self.votes(features)
        heard = votes.argmax(1)
        confusion = np.zeros((len(MOODS), len(MOODS)), np.int64)
        np.add.at(confusion, (wanted, heard), 1)
        accuracy = _accuracy(wanted, heard == wanted, np.asarray(tracks), rng, draws)
        return Verdict(accuracy, 1 / len(self._model.classes_), confusion, votes)


def _model(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=2000))


def _loss(
    strength: float,
    features: Features,
    wanted: NDArray[np.intp],
    splits: list[tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> float:
    """Cross-entropy on tracks that were left out, every mood weighing the same."""
    votes = _left_out(strength, features, wanted, splits)
    weights = 1 / np.bincount(wanted)[wanted]
    return float(log_loss(wanted, votes, sample_weight=weights, labels=np.arange(len(MOODS))))


def _left_out(
    strength: float,
    features: Features,
    wanted: NDArray[np.intp],
    splits: list[tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> Floats:
    """[clips, moods], the votes on each track of a model that learnt from others."""
    votes = np.zeros((len(features), len(MOODS)))
    for learnt, left in splits:
        votes[left] = _votes(_model(strength).fit(features[learnt], wanted[learnt]), features[left])
    return votes


def _votes(model: Pipeline, features: Features) -> Floats:
    """[clips, moods]; a fold may lack a mood that has few tracks."""
    votes = np.zeros((len(features), len(MOODS)))
    votes[:, model.classes_] = model.predict_proba(np.asarray(features, np.float64))
    return votes


def _accuracy(
    wanted: NDArray[np.intp], right: NDArray[np.bool_], tracks: NDArray[np.str_], rng: np.random.Generator, draws: int
) -> Estimate:
    """Accuracy averaged over moods, with an interval by bootstrap over the tracks of each mood."""
    values, drawn = [], []
    for mood in np.unique(wanted):
        mine = wanted == mood
        _, owner = np.unique(tracks[mine], return_inverse=True)
        clips, hits = np.bincount(owner), np.bincount(owner, right[mine])
        counts = rng.multinomial(len(clips), np.full(len(clips), 1 / len(clips)), size=draws)
        values.append(right[mine].mean())
        drawn.append(counts @ hits / (counts @ clips))
    return Estimate(float(np.mean(values)), *quantiles(np.mean(drawn, axis=0)))


def _indices(moods: Sequence[Mood]) -> NDArray[np.intp]:
    return np.array([MOODS.index(mood) for mood in moods], np.intp)
