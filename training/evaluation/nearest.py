"""The nearest place to a short piece in hours of rows: correlation at every shift and every transposition.

Rows are frames of features, a spectrum in semitones say. The score is Pearson's correlation of two stretches, each
centred along both axes: a frame's mean goes, and with it the course of the loudness; a band's mean goes, and with it
any equaliser. What is left is what the music does. It is 1 for a copy and lies around 0 for strangers.

Correlations are computed by FFT along time, block by block, so that pieces, places and transpositions cost one matrix
product at each frequency.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Rows = NDArray[Any]  #: [frames, bands], of any real type

_BLOCK: Final = 1_024  #: rows in a block
_BLOCKS: Final = 8  #: looked at together
_PIECES: Final = 256  #: looked for together


@dataclass(frozen=True)
class Found:
    """Where each piece lies best.

    Attributes:
        score: [pieces], the correlation there; 0 for a piece that does not move, and where nothing is long enough.
        row: [pieces], the row under the piece's first.
        offset: [pieces], the band under the piece's lowest.
    """

    score: NDArray[np.float32]
    row: NDArray[np.int64]
    offset: NDArray[np.int64]


def nearest(pieces: NDArray[np.float32], rows: Rows, ends: NDArray[np.int64], still: float) -> Found:
    """Find each piece's best place.

    Args:
        pieces: [pieces, length, width]; a piece is shorter than 1,024 frames.
        rows: [frames, bands]; a piece is tried at every offset from 0 to bands − width.
        ends: [tracks], the row after each recording's last; no place lies across an end.
        still: standard deviation below which a stretch counts as not moving, so that it can't score high by chance.
    """
    count, length, width = pieces.shape
    found = Found(np.zeros(count, np.float32), np.zeros(count, np.int64), np.zeros(count, np.int64))
    least = (still * (length * width) ** 0.5) ** 2  # energy
    queries = [_spectrum(_normalised(pieces[first : first + _PIECES], least)) for first in range(0, count, _PIECES)]
    for start, blocks in _blocks(rows, length):
        spectrum = torch.fft.rfft(blocks, dim=1).permute(1, 2, 0).contiguous()  # [frequencies, bands, blocks]
        energies = _Energies(blocks, length, width)
        inside = _inside(start, len(blocks) * (_BLOCK - length + 1), length, ends).reshape(len(blocks), -1)
        for offset in range(rows.shape[1] - width + 1):
            weight = torch.where(inside, energies.at(offset).clamp(min=least).rsqrt(), 0.0).float()
            here = spectrum[:, offset : offset + width]
            for number, query in enumerate(queries):
                product = torch.fft.irfft(torch.bmm(query, here).permute(1, 2, 0), _BLOCK, dim=2)
                # Blocks overlap by what a piece is long, so the places in them follow one another without a gap.
                score, place = (product[..., : weight.shape[1]] * weight).flatten(1).max(dim=1)
                _keep(found, number * _PIECES, score.numpy(), start + place.numpy(), offset)
    return found


def _spectrum(pieces: Tensor) -> Tensor:
    """The conjugate of what a correlation multiplies by, [frequencies, pieces, bands]; laid out once, used often."""
    spectrum: Tensor = torch.fft.rfft(pieces, _BLOCK, dim=1).conj().movedim(1, 0).resolve_conj().contiguous()
    return spectrum


def _keep(found: Found, first: int, score: NDArray[np.float32], row: NDArray[np.int64], offset: int) -> None:
    """Take what is better than what was found for the pieces from ``first`` on."""
    better = np.flatnonzero(score > found.score[first : first + len(score)])
    found.score[first + better] = score[better]
    found.row[first + better] = row[better]
    found.offset[first + better] = offset


def _blocks(rows: Rows, length: int) -> Iterator[tuple[int, Tensor]]:
    """The first row of some blocks and the blocks, [blocks, _BLOCK, bands]; each place lies whole in one of them."""
    step = _BLOCK - length + 1
    for start in range(0, len(rows) - length + 1, step * _BLOCKS):
        count = min(_BLOCKS, -(-(len(rows) - length + 1 - start) // step))
        piece = np.asarray(rows[start : start + (count - 1) * step + _BLOCK], np.float32)
        # The frames' means make no difference to the result; without them its rounding errors are small.
        piece = piece - piece.mean(axis=1, keepdims=True)
        padded = np.pad(piece, ((0, (count - 1) * step + _BLOCK - len(piece)), (0, 0)))
        yield start, torch.from_numpy(padded).unfold(0, _BLOCK, step).movedim(2, 1)


def _inside(start: int, count: int, length: int, ends: NDArray[np.int64]) -> Tensor:
    """Whether each of ``count`` places from row ``start`` on lies whole in one recording, [count]."""
    first = start + np.arange(count)
    track = np.searchsorted(ends, first, side="right")
    return torch.from_numpy((track < len(ends)) & (track == np.searchsorted(ends, first + length - 1, side="right")))


def _normalised(pieces: NDArray[np.float32], least: float) -> Tensor:
    """Centred along both axes, of energy 1 (less where there was less than ``least``)."""
    centred = torch.from_numpy(pieces - pieces.mean(axis=2, keepdims=True))
    centred = centred - centred.mean(dim=1, keepdim=True)
    normalised: Tensor = centred * centred.square().sum(dim=(1, 2), keepdim=True).clamp(min=least).rsqrt()
    return normalised


class _Energies:
    """The energy of every stretch of some blocks once it is centred along both axes, from running sums."""

    def __init__(self, blocks: Tensor, length: int, width: int) -> None:
        self._blocks, self._length, self._width = blocks.double(), length, width
        self._sums = self._moving(self._blocks)
        self._squares = self._moving(self._blocks.square())

    def at(self, offset: int) -> Tensor:
        """For the bands from ``offset`` on: [blocks, places]."""
        bands = slice(offset, offset + self._width)
        by_frame = self._moving(self._blocks[..., bands].sum(-1).square())
        sums = self._sums[..., bands]
        whole = sums.sum(-1).square() / (self._length * self._width)
        return self._squares[..., bands].sum(-1) - by_frame / self._width - sums.square().sum(-1) / self._length + whole

    def _moving(self, values: Tensor) -> Tensor:
        """Sums over ``length`` rows from each on, [blocks, places, …]."""
        running = F.pad(values.cumsum(dim=1), (0,) * (2 * (values.dim() - 2)) + (1, 0))
        return running[:, self._length :] - running[:, : -self._length]
