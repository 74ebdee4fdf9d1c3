"""What a made Mel is, beside recorded ones: infinite, exploded, blank, noise, or something that moves as music does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Spectrogram = NDArray[np.float32]

BLOCK_SECONDS: Final = 0.2  #: over which the chance in noise averages out
MOST_BEYOND: Final = 0.01  #: of the cells
MARGIN: Final = 0.5  #: of the recorded range's width: what is further off is no rounding at its edge


@dataclass(frozen=True)
class Recorded:
    """What recorded Mels are like.

    Attributes:
        low: least value of any cell.
        high: greatest value.
        rms: of all cells.
        movement: of the clip that moves least.
        median_movement: of the clip in the middle.
        texture: mean over the clips.
        most_texture: of the clip whose cells change most.
        block: frames in ``BLOCK_SECONDS``.
    """

    low: float
    high: float
    rms: float
    movement: float
    median_movement: float
    texture: float
    most_texture: float
    block: int

    @classmethod
    def of(cls, mels: Sequence[Spectrogram], frames_per_second: float) -> "Recorded":
        """Measure some."""
        low, high = min(float(mel.min()) for mel in mels), max(float(mel.max()) for mel in mels)
        block = max(1, round(BLOCK_SECONDS * frames_per_second))
        moves, textures = [movement(mel, block) for mel in mels], [texture(mel) for mel in mels]
        middle, mean = float(np.median(moves)), float(np.mean(textures))
        rms = float(np.sqrt(np.mean([np.square(mel, dtype=np.float64).mean() for mel in mels])))
        return cls(low, high, rms, min(moves), middle, mean, max(textures), block)


@dataclass(frozen=True)
class Verdict:
    """One clip's.

    Attributes:
        infinite: some cell is not finite.
        exploded: finite, but more than ``MOST_BEYOND`` of the cells are far off any recorded value.
        blank: what can be seen and heard of it, which is what lies in the recorded range, moves less than any
            recording.
        noise: of what can be seen, cells change more from frame to frame than in any recording.
        beyond: share of the cells outside the recorded range.
        movement: of what can be seen; see :func:`movement`. 0 for an infinite clip.
        texture: change from frame to frame, as a multiple of recordings'. 0 for an infinite clip.
    """

    infinite: bool
    exploded: bool
    blank: bool
    noise: bool
    beyond: float
    movement: float
    texture: float


def judge(mel: Spectrogram, recorded: Recorded) -> Verdict:
    """Look at one clip, [bands, frames], normalised as the recorded ones."""
    if not np.isfinite(mel).all():
        beyond = float(1 - ((mel >= recorded.low) & (mel <= recorded.high)).mean())
        return Verdict(True, exploded=False, blank=False, noise=False, beyond=beyond, movement=0.0, texture=0.0)
    far = MARGIN * (recorded.high - recorded.low)
    exploded = float(((mel < recorded.low - far) | (mel > recorded.high + far)).mean()) > MOST_BEYOND
    seen = mel.clip(recorded.low, recorded.high)
    moves, changes = movement(seen, recorded.block), texture(seen)
    return Verdict(
        infinite=False,
        exploded=exploded,
        blank=moves < recorded.movement,
        noise=changes > recorded.most_texture,
        beyond=float((seen != mel).mean()),
        movement=moves,
        texture=changes / recorded.texture,
    )


def movement(mel: Spectrogram, block: int) -> float:
    """How much a Mel changes in time: deviation over blocks of each band's mean, averaged over the bands."""
    blocks = mel.shape[1] // block
    means = mel[:, : blocks * block].reshape(len(mel), blocks, block).mean(2, dtype=np.float64)
    return float(means.std(1).mean())


def texture(mel: Spectrogram) -> float:
    """Mean change of a cell from one frame to the next: fine in recordings, large in noise, 0 in a blank."""
    return float(np.abs(np.diff(mel.astype(np.float64), axis=1)).mean())
