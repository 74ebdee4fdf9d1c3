"""What ``prepare`` made: the tracks, their shards, and which of them are held out.

A prepared folder holds ``manifest.json``, ``shards/`` and ``cache/``. A shard is one track's clips, an ``.npy`` of
int16 ``[clips, clip_samples]``, mono. The manifest is only ever derived: every shard has a sidecar (``<key>.json``),
written after it, and a shard without one is no shard.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from generator.moods import MOODS, Mood, parse_mood
from training.errors import ManifestError
from training.storage import write_atomically

FORMAT: Final = 1  #: of manifest, sidecars and shards
SAMPLE_RATE: Final = 48_000  #: Hz
CLIP_SECONDS: Final = 10
CLIP_SAMPLES: Final = CLIP_SECONDS * SAMPLE_RATE

MANIFEST_NAME: Final = "manifest.json"
SHARDS_NAME: Final = "shards"
CACHE_NAME: Final = "cache"
CACHES: Final = ("mel-*", "heard-*.npz", "nearest-*.json", "pitches-*.npy")  #: what is kept there

Split = Literal["train", "validation"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Track:
    """One recording and the clips taken from it.

    Attributes:
        key: names the shard; another as soon as the file's path or content is another.
        source: path of the recording, relative to the folder that was prepared.
        sha256: of the recording's file.
        mood: by the folder that it lies in.
        labelled: whether the mood is sure enough to learn from; if not, train on the track with the mood dropped.
        confidence: of the mood, 0 to 1; 1 where nobody stated one.
        licence: as stated in ``tracks.csv``, if it was.
        split: which side the whole track is on.
        clips: rows of the shard.
        dropped_silent: clips left out as silent.
        rms: of the clips kept, full scale 1.0; 0 if there are none.
    """

    key: str
    source: str
    sha256: str
    mood: Mood
    labelled: bool
    confidence: float
    licence: str | None
    split: Split
    clips: int
    dropped_silent: int
    rms: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """The tracks in a prepared folder.

    Attributes:
        folder: where ``manifest.json`` lies.
        tracks: in the order of their sources.
        sample_rate: Hz.
        clip_samples: length of a clip.
        source: the folder of the recordings, absolute; empty where an older version prepared them.
    """

    folder: Path
    tracks: tuple[Track, ...]
    sample_rate: int = SAMPLE_RATE
    clip_samples: int = CLIP_SAMPLES
    source: str = ""

    @property
    def cache(self) -> Path:
        """For what is made of just these tracks, and remade where it is missing; ``prepare`` empties it."""
        return self.folder / CACHE_NAME

    def shard(self, track: Track) -> NDArray[np.int16]:
        """The clips of ``track``: int16 ``[clips, clip_samples]``, memory-mapped, read-only.

        Raises:
            ManifestError: the shard is missing, cut short or of another shape.
        """
        if track.clips == 0:  # an empty file can't be mapped, so none was written
            return np.empty((0, self.clip_samples), np.int16)
        path = shard_path(self.folder, track.key)
        if not shard_is_whole(path, track.clips, self.clip_samples):
            raise ManifestError(f"{path} is missing or damaged; run `bardcast-train prepare` again to remake it")
        clips: NDArray[np.int16] = np.load(path, mmap_mode="r", allow_pickle=False)
        return clips

    def of(self, split: Split) -> tuple[Track, ...]:
        """The tracks on one side of the split that have clips."""
        return tuple(track for track in self.tracks if track.split == split and track.clips)

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Tracks, clips and labelled clips, by split and mood."""
        return {
            split: {mood: _count([track for track in self.of(split) if track.mood == mood]) for mood in MOODS}
            for split in SPLITS
        }

    def save(self) -> None:
        """Write ``manifest.json``, whole or not at all."""
        body = {
            "format": FORMAT,
            "sample_rate": self.sample_rate,
            "clip_samples": self.clip_samples,
            "source": self.source,
            "counts": self.counts(),
            "tracks": [asdict(track) for track in self.tracks],
        }
        write_atomically(self.folder / MANIFEST_NAME, json.dumps(body, indent=1) + "\n")


def load_manifest(path: Path) -> Manifest:
    """The manifest at ``path``, which is a prepared folder or the ``manifest.json`` in it.

    Raises:
        ManifestError: there is none, or it is damaged or of another format.
    """
    file = path if path.suffix == ".json" else path / MANIFEST_NAME
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if any((path / mood).is_dir() for mood in MOODS):
            raise ManifestError(
                f"{path} holds recordings that are not prepared: run `bardcast-train prepare {path} --out DIR` with "
                "another folder, and give that"
            ) from None
        raise ManifestError(
            f"there is no {file}; make it with `bardcast-train prepare SRC --out {file.parent}`"
        ) from None
    except (OSError, ValueError) as error:
        raise ManifestError(f"can't read {file} ({error}); run `bardcast-train prepare` again to remake it") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ManifestError(f"{file} is of another version; run `bardcast-train prepare` again to remake it")
    try:
        tracks = tuple(_track(entry) for entry in body["tracks"])
        return Manifest(
            file.parent, tracks, int(body["sample_rate"]), int(body["clip_samples"]), str(body.get("source", ""))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{file} is damaged ({error}); run `bardcast-train prepare` again to remake it") from error


def shard_path(folder: Path, key: str) -> Path:
    """Where the shard called ``key`` lies in a prepared folder."""
    return folder / SHARDS_NAME / f"{key}.npy"


def sidecar_path(folder: Path, key: str) -> Path:
    """Where the sidecar of the shard called ``key`` lies."""
    return folder / SHARDS_NAME / f"{key}.json"


def shard_is_whole(path: Path, clips: int, clip_samples: int = CLIP_SAMPLES) -> bool:
    """Whether the file has the header of ``clips`` clips and exactly as many bytes as they need."""
    try:
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                return False
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            header_bytes = file.tell()
            body_bytes = file.seek(0, os.SEEK_END) - header_bytes
    except (OSError, ValueError):
        return False
    return bool(
        shape == (clips, clip_samples)
        and not fortran
        and dtype == np.dtype("<i2")
        and body_bytes == clips * clip_samples * dtype.itemsize
    )


def _track(entry: dict[str, Any]) -> Track:
    track = Track(**entry)
    if track.split not in SPLITS:
        raise ValueError(f"no such split: {track.split}")
    parse_mood(track.mood)
    return track


def _count(tracks: Sequence[Track]) -> dict[str, int]:
    return {
        "tracks": len(tracks),
        "clips": sum(track.clips for track in tracks),
        "labelled_clips": sum(track.clips for track in tracks if track.labelled),
    }
