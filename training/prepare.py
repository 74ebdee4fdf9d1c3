"""Folders of recordings per mood → 10-second clips → shards and a manifest."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from generator.moods import MOODS
from training.decode import Decoder
from training.errors import DecodeError, ManifestError, StorageError
from training.manifest import (
    CACHES,
    CLIP_SAMPLES,
    CLIP_SECONDS,
    FORMAT,
    SHARDS_NAME,
    Manifest,
    Split,
    Track,
    load_manifest,
    shard_is_whole,
    shard_path,
    sidecar_path,
)
from training.source import LABELS_NAME, Label, Recording, find_recordings, read_labels, split_tracks
from training.storage import write_atomically, writing_to

CLIP_BYTES: Final = CLIP_SAMPLES * 2

#: dBFS. A clip whose RMS lies below is silence: the pause around a track, the end of a fade. The quietest track of the
#: corpus has −38.
SILENCE_DBFS: Final = -50.0

FEW: Final = 5  #: names in a sentence

_FULL_SCALE: Final = 32768.0
_OURS: Final = re.compile(rf"({'|'.join(MOODS)})-\w*-[0-9a-f]{{16}}")  #: a shard's key


@dataclass(frozen=True, slots=True)
class Measured:
    """What decoding one recording found; the sidecar of its shard.

    Attributes:
        key: of the shard.
        sha256: of the recording's file.
        clips: rows of the shard.
        dropped_silent: clips left out as silent.
        rms: of the clips kept, full scale 1.0.
        format: of the preparation.
    """

    key: str
    sha256: str
    clips: int
    dropped_silent: int
    rms: float
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run of :func:`prepare` did.

    Attributes:
        manifest: all that is usable now.
        decoded: recordings decoded in this run; the others were there already.
        broken: a sentence for each recording that was skipped.
        notes: sentences on what the user may not expect.
    """

    manifest: Manifest
    decoded: int
    broken: tuple[str, ...]
    notes: tuple[str, ...]


class _Stopped(Exception):  # noqa: N818 - not an error
    """The run is ending: a worker puts its work down."""


def cores() -> int:
    """Those that this process may use, where the system tells; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(source: Path, out: Path, workers: int | None = None) -> Prepared:
    """Cut every recording under ``source/<mood>/`` into clips, into ``out``; go on where an earlier run stopped.

    Args:
        source: the recordings.
        out: for the shards and the manifest, which are the same however many workers made them.
        workers: recordings decoded at once, each by an ffmpeg of its own; as many as there are cores, if not said.

    Raises:
        SourceError: the folder is missing, empty, unreadable or has a folder that is no mood.
        StorageError: ``out`` can't be written or holds another folder's clips, or the disk is full.
    """
    if out.resolve().is_relative_to(source.resolve()):
        raise StorageError(f"{out} lies in the folder of the recordings; choose another --out")
    found = find_recordings(source)
    labels = read_labels(source)
    with writing_to(out, "--out"), _lock(out):
        before, home = _earlier_run(out)
        earlier = {track.source: track.key for track in before}
        # A recording of another mood now has its name still; so may those of a folder that was moved.
        names = {Path(each).name for each in earlier}
        still = names & {recording.path.name for recording in found.recordings}
        if len(still) < len(names) / 2 and home != str(source.resolve()):
            raise StorageError(
                f"{out} holds clips of other recordings, most of which are not in {source}; "
                "choose another --out, or remove it"
            )
        measured, broken, decoded = _decode_all(found.recordings, out, workers or cores())
        manifest, notes = _manifest(measured, labels, source, out)
        manifest.save()
        if _sides(before) != _sides(manifest.tracks):
            _remove_caches(manifest.cache)
        # What can't be read today was decoded once, and may be there again tomorrow.
        missed = {recording.source for recording in found.recordings if recording not in measured}
        kept = {key for source_there, key in earlier.items() if source_there in missed}
        removed = _remove_stale(out, {track.key for track in manifest.tracks} | kept)
    if removed:
        notes.append(f"{removed} shards of recordings that are gone or changed were removed")
    if unknown := sorted(labels.keys() - {recording.source for recording in found.recordings}):
        few = ", ".join(unknown[:FEW]) + (f" and {len(unknown) - FEW} more" if len(unknown) > FEW else "")
        notes.append(f"{LABELS_NAME} names what is no recording here: {few}")
    return Prepared(manifest, decoded, tuple(broken), (*found.notes, *notes))


def clips_of(pieces: Iterable[bytes], clip_bytes: int = CLIP_BYTES) -> Iterator[NDArray[np.int16]]:
    """The whole clips in a stream of s16le PCM, each int16 ``[samples]``; a tail shorter than a clip is dropped.

    Holds one clip, however long the stream.
    """
    clip = bytearray()
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            taken = rest[: clip_bytes - len(clip)]
            clip += taken
            rest = rest[len(taken) :]
            if len(clip) == clip_bytes:
                yield np.frombuffer(bytes(clip), "<i2")
                clip.clear()


def mean_square(clip: NDArray[np.int16]) -> float:
    """Mean power of int16 ``[samples]``, full scale 1.0."""
    scaled = clip.astype(np.float32) / _FULL_SCALE
    return float(np.dot(scaled, scaled) / len(scaled))


def is_silent(power: float) -> bool:
    """Whether a clip of this mean power lies below ``SILENCE_DBFS``."""
    return bool(power < 10 ** (SILENCE_DBFS / 10))


def shard_key(recording: Recording, sha256: str) -> str:
    """The name of the recording's shard: readable, and another as soon as its path or content is another."""
    readable = "".join(c if c.isascii() and c.isalnum() else "_" for c in Path(recording.source).stem)[:40]
    identity = f"{recording.source}\0{sha256}".encode("utf-8", "surrogateescape")
    return f"{recording.mood}-{readable}-{hashlib.sha256(identity).hexdigest()[:16]}"


def _decode_all(
    recordings: tuple[Recording, ...], out: Path, workers: int
) -> tuple[dict[Recording, Measured], list[str], int]:
    stop = threading.Event()
    measured: dict[Recording, Measured] = {}
    broken: list[str] = []
    decoded = 0
    total = sum(recording.size for recording in recordings)
    with (
        tqdm(total=total, unit="B", unit_scale=True, desc="prepare", disable=None) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        lock = threading.Lock()

        def advance(size: float) -> None:
            with lock:
                bar.update(size)

        try:
            jobs = {pool.submit(_one, recording, out, stop, advance): recording for recording in recordings}
            for job in as_completed(jobs):
                try:
                    measured[jobs[job]], fresh = job.result()
                    decoded += fresh
                except DecodeError as error:
                    broken.append(f"{jobs[job].source}: {error}")
        except BaseException:  # a full disk, Ctrl-C: whatever it is, no worker may go on
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return measured, sorted(broken), decoded


def _one(
    recording: Recording, out: Path, stop: threading.Event, advance: Callable[[float], None]
) -> tuple[Measured, bool]:
    if stop.is_set():
        raise _Stopped
    try:
        with recording.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        advance(recording.size)
        raise DecodeError(f"can't be read: {error.strerror}") from error
    key = shard_key(recording, sha256)
    earlier = _earlier(out, key)
    if earlier is not None:
        advance(recording.size)
        return earlier, False
    shown = 0.0

    def progress(seconds: float, declared: float | None) -> None:
        nonlocal shown
        if stop.is_set():
            raise _Stopped
        if declared:
            now = min(1.0, seconds / declared) * recording.size
            advance(max(0.0, now - shown))
            shown = max(shown, now)

    try:
        result = _write_shard(recording, out, key, sha256, progress)
    finally:
        advance(recording.size - shown)
    write_atomically(sidecar_path(out, key), json.dumps(asdict(result)) + "\n")
    return result, True


def _earlier(out: Path, key: str) -> Measured | None:
    """What an earlier run left for ``key``, if it is whole."""
    try:
        body: dict[str, Any] = json.loads(sidecar_path(out, key).read_text(encoding="utf-8"))
        measured = Measured(**body)
    except (OSError, ValueError, TypeError):
        return None
    if measured.format != FORMAT or measured.key != key:
        return None
    return measured if measured.clips == 0 or shard_is_whole(shard_path(out, key), measured.clips) else None


def _write_shard(
    recording: Recording, out: Path, key: str, sha256: str, progress: Callable[[float, float | None], None]
) -> Measured:
    kept, silent, power = 0, 0, 0.0
    path = shard_path(out, key)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            header_bytes = _write_header(file, 0)
            with Decoder(recording.path) as decoder:
                for clip in clips_of(decoder):
                    clip_power = mean_square(clip)
                    if is_silent(clip_power):
                        silent += 1
                    else:
                        file.write(clip.data)
                        kept += 1
                        power += clip_power
                    progress((kept + silent) * CLIP_SECONDS, decoder.declared_seconds)
            file.seek(0)
            if _write_header(file, kept) != header_bytes:  # numpy leaves room for the count to grow
                raise AssertionError("the header of a shard changed its length")
            file.flush()
            os.fsync(file.fileno())
        if kept:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    rms = float(np.sqrt(power / kept)) if kept else 0.0
    return Measured(key, sha256, kept, silent, rms)


def _write_header(file: Any, clips: int) -> int:
    np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": (clips, CLIP_SAMPLES)})
    position: int = file.tell()
    return position


def _manifest(
    measured: dict[Recording, Measured], labels: dict[str, Label], source: Path, out: Path
) -> tuple[Manifest, list[str]]:
    # A track without a clip holds out nothing: it must not take the place of one that would.
    sides, bare = split_tracks({recording: f.sha256 for recording, f in measured.items() if f.clips}, labels)
    tracks = []
    for recording, found in sorted(measured.items(), key=lambda item: item[0].source):
        label = labels.get(recording.source, Label())
        tracks.append(
            Track(
                key=found.key,
                source=recording.source,
                sha256=found.sha256,
                mood=recording.mood,
                labelled=label.sure,
                confidence=label.confidence,
                licence=label.licence,
                split=sides.get(recording, "train"),
                clips=found.clips,
                dropped_silent=found.dropped_silent,
                rms=found.rms,
            )
        )
    notes = []
    if bare:
        notes.append(f"nothing is held out for validation in {', '.join(bare)}: that takes two recordings in a mood")
    if empty := [track.source for track in tracks if track.clips == 0]:
        notes.append(f"no clip in {', '.join(empty)}: silent, or shorter than {CLIP_SECONDS} seconds")
    return Manifest(out, tuple(tracks), source=str(source.resolve())), notes


def _earlier_run(out: Path) -> tuple[tuple[Track, ...], str]:
    """The tracks that it left, and the folder that they came from."""
    try:
        manifest = load_manifest(out)
    except ManifestError:
        return (), ""
    return manifest.tracks, manifest.source


def _sides(tracks: Iterable[Track]) -> set[tuple[str, Split]]:
    """All that the caches depend on."""
    return {(track.key, track.split) for track in tracks if track.clips}


def _remove_stale(out: Path, keys: set[str]) -> int:
    """Remove what belongs to none of ``keys`` from the shards, and nothing else; the number of shards that went."""
    stale = [path for path in (out / SHARDS_NAME).iterdir() if path.name.split(".")[0] not in keys]
    stale = [path for path in stale if _OURS.fullmatch(path.name.split(".")[0])]
    for path in stale:
        path.unlink()
    return sum(path.suffix == ".npy" for path in stale)


def _remove_caches(cache: Path) -> None:
    """Remove what training and evaluation kept of other tracks; a run that reads it has it open."""
    for pattern in CACHES:
        for path in cache.glob(pattern):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """One run at a time: a second would take the first one's unfinished shards for stale."""
    (out / SHARDS_NAME).mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"another run is preparing into {out}; wait for it, or choose another --out") from None
        yield
