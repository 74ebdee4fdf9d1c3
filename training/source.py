"""A folder of recordings, ``<mood>/*``: what is in it, how sure each mood is, and which tracks are held out."""

import csv
import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from generator.moods import MOODS, Mood, UnknownMood, parse_mood
from training.errors import SourceError
from training.manifest import Split

SUFFIXES: Final = (".mp3", ".ogg", ".opus", ".flac", ".wav", ".m4a")

#: A table beside the mood folders; ``corpus fetch`` writes it, and anybody may. Read are the columns ``file`` (path
#: in the folder) and, where present, ``split``, ``confidence`` and ``licence``.
LABELS_NAME: Final = "tracks.csv"

#: A mood surer than this is learned from; below, the track is used with its mood dropped.
SURE: Final = 0.5

HELD_OUT_SHARE: Final = 0.12  #: of a mood's tracks, where ``tracks.csv`` doesn't say


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of music.

    Attributes:
        path: where it is.
        source: its path in the prepared folder, with ``/``.
        mood: by its folder.
        size: bytes.
    """

    path: Path
    source: str
    mood: Mood
    size: int


@dataclass(frozen=True, slots=True)
class Label:
    """What ``tracks.csv`` says of one file; the defaults hold for a file that it does not name."""

    split: Split | None = None
    confidence: float = 1.0
    licence: str | None = None

    @property
    def sure(self) -> bool:
        """Whether the mood is learned from."""
        return self.confidence >= SURE


@dataclass(frozen=True, slots=True)
class Found:
    """The recordings of a folder, ordered by path, and sentences on what was passed over."""

    recordings: tuple[Recording, ...]
    notes: tuple[str, ...]


def find_recordings(folder: Path) -> Found:
    """All recordings under ``folder/<mood>/``, at any depth. Names that begin with a dot are passed over.

    Raises:
        SourceError: it is no folder, can't be read, has a folder that is no mood, or holds no recording.
    """
    layout = f"put recordings ({', '.join(suffix[1:] for suffix in SUFFIXES)}) into folders named after moods in it"
    recordings: list[Recording] = []
    strays: list[str] = []
    others = 0
    try:
        for entry in _entries(folder):
            if not entry.is_dir():
                strays += [entry.name] * (is_sound(entry.name))
                continue
            mood = _mood(entry)
            for path in _files(Path(entry.path)):
                if is_sound(path.name):
                    source = path.relative_to(folder).as_posix()
                    recordings.append(Recording(path, source, mood, path.stat().st_size))
                else:
                    others += 1
    except FileNotFoundError:
        raise SourceError(f"there is no folder {folder}; {layout}") from None
    except NotADirectoryError:
        raise SourceError(f"{folder} is a file, not a folder of recordings") from None
    except PermissionError as error:
        raise SourceError(f"no permission to read {error.filename}; change that, or run as its owner") from error
    except OSError as error:
        raise SourceError(f"can't read {error.filename or folder}: {error.strerror}") from error
    if not recordings:
        raise SourceError(f"there is no recording in {folder}; {layout} ({', '.join(MOODS)})")
    notes = []
    if strays:
        notes.append(f"left out, because in no mood's folder: {', '.join(sorted(strays))}")
    if others:
        notes.append(f"{others} files of other kinds were passed over")
    return Found(tuple(sorted(recordings, key=lambda recording: recording.source)), tuple(notes))


def read_labels(folder: Path) -> dict[str, Label]:
    """What ``tracks.csv`` in ``folder`` says, by source; empty if there is none.

    Raises:
        SourceError: it can't be read, or a row makes no sense.
    """
    path = folder / LABELS_NAME
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if "file" not in (table.fieldnames or ()):
                raise SourceError(f"{path} has no column 'file'; add it (path in the folder) or remove the table")
            return dict(_row(path, row) for row in table)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"can't read {path} ({error}); mend it or remove it") from error


def split_tracks(
    recordings: Mapping[Recording, str], labels: Mapping[str, Label]
) -> tuple[dict[Recording, Split], list[Mood]]:
    """The side of each recording, and the moods that have nothing held out.

    ``tracks.csv`` decides where it says so. Of the rest, about ``HELD_OUT_SHARE`` of a mood, and at least one if
    there are two or more, chosen by a hash of the name: the same on every machine, whatever order the files come
    in. Files of equal content are on one side even across moods.

    Args:
        recordings: each with the SHA-256 of its file.
        labels: from :func:`read_labels`.
    """
    unsaid = Label()
    said = {recording: labels.get(recording.source, unsaid).split for recording in recordings}
    held = {recordings[recording] for recording, side in said.items() if side == "validation"}
    by_mood: defaultdict[Mood, list[Recording]] = defaultdict(list)
    for recording in sorted(recordings, key=lambda recording: _rank(recording.source)):
        by_mood[recording.mood].append(recording)
    for group in by_mood.values():
        # By content, so that copies of one track don't count as two.
        free = list(dict.fromkeys(recordings[recording] for recording in group if said[recording] is None))
        number = round(HELD_OUT_SHARE * len(free))
        if free and len({recordings[recording] for recording in group}) > 1:
            number = max(number, 0 if any(said[recording] == "validation" for recording in group) else 1)
        held.update(free[:number])
    sides: dict[Recording, Split] = {
        recording: "validation" if sha256 in held else "train" for recording, sha256 in recordings.items()
    }
    bare = [mood for mood in MOODS if by_mood[mood] and all(sides[recording] == "train" for recording in by_mood[mood])]
    return sides, bare


def _rank(source: str) -> tuple[str, str]:
    # By the name without its suffix: a track that was only re-encoded stays where it was.
    stem = PurePosixPath(source).stem.encode("utf-8", "surrogateescape")
    return hashlib.sha256(stem).hexdigest(), source


def _row(path: Path, row: Mapping[str, str | None]) -> tuple[str, Label]:
    if not row["file"]:
        raise SourceError(f"{path}: a row names no file; mend it or remove it")
    return PurePosixPath(row["file"]).as_posix(), _label(path, row)


def _label(path: Path, row: Mapping[str, str | None]) -> Label:
    sides: dict[str, Split | None] = {"train": "train", "validation": "validation", "": None}
    split = (row.get("split") or "").strip()
    if split not in sides:
        raise SourceError(f"{path}: the split of {row['file']} is {split!r}; it must be train, validation or empty")
    try:
        confidence = float(row.get("confidence") or 1.0)
    except ValueError:
        confidence = math.nan
    if not 0 <= confidence <= 1:
        raise SourceError(f"{path}: the confidence of {row['file']} must be a number from 0 to 1")
    return Label(sides[split], confidence, row.get("licence") or None)


def _mood(entry: os.DirEntry[str]) -> Mood:
    try:
        return parse_mood(entry.name)
    except UnknownMood as error:
        raise SourceError(f"{entry.path}: {error}") from error


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)


def _files(folder: Path) -> Iterator[Path]:
    """All files below; unlike ``rglob``, a folder that can't be read is an error and not an empty one."""
    for entry in _entries(folder):
        if entry.is_dir():
            if not folder.resolve().is_relative_to(Path(entry.path).resolve()):  # else a link back up
                yield from _files(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def is_sound(name: str) -> bool:
    """Whether a file of this name is taken for music."""
    return name.lower().endswith(SUFFIXES)
