"""What recordings are compared by: their spectrum in semitones, 12.5 times a second, a byte a value.

The bands are a semitone apart from C2 to B8: a Mel scale that is logarithmic all the way down, so that a transposition
is a shift by whole bands. Levels are relative to the recording's own, so gain does not count.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.manifest import SAMPLE_RATE, Manifest, Track
from training.storage import save_array, writing_to

FORMAT: Final = 1  #: another as soon as a fingerprint is computed otherwise
BANDS: Final = 84
LOWEST_HZ: Final = 440 * 2 ** (-33 / 12)  #: C2
HOP: Final = 3_840
FRAMES_PER_SECOND: Final = SAMPLE_RATE / HOP
STEP_DB: Final = 0.3  #: a byte spans 76 dB
_FLOOR_DB: Final = -50.0  #: of a band, where a sine as loud as the whole recording has 0
_FFT: Final = 8_192  #: bins of 5.9 Hz, 0.17 s
_BLOCK: Final = 512  #: frames analysed at a time

Pitches = NDArray[np.uint8]  #: [frames, BANDS], in steps of STEP_DB


@dataclass(frozen=True)
class Library:
    """The fingerprints of the recordings that were learnt from, end to end.

    Attributes:
        pitches: [frames, BANDS], memory-mapped if it came from the cache.
        ends: [tracks], the frame after each recording's last.
        sources: each recording's name.
    """

    pitches: Pitches
    ends: NDArray[np.int64]
    sources: tuple[str, ...]

    def place(self, frame: int) -> tuple[str, float]:
        """The recording that a frame belongs to, and how many seconds into it."""
        track = int(np.searchsorted(self.ends, frame, side="right"))
        first = int(self.ends[track - 1]) if track else 0
        return self.sources[track], (frame - first) / FRAMES_PER_SECOND


def load_library(manifest: Manifest) -> Library:
    """The training side's fingerprints; computed once and kept in the prepared folder.

    Raises:
        ManifestError: a shard is missing or damaged.
        StorageError: they can't be written.
    """
    tracks = manifest.of("train")
    lengths = [track.clips * manifest.clip_samples // HOP for track in tracks]
    path = manifest.cache / f"pitches-{_identity(manifest, tracks)}.npy"
    pitches = _read(path.as_posix(), (sum(lengths), BANDS))
    if pitches is None:
        bar = tqdm(tracks, desc="fingerprints", unit="track", disable=None)
        pitches = np.concatenate(
            [track_fingerprint(manifest, track) for track in bar] or [np.empty((0, BANDS), np.uint8)]
        )
        with writing_to(manifest.cache, "PREPARED"):
            manifest.cache.mkdir(exist_ok=True)
            save_array(path, pitches)
    return Library(pitches, np.cumsum(lengths, dtype=np.int64), tuple(track.source for track in tracks))


def track_fingerprint(manifest: Manifest, track: Track) -> Pitches:
    """A prepared recording's fingerprint, its clips end to end."""
    return fingerprint(manifest.shard(track).reshape(-1), track.rms * 32_768)


def fingerprint(sound: NDArray[Any], rms: float | None = None) -> Pitches:
    """The spectrum in semitones along a recording.

    Args:
        sound: [samples], mono, 48 kHz, finite, of any real type; may be memory-mapped.
        rms: of the whole recording that it is part of, in the same unit; its own if not given.

    Returns:
        [samples // HOP, BANDS]; frame k is centred on the middle of hop k.
    """
    if rms is None:
        rms = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0
    frames = len(sound) // HOP
    window, filters = torch.hann_window(_FFT), _filters()
    pitches = np.empty((frames, BANDS), np.uint8)
    for first in range(0, frames, _BLOCK):
        count = min(_BLOCK, frames - first)
        begin = first * HOP + HOP // 2 - _FFT // 2
        views = torch.from_numpy(_stretch(sound, begin, begin + (count - 1) * HOP + _FFT)).unfold(0, _FFT, HOP)
        power = torch.fft.rfft(views * window).abs().square() @ filters
        decibels = 10 * torch.log10(power / max(rms, 1e-6) ** 2 + 1e-12)
        pitches[first : first + count] = ((decibels - _FLOOR_DB) / STEP_DB).round().clamp(0, 255).byte().numpy()
    return pitches


def chroma(pitches: Pitches) -> NDArray[np.float32]:
    """How strong each pitch class is in each frame, [frames, 12] from C to B: amplitudes, the strongest 1."""
    amplitude = np.power(10, np.arange(256) * (STEP_DB / 20), dtype=np.float32)  # of each byte
    amplitude[0] = 0  # the floor, and what lies below it
    folded = amplitude[pitches].reshape(len(pitches), -1, 12).sum(axis=1)
    strongest: NDArray[np.float32] = folded / np.maximum(folded.max(axis=1, keepdims=True), 1)
    return strongest


def _stretch(sound: NDArray[Any], begin: int, end: int) -> NDArray[np.float32]:
    """The samples from ``begin`` to ``end``, silence where the sound has none."""
    piece = np.asarray(sound[max(0, begin) : end], np.float32)
    return np.pad(piece, (max(0, -begin), end - max(0, begin) - len(piece)))


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """Power spectrum → power in bands, [bins, BANDS]: triangles a semitone to either side, or a bin if wider."""
    centres = LOWEST_HZ * 2 ** (np.arange(BANDS) / 12) * _FFT / SAMPLE_RATE
    width = np.maximum(centres * (2 ** (1 / 12) - 1), 1.0)
    distance = np.abs(np.arange(_FFT // 2 + 1)[:, None] - centres)
    # Under a Hann window a sine of RMS 1 has a peak of FFT² / 8.
    return torch.from_numpy((np.maximum(0, 1 - distance / width) / (_FFT**2 / 8)).astype(np.float32))


def _identity(manifest: Manifest, tracks: tuple[Track, ...]) -> str:
    parts = {"format": FORMAT, "tracks": [track.key for track in tracks], "clip": manifest.clip_samples}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: str, shape: tuple[int, int]) -> Pitches | None:
    """The cached array, memory-mapped; ``None`` where it is missing, cut short or of another shape."""
    try:
        array: Pitches = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None
