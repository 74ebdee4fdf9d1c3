"""What a worker takes over a window, as ``benchmarks.window_times`` measured or assumed it. Torch-free."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Curve:
    """A worker's pace.

    Attributes:
        name: of the machine, and whether the times were measured.
        steps: passes through the network for a window.
        new_seconds: of music that a window adds.
        step_seconds: of a pass, by the number of windows in it.
        finish_seconds: of what is done once for each window, alone: the vocoder, the score.
        jitter: what passes took over their median, drawn from for each pass; 1 is the median.
    """

    name: str
    steps: int
    new_seconds: float
    step_seconds: Mapping[int, float]
    finish_seconds: float
    jitter: Sequence[float] = (1.0,)

    def step(self, rows: int) -> float:
        """Seconds of a pass, straight between what is known, and in proportion beyond it."""
        known = sorted(self.step_seconds)
        if rows > known[-1]:
            return self.step_seconds[known[-1]] * rows / known[-1]
        return float(np.interp(rows, known, [self.step_seconds[each] for each in known]))

    def window_seconds(self, rows: int) -> float:
        """Of the worker for a window on average, where all passes have so many."""
        return fmean(self.jitter) * (self.steps * self.step(rows) / rows + self.finish_seconds)

    @property
    def rows(self) -> int:
        """Windows in a pass, doubled for as long as that pays: as ``generator.batching.best_rows`` chooses them."""
        best, chosen = math.inf, 1
        for rows in sorted(self.step_seconds):
            seconds = self.step(rows) / rows
            if seconds * 1.2 > best:
                break
            best, chosen = seconds, rows
        return chosen

    @property
    def most_tables(self) -> float:
        """Tables whose music a worker that is never idle just makes, if no mood ever changes."""
        return self.new_seconds / self.window_seconds(self.rows)


def load_curve(path: Path) -> Curve:
    """A curve out of a file of ``benchmarks.window_times``.

    Raises:
        SystemExit: it is none.
    """
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["figures"]
        passes = {int(rows): list(seconds) for rows, seconds in figures["step_seconds"].items()}
        return Curve(
            figures["name"],
            figures["steps"],
            figures["new_seconds"],
            {rows: median(seconds) for rows, seconds in passes.items()},
            median(figures["finish_seconds"]),
            tuple(each / median(seconds) for seconds in passes.values() for each in seconds),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SystemExit(
            f"{path} is no file of window times: make one with python -m benchmarks.window_times"
        ) from None
