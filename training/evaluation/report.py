"""The report: figures, each beside real music and planted failures; faults in sentences; JSON and back."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

from training.errors import EvaluationError
from training.storage import write_atomically

FORMAT: Final = 1
REPORT_NAME: Final = "report.json"

Wish = Literal["low", "high", "real"]  #: less is better, more is better, or as near to real music's as can be
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the card.

    Attributes:
        section: what it belongs to.
        name: unique in the report.
        unit: of all its values; empty for a pure number.
        wish: which way is better.
        value: of what is judged; ``None`` where it could not be measured.
        interval: 95 %, by bootstrap over whole tracks; ``None`` where none was made.
        real: the same of held-out recordings: the ceiling.
        planted: the same of failures made on purpose, by name.
        aim: what counts as good enough, in words.
        met: whether it is; ``None`` where there is nothing to hold it against.
    """

    section: str
    name: str
    unit: str
    wish: Wish
    value: float | None
    interval: Interval | None
    real: float | None
    planted: dict[str, float | None]
    aim: str
    met: bool | None

    def compared(self, other: "Figure") -> Literal["better", "worse", "same"] | None:
        """How this one fares against an earlier one: by more than both intervals, or it is the same.

        ``None`` where either was not measured.
        """
        if self.value is None or other.value is None:
            return None
        if self.interval is not None and other.interval is not None:
            (low, high), (other_low, other_high) = self.interval, other.interval
            if low <= other_high and other_low <= high:
                return "same"
        mine, theirs = self._badness(self.value), other._badness(other.value)
        if mine is None or theirs is None or mine == theirs:
            return "same"
        return "better" if mine < theirs else "worse"

    def _badness(self, value: float) -> float | None:
        if self.wish == "real":
            return None if self.real is None else abs(value - self.real)
        return value if self.wish == "low" else -value


@dataclass(frozen=True, slots=True)
class Pair:
    """A clip and the stretch of a training recording that it is most like."""

    clip: str
    track: str
    start: float
    score: float


@dataclass(frozen=True)
class Report:
    """The whole card.

    Attributes:
        judged: the model or folder.
        about: how it was judged: clips, seconds, seed, reference, embedding, versions.
        figures: the card's lines.
        faults: what should not ship, each a sentence; empty if there is nothing.
        confusion: [moods, moods], clips of the row's mood that the probe takes for the column's; may be empty.
        pairs: the clips closest to training recordings, closest first.
        curves: what the picture draws, by name.
    """

    judged: str
    about: dict[str, str]
    figures: tuple[Figure, ...]
    faults: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...] = ()
    pairs: tuple[Pair, ...] = ()
    curves: dict[str, list[float]] = field(default_factory=dict)

    def figure(self, name: str) -> Figure | None:
        """The figure of that name."""
        return next((figure for figure in self.figures if figure.name == name), None)

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        body = {"format": FORMAT, **asdict(self)}
        write_atomically(path, json.dumps(body, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """The inverse of :meth:`save`.

        Raises:
            EvaluationError: there is no report, or it is damaged or of another version.
        """
        try:
            body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if body.pop("format") != FORMAT:
                raise EvaluationError(f"{path} was written by another version; evaluate that model again")
            figures = tuple(Figure(**{**each, "interval": _pair(each["interval"])}) for each in body.pop("figures"))
            pairs = tuple(Pair(**each) for each in body.pop("pairs"))
            confusion = tuple(tuple(row) for row in body.pop("confusion"))
            return cls(**{**body, "faults": tuple(body["faults"])}, figures=figures, pairs=pairs, confusion=confusion)
        except OSError as error:
            raise EvaluationError(f"{path} can't be read ({error.strerror}); name a report.json") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EvaluationError(f"{path} is no report of `bardcast-train evaluate`") from None


def _pair(value: list[float] | None) -> Interval | None:
    return None if value is None else (value[0], value[1])
