"""How loud: integrated loudness (ITU-R BS.1770-4, with its two gates) and loudness range (EBU Tech 3342).

A mono sound counts as one loudspeaker, as in the recommendation; a table that hears it from two hears 3 LU more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.loudness import FLOOR_LUFS, powers
from training.evaluation.excerpts import Excerpt
from training.manifest import SAMPLE_RATE

SILENT_LUFS: Final = FLOOR_LUFS  #: BS.1770's absolute gate: what stays below it has no loudness
_OFFSET: Final = -0.691  #: BS.1770-4, equation 2
_RELATIVE_GATE_LU: Final = -10.0  #: BS.1770-4, equation 6
_RANGE_GATE_LU: Final = -20.0  #: EBU Tech 3342, section 3
_RANGE_PERCENTILES: Final = (10, 95)
_STEP: Final = SAMPLE_RATE // 10  #: blocks begin 0.1 s apart: momentary ones overlap by 75 %
_MOMENTARY_STEPS: Final = 4  #: 0.4 s
_SHORT_TERM_STEPS: Final = 30  #: 3 s

Powers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loudness:
    """One excerpt's loudness.

    Attributes:
        integrated: LUFS; ``SILENT_LUFS`` where nothing is above the gate, or the sound is shorter than 0.4 s.
        range: LU, how far its quiet and its loud parts lie apart; 0 where it is silent or shorter than 3 s.
            Grows with length: compare excerpts that are equally long.
    """

    integrated: float
    range: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The loudness of many.

    Attributes:
        silent: how many have no loudness; they are left out of the other figures.
        median: LUFS; ``SILENT_LUFS`` if all are silent.
        spread: LU between the 10th and the 90th percentile of them; 0 if all are silent.
        range: LU, the median of their ranges; 0 if all are silent.
    """

    silent: int
    median: float
    spread: float
    range: float


def measure(excerpt: Excerpt) -> Loudness:
    """Loudness and loudness range of one excerpt."""
    steps = powers(excerpt.heard, _STEP)
    momentary = _gated(_moving_mean(steps, _MOMENTARY_STEPS), _RELATIVE_GATE_LU)
    short_term = _gated(_moving_mean(steps, _SHORT_TERM_STEPS), _RANGE_GATE_LU)
    low, high = np.percentile(_lufs(short_term), _RANGE_PERCENTILES) if len(short_term) else (0.0, 0.0)
    return Loudness(float(_lufs(momentary.mean())) if len(momentary) else SILENT_LUFS, float(high - low))


def summary(found: Sequence[Loudness]) -> Summary:
    """What there is to say of many excerpts of one length."""
    heard = [one for one in found if one.integrated > SILENT_LUFS]
    if not heard:
        return Summary(len(found), SILENT_LUFS, 0.0, 0.0)
    low, median, high = np.percentile([one.integrated for one in heard], (10, 50, 90))
    return Summary(
        len(found) - len(heard), float(median), float(high - low), float(np.median([one.range for one in heard]))
    )


def _moving_mean(steps: Powers, count: int) -> Powers:
    """The power of each block of ``count`` steps, one beginning at each; none if there are fewer."""
    if len(steps) < count:
        return np.empty(0)
    blocks: Powers = np.lib.stride_tricks.sliding_window_view(steps, count).mean(axis=1)
    return blocks


def _gated(blocks: Powers, relative: float) -> Powers:
    """The blocks above the absolute gate, and of these the ones above the gate relative to their mean."""
    kept = blocks[_lufs(blocks) > SILENT_LUFS]
    return kept[_lufs(kept) > _lufs(kept.mean()) + relative] if len(kept) else kept


def _lufs(power: Powers | np.float64) -> Powers:
    """LUFS of a mean square of K-weighted samples; far below the gate where there are none."""
    return np.asarray(_OFFSET + 10 * np.log10(np.maximum(power, 1e-12)))
