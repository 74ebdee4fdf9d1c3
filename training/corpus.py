"""The licence-clear recordings to learn from: their list, and bringing them here out of Debian packages."""

import csv
import hashlib
import io
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from tqdm import tqdm

from generator.moods import Mood, parse_mood
from training.apt import Offer, download, members, need_apt, offers
from training.errors import CorpusError
from training.source import LABELS_NAME
from training.storage import write_atomically, writing_to

DOWNLOADS_NAME: Final = ".packages"  #: in the corpus's folder; `prepare` passes over names that begin with a dot

ARCHIVES: Final = (".zip", ".pk3")  #: both are zip
_DAMAGED: Final = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)  #: what reading an archive raises
_COPY_BYTES: Final = 1 << 20

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """One recording of the corpus: a row of ``corpus.csv``.

    Attributes:
        package: the Debian package that carries it.
        path: in the package; ``a.zip!b`` is the member b of the archive a.
        sha256: of the recording's file.
        title: of the music.
        author: to be credited.
        licence: as the package states it.
        seconds: length.
        mood: by title and use in the game.
        confidence: of the mood, 0 to 1.
        split: ``train`` or ``validation``.
    """

    package: str
    path: str
    sha256: str
    title: str
    author: str
    licence: str
    seconds: float
    mood: Mood
    confidence: float
    split: str

    @property
    def member(self) -> tuple[str, str | None]:
        """Path in the package, and path in the archive that lies there if the piece is in one."""
        outer, _, inner = self.path.partition("!")
        # A title may end in "!": only what follows an archive's name is a path in it.
        return (outer, inner) if outer.endswith(ARCHIVES) else (self.path, None)

    @property
    def file(self) -> str:
        """Where it goes in the corpus's folder; laid out as ``prepare`` takes it."""
        outer, inner = self.member
        return f"{self.mood}/{self.package}--{PurePosixPath(inner or outer).name}"


@dataclass(frozen=True, slots=True)
class Pin:
    """The version of a package that the list was made from: a row of ``packages.csv``."""

    package: str
    version: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a run of :func:`fetch` did.

    Attributes:
        there: pieces that are in the folder now.
        fetched: of these, the ones that this run brought.
        problems: a sentence for each package or piece that is missing.
    """

    there: int
    fetched: int
    problems: tuple[str, ...]


def load_pieces() -> tuple[Piece, ...]:
    """The corpus, as listed in ``corpus.csv``."""
    return tuple(
        Piece(
            **{
                **row,
                "seconds": float(row["seconds"]),
                "confidence": float(row["confidence"]),
                "mood": parse_mood(row["mood"]),
            }
        )
        for row in _table("corpus.csv")
    )


def load_pins() -> dict[str, Pin]:
    """The pinned packages, by name."""
    return {row["package"]: Pin(**{**row, "bytes": int(row["bytes"])}) for row in _table("packages.csv")}


def fetch(
    into: Path,
    packages: Collection[str] | None = None,
    *,
    keep_packages: bool = False,
    say: Say,
    pieces: Iterable[Piece] | None = None,
    pins: dict[str, Pin] | None = None,
) -> Fetched:
    """Bring the pieces into ``into/<mood>/``, with a ``tracks.csv`` that ``prepare`` reads; skip what is there already.

    Args:
        into: the corpus's folder.
        packages: only these; all, if not given.
        keep_packages: whether to keep the package files once unpacked.
        say: takes a line for the user.
        pieces: the list; the shipped one, if not given.
        pins: the packages' pins; the shipped ones, if not given.

    Raises:
        CorpusError: there is no apt, it knows none of the packages, or a package is not in the list.
        StorageError: the disk is full or can't be written.
    """
    pieces = tuple(load_pieces() if pieces is None else pieces)
    pins = load_pins() if pins is None else pins
    chosen = _choose(pieces, packages)
    problems: list[str] = []
    with writing_to(into, "--into"):
        downloads = into / DOWNLOADS_NAME
        downloads.mkdir(parents=True, exist_ok=True)
        missing = [piece for piece in chosen if not _is_whole(into / piece.file, piece.sha256)]
        brought = _bring(missing, into, pins, keep_packages, say, problems) if missing else set()
        if not keep_packages and not problems:  # what is half there helps the next run
            shutil.rmtree(downloads)
        absent = set(missing) - brought
        _write_labels(into, [piece for piece in pieces if piece not in absent])
    return Fetched(len(chosen) - len(absent), len(brought), tuple(problems))


def _bring(
    missing: list[Piece], into: Path, pins: dict[str, Pin], keep_packages: bool, say: Say, problems: list[str]
) -> set[Piece]:
    """Download what carries the missing pieces and take them out; the ones that are there now."""
    need_apt()
    brought: set[Piece] = set()
    downloads = into / DOWNLOADS_NAME
    by_package: defaultdict[str, list[Piece]] = defaultdict(list)
    for piece in missing:
        by_package[piece.package].append(piece)
    offered = offers(by_package, downloads)
    problems += [
        f"apt knows no package {package}: bring its lists up to date (`sudo apt-get update`); it is in Debian 12, "
        "other releases may lack it"
        for package in sorted(set(by_package) - set(offered))
    ]
    waiting = {offer.package: offer.size for offer in offered.values() if not _is_there(downloads, offer)}
    say(
        f"{len(missing)} recordings to fetch, from {len(offered)} packages; "
        f"to download: {sum(waiting.values()) / 1e6:.0f} MB in {len(waiting)} packages"
    )
    with tqdm(total=sum(waiting.values()), unit="B", unit_scale=True, disable=None) as bar:
        for package, offer in offered.items():
            bar.set_description(package)
            try:
                path = downloads / offer.filename
                if package in waiting:
                    path = download(offer, downloads, bar.update)
                if note := _verify(path, offer, pins.get(package)):
                    with tqdm.external_write_mode():
                        say(note)
                for piece, problem in _unpack(path, by_package[package], into):
                    if problem is None:
                        brought.add(piece)
                    else:
                        problems.append(problem)
                if not keep_packages:
                    path.unlink()
            except CorpusError as error:
                problems.append(str(error))
            except _DAMAGED as error:
                path.unlink()
                problems.append(f"{path.name} is damaged ({error}) and was removed; run the same command again")
    return brought


def _verify(path: Path, offer: Offer, pin: Pin | None) -> str | None:
    """Check the package's SHA-256; a sentence if it is not the pinned version but what apt's signed index states."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if pin is not None and sha256 == pin.sha256:
        return None
    if sha256 == offer.sha256:
        pinned = pin.version if pin is not None else "none"
        return (
            f"{offer.filename} is not the pinned version ({pinned}), but what apt's signed index names; "
            "each recording's own checksum decides"
        )
    path.unlink()
    raise CorpusError(f"{offer.filename} has a wrong SHA-256 and was removed; run the same command again")


def _unpack(package: Path, pieces: list[Piece], into: Path) -> Iterator[tuple[Piece, str | None]]:
    """Take the pieces out of the package; each with a sentence if it is not there or is another recording now."""
    wanted: defaultdict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        wanted[piece.member[0]].append(piece)
    for name, stream in members(package, wanted):
        for piece, content in _contents(stream, wanted.pop(name), package.parent):
            if content is None:
                yield piece, _absent(piece)
            elif _place(content, into / piece.file, piece.sha256):
                yield piece, None
            else:
                yield piece, f"{piece.package}: {piece.path} is another recording than the one listed; left out"
    for piece in (piece for left in wanted.values() for piece in left):
        yield piece, _absent(piece)


def _contents(stream: IO[bytes], pieces: list[Piece], scratch: Path) -> Iterator[tuple[Piece, IO[bytes] | None]]:
    """Each piece in a member of a package, with its content; ``None`` if an archive doesn't hold it."""
    if pieces[0].member[1] is None:
        yield pieces[0], stream
        return
    with tempfile.TemporaryFile(dir=scratch) as file:  # an archive's index is at its end: it can't be streamed
        shutil.copyfileobj(stream, file, _COPY_BYTES)
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            for piece in pieces:
                inner = piece.member[1]
                if inner is None or inner not in names:
                    yield piece, None
                    continue
                with archive.open(inner) as content:
                    yield piece, content


def _place(content: IO[bytes], path: Path, sha256: str) -> bool:
    """Copy the content to ``path`` if it has this SHA-256; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            while chunk := content.read(_COPY_BYTES):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            return False
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _write_labels(into: Path, pieces: list[Piece]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    columns = [field.name for field in fields(Piece)]
    table.writerow(["file", *columns])
    for piece in pieces:
        if (into / piece.file).is_file():
            table.writerow([piece.file, *(getattr(piece, column) for column in columns)])
    write_atomically(into / LABELS_NAME, text.getvalue())


def _choose(pieces: tuple[Piece, ...], packages: Collection[str] | None) -> list[Piece]:
    known = {piece.package for piece in pieces}
    if unknown := sorted(set(packages or ()) - known):
        raise CorpusError(f"not in the corpus: {', '.join(unknown)}; it has: {', '.join(sorted(known))}")
    return [piece for piece in pieces if not packages or piece.package in packages]


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _is_there(downloads: Path, offer: Offer) -> bool:
    path = downloads / offer.filename
    return path.is_file() and path.stat().st_size == offer.size


def _absent(piece: Piece) -> str:
    return f"{piece.package}: {piece.path} is not in this version of the package"


def _table(name: str) -> list[dict[str, Any]]:
    text = resources.files("training").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))
