"""A straight line through measurements, and how straight they lie, so that "linear" is a figure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Line:
    """Least squares of y over x.

    Attributes:
        slope: of the line.
        intercept: its y at x = 0.
        r_squared: the share of y's variance that the line explains; 1 is a perfect line.
        largest_deviation: of any point from the line, in y's unit.
        largest_deviation_share: the same over the line's y at that point.
    """

    slope: float
    intercept: float
    r_squared: float
    largest_deviation: float
    largest_deviation_share: float

    def at(self, x: float) -> float:
        """The line's y."""
        return self.intercept + self.slope * x

    def reaches(self, y: float) -> float:
        """The x at which the line has that y."""
        return (y - self.intercept) / self.slope


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line through the points (x, y).

    Raises:
        ValueError: the points don't have two different x.
    """
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(np.unique(across)) < 2:
        raise ValueError("a line needs points at two different places")
    from_middle = across - across.mean()
    slope = float(from_middle @ up / (from_middle @ from_middle))
    intercept = float(up.mean() - slope * across.mean())
    line = intercept + slope * across
    left = up - line
    spread = float(np.sum((up - up.mean()) ** 2))
    worst = int(np.abs(left).argmax())
    return Line(
        slope,
        intercept,
        1 - float(left @ left) / spread if spread else 1.0,  # points of one height lie on a line, whatever its slope
        float(abs(left[worst])),
        float(abs(left[worst] / line[worst])) if line[worst] else 0.0,
    )
