"""The user's own apt client: what it would download, the download, and the members of a package. Installs nothing."""

import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from training.errors import CorpusError

#: As root apt would drop to a user of its own, who may not write to our folder, and grumble; to others it is nothing.
_APT: Final = ("apt-get", "--quiet", "-o", "APT::Sandbox::User=root", "download")
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Offer:
    """What apt would download for a package.

    Attributes:
        package: its name.
        filename: what apt calls the file.
        size: bytes.
        sha256: by the signed index; ``None`` if that states another kind of checksum only.
    """

    package: str
    filename: str
    size: int
    sha256: str | None


def need_apt() -> None:
    """Make sure that there is an apt client.

    Raises:
        CorpusError: there is none.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise CorpusError(
                f"there is no {program} here: the corpus comes out of Debian packages; with music of your own, in "
                "folders named after moods, `bardcast-train prepare SRC` works everywhere"
            )


def offers(packages: Collection[str], scratch: Path) -> dict[str, Offer]:
    """What apt would download, by package; one that apt doesn't know is missing from the answer.

    Args:
        packages: names.
        scratch: a folder to make an empty one in; of a package that lies in the working directory apt says nothing.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as empty:
        answer = _ask(packages, Path(empty))
        if answer is None and len(packages) > 1:  # one unknown name spoils the whole question
            answer = "".join(_ask([package], Path(empty)) or "" for package in packages)
    lines = [line.split() for line in (answer or "").splitlines() if line.startswith("'")]
    return {offer.package: offer for offer in (_offer(line) for line in lines)}


def download(offer: Offer, folder: Path, advance: Callable[[int], None]) -> Path:
    """Download the package into ``folder``; apt checks it against its signed index.

    Args:
        offer: from :func:`offers`.
        folder: where to; apt must be able to write there.
        advance: told of the bytes that came.

    Raises:
        CorpusError: apt failed; its own words are in the sentence.
    """
    path = folder / offer.filename
    seen = 0
    with tempfile.TemporaryFile() as log, _running([*_APT, offer.package], folder, stdout=log, stderr=log) as process:
        while (status := process.poll()) is None:
            time.sleep(_POLL_SECONDS)
            size = min(_size(path), offer.size)
            advance(size - seen)
            seen = size
        log.seek(0)
        words = log.read().decode("utf-8", "replace")
    if status != 0 or not path.is_file():
        errors = [line[3:] for line in words.splitlines() if line.startswith("E: ")]
        raise CorpusError(f"apt can't download {offer.package}: {'; '.join(errors) or 'it left no file'}")
    advance(offer.size - seen)
    return path


def members(package: Path, wanted: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """The wanted files in a package, in its order, each with its path and an open stream. Nothing is installed.

    Raises:
        tarfile.TarError: the package is damaged; reading a stream raises it too.
    """
    left = set(wanted)
    command = ["dpkg-deb", "--fsys-tarfile", str(package.absolute())]
    with (
        _running(command, package.parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            name = member.name.removeprefix("./")
            if name not in left or not member.isfile():
                continue
            stream = archive.extractfile(member)
            if stream is not None:
                yield name, stream
                left.discard(name)
            if not left:
                return


@contextmanager
def _running(
    command: list[str], folder: Path, stdout: int | IO[bytes], stderr: int | IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """The command, ended on the way out; in a process group of its own, so that Ctrl-C reaches only us."""
    process = subprocess.Popen(  # noqa: S603 - an argument list, no shell
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, process_group=0
    )
    try:
        yield process
    finally:
        process.terminate()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()


def _ask(packages: Collection[str], folder: Path) -> str | None:
    done = subprocess.run(  # noqa: S603 - an argument list, no shell
        [*_APT, "--print-uris", *packages], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.stdout if done.returncode == 0 else None


def _offer(words: list[str]) -> Offer:
    # 'URI' filename size SHA256:digest
    filename, size, digest = words[1], int(words[2]), words[3] if len(words) > 3 else ""
    kind, _, value = digest.partition(":")
    return Offer(filename.split("_")[0], filename, size, value.lower() if kind.upper() == "SHA256" else None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
