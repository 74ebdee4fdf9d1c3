"""The corpus, with an apt-get that is a shell script and packages that dpkg-deb built."""

import csv
import hashlib
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from generator.moods import MOODS, Mood
from training import corpus as corpus_module
from training.__main__ import main
from training.corpus import Fetched, Piece, Pin, fetch, load_pieces, load_pins
from training.errors import CorpusError
from training.source import Label, find_recordings, read_labels

APT = """#!/bin/sh
# An apt-get that knows `download [--print-uris]` and the packages in $REPO.
uris=no names=
for word; do
  case $word in --print-uris) uris=yes;; -*|APT::*|download) ;; *) names="$names $word";; esac
done
for name in $names; do
  [ -f "$REPO/$name.uri" ] || { echo "E: Unable to locate package $name" >&2; exit 100; }
done
for name in $names; do
  if [ $uris = yes ]; then [ -f "${name}_1_all.deb" ] || cat "$REPO/$name.uri"; continue; fi
  echo "$name" >>"$REPO/log"
  [ -f "$REPO/$name.fails" ] && { echo "E: Failed to fetch $name  503 Unavailable" >&2; exit 100; }
  if [ -f "$REPO/$name.hangs" ]; then head -c 100 "$REPO/${name}_1_all.deb" >"${name}_1_all.deb"; sleep 60; fi
  cp "$REPO/${name}_1_all.deb" .
done
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def music(number: int) -> bytes:
    return f"recording {number} ".encode() * 5_000


@dataclass
class Repository:
    """Packages that the false apt offers, and the list that matches them."""

    folder: Path
    pieces: list[Piece] = field(default_factory=list)
    pins: dict[str, Pin] = field(default_factory=dict)

    def add(self, package: str, files: dict[str, bytes], listed: dict[str, bytes]) -> None:
        """Build a package of ``files`` and list the pieces ``path: content`` of it."""
        tree = self.folder / f"{package}.tree"
        for path, content in {**files, "usr/share/doc/copyright": b"all rights"}.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        (tree / "DEBIAN").mkdir()
        control = f"Package: {package}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a\n"
        (tree / "DEBIAN" / "control").write_text(control)
        deb = self.deb(package)
        build = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(deb)]
        subprocess.run(build, check=True, capture_output=True)
        self.offer(package)
        self.pins[package] = Pin(package, "1", sha256(deb.read_bytes()), deb.stat().st_size)
        for path, content in listed.items():
            number = len(self.pieces)
            mood, split = MOODS[number % len(MOODS)], "train" if number % 2 else "validation"
            self.pieces.append(
                Piece(package, path, sha256(content), f"No. {number}", "A, B", "CC0", 60.0, mood, 0.4, split)
            )

    def deb(self, package: str) -> Path:
        return self.folder / f"{package}_1_all.deb"

    def offer(self, package: str, digest: str | None = None) -> None:
        """Let apt's index state the package as it is, or with another checksum."""
        deb = self.deb(package)
        digest = sha256(deb.read_bytes()) if digest is None else digest
        line = f"'http://example.org/{deb.name}' {deb.name} {deb.stat().st_size} SHA256:{digest}\n"
        (self.folder / f"{package}.uri").write_text(line)

    def downloads(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().split() if log.exists() else []


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Three pieces in two packages; one lies in an archive inside its package."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text(APT)
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    repository = Repository(tmp_path / "repository")
    repository.folder.mkdir()
    monkeypatch.setenv("REPO", str(repository.folder))
    repository.add(
        "band-music",
        {"usr/share/games/a song.ogg": music(0), "usr/share/games/other.ogg": music(9)},
        {"usr/share/games/a song.ogg": music(0)},
    )
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("audio/Victory!.ogg", music(1))
        members.writestr("audio/b.ogg", music(2))
    repository.add(
        "game-data",
        {"usr/share/games/data.zip": archive.read_bytes()},
        {
            "usr/share/games/data.zip!audio/Victory!.ogg": music(1),
            "usr/share/games/data.zip!audio/b.ogg": music(2),
        },
    )
    return repository


def run(repository: Repository, into: Path, *, said: list[str] | None = None, keep: bool = False) -> Fetched:
    lines = [] if said is None else said
    return fetch(into, keep_packages=keep, say=lines.append, pieces=repository.pieces, pins=repository.pins)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


WANTED = {"epic/band-music--a song.ogg", "festival/game-data--Victory!.ogg", "fight/game-data--b.ogg", "tracks.csv"}


# --- the list that ships ---------------------------------------------------------------------------------------------


def test_the_list_is_consistent() -> None:
    pieces, pins = load_pieces(), load_pins()
    assert len(pieces) > 200
    assert {piece.package for piece in pieces} == set(pins)
    for unique in ([piece.file for piece in pieces], [piece.sha256 for piece in pieces]):
        assert Counter(unique).most_common(1)[0][1] == 1
    for piece in pieces:
        assert re.fullmatch("[0-9a-f]{64}", piece.sha256)
        assert piece.split in ("train", "validation")
        assert 0 <= piece.confidence <= 1
        assert piece.seconds > 10
        assert piece.title
        assert piece.author
        assert Path(piece.file).suffix == ".ogg"
        assert ".." not in piece.file
    assert all(re.fullmatch("[0-9a-f]{64}", pin.sha256) and pin.bytes > 0 for pin in pins.values())
    for mood in MOODS:
        assert {piece.split for piece in pieces if piece.mood == mood} == {"train", "validation"}


def test_every_licence_lets_the_weights_be_gpl_3_or_later() -> None:
    allowed = ("CC-BY-SA-3.0", "CC-BY-SA-3.0+", "CC-BY-3.0", "CC-BY-4.0", "GPL-2+", "GPL-3", "GPL-3+", "public-domain")
    for piece in load_pieces():
        stated = re.split(r" or | recording; |[ (]", piece.licence)[0]
        assert stated in allowed, piece


def test_a_title_may_end_in_an_exclamation_mark() -> None:
    plain = Piece("p", "usr/Win!.ogg", "", "", "", "", 1, Mood("epic"), 1, "train")
    assert (plain.member, plain.file) == (("usr/Win!.ogg", None), "epic/p--Win!.ogg")
    packed = replace(plain, path="usr/a.pk3!music/Win!.ogg")
    assert (packed.member, packed.file) == (("usr/a.pk3", "music/Win!.ogg"), "epic/p--Win!.ogg")


# --- fetching --------------------------------------------------------------------------------------------------------


def test_brings_the_pieces_laid_out_for_prepare(repository: Repository, tmp_path: Path) -> None:
    into, said = tmp_path / "corpus", list[str]()
    assert run(repository, into, said=said) == Fetched(there=3, fetched=3, problems=())
    assert files(into) == WANTED
    assert (into / "festival/game-data--Victory!.ogg").read_bytes() == music(1)
    size = sum(pin.bytes for pin in repository.pins.values())
    assert said == [f"3 recordings to fetch, from 2 packages; to download: {size / 1e6:.0f} MB in 2 packages"]
    labels = read_labels(into)
    assert {recording.source for recording in find_recordings(into).recordings} == set(labels)
    assert labels["epic/band-music--a song.ogg"] == Label("validation", 0.4, "CC0")
    with (into / "tracks.csv").open(newline="") as file:
        assert [row["author"] for row in csv.DictReader(file)] == ["A, B"] * 3


def test_what_is_there_and_whole_is_not_fetched_again(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "corpus"
    run(repository, into)
    monkeypatch.setenv("PATH", "")  # needs no apt
    assert run(repository, into) == Fetched(3, 0, ())


def test_only_the_package_of_a_lost_or_damaged_piece_is_fetched_again(repository: Repository, tmp_path: Path) -> None:
    into = tmp_path / "corpus"
    run(repository, into)
    (into / "fight/game-data--b.ogg").write_bytes(music(2)[:-1])
    assert run(repository, into) == Fetched(3, 1, ())
    assert (into / "fight/game-data--b.ogg").read_bytes() == music(2)
    assert repository.downloads() == ["band-music", "game-data", "game-data"]


def test_packages_are_kept_when_asked_and_used_again(repository: Repository, tmp_path: Path) -> None:
    into, said = tmp_path / "corpus", list[str]()
    run(repository, into, keep=True)
    assert {path.name for path in (into / ".packages").iterdir()} == {"band-music_1_all.deb", "game-data_1_all.deb"}
    (into / "epic/band-music--a song.ogg").unlink()
    assert run(repository, into, said=said) == Fetched(3, 1, ())
    assert said == ["1 recordings to fetch, from 1 packages; to download: 0 MB in 0 packages"]
    assert len(repository.downloads()) == 2


def test_a_point_release_is_said_and_the_recordings_decide(repository: Repository, tmp_path: Path) -> None:
    repository.pins["band-music"] = Pin("band-music", "0.9", "0" * 64, 1)
    said: list[str] = []
    assert run(repository, tmp_path / "corpus", said=said) == Fetched(3, 3, ())
    assert "not the pinned version (0.9)" in said[1]
    assert len(said) == 2


def test_a_package_with_a_wrong_checksum_is_removed_and_the_rest_kept(repository: Repository, tmp_path: Path) -> None:
    repository.pins["game-data"] = Pin("game-data", "1", "0" * 64, 1)
    repository.offer("game-data", digest="1" * 64)
    result = run(repository, tmp_path / "corpus")
    assert (result.there, result.fetched) == (1, 1)
    assert [problem.split(" ")[0] for problem in result.problems] == ["game-data_1_all.deb"]
    assert "wrong SHA-256" in result.problems[0]
    assert files(tmp_path / "corpus") == {"epic/band-music--a song.ogg", "tracks.csv"}
    assert set(read_labels(tmp_path / "corpus")) == {"epic/band-music--a song.ogg"}


def test_another_recording_or_none_under_a_listed_path_is_named(repository: Repository, tmp_path: Path) -> None:
    first, second, third = repository.pieces
    repository.pieces = [
        replace(first, sha256="0" * 64),
        replace(second, path=second.path.replace("Victory", "Defeat")),
        third,
        replace(first, path="usr/share/games/gone.ogg"),
    ]
    result = run(repository, tmp_path / "corpus")
    assert (result.there, result.fetched, len(result.problems)) == (1, 1, 3)
    assert any("a song.ogg is another recording" in problem for problem in result.problems)
    assert any("Defeat!.ogg is not in this version" in problem for problem in result.problems)
    assert any("gone.ogg is not in this version" in problem for problem in result.problems)
    assert files(tmp_path / "corpus") - {"tracks.csv"} == {third.file}


@pytest.mark.parametrize("inside", [False, True])
def test_a_damaged_package_is_removed_and_told_in_a_sentence(
    repository: Repository, tmp_path: Path, inside: bool
) -> None:
    archive = tmp_path / "data.zip"
    content = bytearray(archive.read_bytes())
    content[60:80] = bytes(20)  # in the first member's compressed data
    listed = {"usr/data.zip!audio/Victory!.ogg": music(1)}
    repository.add("bad-data", {"usr/data.zip": bytes(content)}, listed)
    if not inside:
        deb = repository.deb("bad-data")
        deb.write_bytes(deb.read_bytes()[:-300])
        repository.offer("bad-data")
    result = run(repository, tmp_path / "corpus")
    assert (result.there, result.fetched, len(result.problems)) == (3, 3, 1)
    assert "bad-data" in result.problems[0]
    assert not list((tmp_path / "corpus").rglob("*.part"))
    if inside:
        assert "damaged" in result.problems[0]


def test_apts_own_words_reach_the_user(repository: Repository, tmp_path: Path) -> None:
    (repository.folder / "game-data.fails").touch()
    result = run(repository, tmp_path / "corpus")
    assert result.there == 1
    assert result.problems == ("apt can't download game-data: Failed to fetch game-data  503 Unavailable",)


def test_a_package_that_apt_does_not_know_is_named_and_the_rest_fetched(repository: Repository, tmp_path: Path) -> None:
    (repository.folder / "band-music.uri").unlink()
    result = run(repository, tmp_path / "corpus")
    assert (result.there, result.fetched) == (2, 2)
    assert len(result.problems) == 1
    assert "apt knows no package band-music" in result.problems[0]
    assert "apt-get update" in result.problems[0]


@pytest.mark.parametrize("program", ["apt-get", "dpkg-deb"])
def test_without_apt_it_names_the_way_that_always_works(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    only = tmp_path / "only"
    only.mkdir()
    other = {"apt-get": "dpkg-deb", "dpkg-deb": "apt-get"}[program]
    (only / other).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(only))
    with pytest.raises(CorpusError, match=f"no {program} here.*bardcast-train prepare SRC"):
        run(repository, tmp_path / "corpus")


def test_an_unknown_package_lists_the_known(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="not in the corpus: nope; it has: band-music, game-data"):
        fetch(tmp_path / "corpus", ["nope"], say=print, pieces=repository.pieces, pins=repository.pins)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shipped(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """The small repository in the place of the list that ships."""
    monkeypatch.setattr(corpus_module, "load_pieces", lambda: tuple(repository.pieces))
    monkeypatch.setattr(corpus_module, "load_pins", lambda: repository.pins)
    return repository


@pytest.mark.parametrize("names", ["", " , "])
def test_an_empty_list_of_packages_does_not_mean_all(names: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["corpus", "fetch", "--into", str(tmp_path), "--packages", names])
    assert ended.value.code == 2


def test_command_fetches_the_packages_named(
    shipped: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "corpus"
    assert main(["corpus", "fetch", "--into", str(into), "--packages", "game-data"]) == 0
    assert "2 recordings are in" in capsys.readouterr().err
    assert shipped.downloads() == ["game-data"]


def test_exit_status_says_that_some_are_missing(
    shipped: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shipped.folder / "game-data.fails").touch()
    assert main(["corpus", "fetch", "--into", str(tmp_path / "corpus")]) == 3
    assert "503 Unavailable" in capsys.readouterr().err
    (shipped.folder / "band-music.fails").touch()
    assert main(["corpus", "fetch", "--into", str(tmp_path / "elsewhere")]) == 1


def test_a_folder_that_can_not_be_written_is_told_in_a_sentence(
    shipped: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["corpus", "fetch", "--into", str(tmp_path / "file" / "corpus")]) == 1
    assert "choose another folder with --into" in capsys.readouterr().err


def test_interrupted_and_resumed(repository: Repository, tmp_path: Path) -> None:
    into = tmp_path / "corpus"
    (repository.folder / "game-data.hangs").touch()
    script = (
        "import pathlib, pickle, sys; from training import corpus; from training.__main__ import main\n"
        "pieces, pins = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "corpus.load_pieces, corpus.load_pins = lambda: pieces, lambda: pins\n"
        "sys.exit(main(['corpus', 'fetch', '--into', sys.argv[2]]))"
    )
    listed = tmp_path / "listed"
    listed.write_bytes(pickle.dumps((tuple(repository.pieces), repository.pins)))
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(listed), str(into)], stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (into / ".packages" / "game-data_1_all.deb").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.decode().strip().endswith("run the same command again, which goes on from what is finished")
    assert b"Traceback" not in said
    (repository.folder / "game-data.hangs").unlink()
    assert run(repository, into) == Fetched(3, 2, ())
    assert repository.downloads() == ["band-music", "game-data", "game-data"]
    assert files(into) == WANTED


def test_fetching_needs_neither_torch_nor_ffmpeg() -> None:
    script = (
        "import sys; import training.__main__, training.corpus\n"
        "sys.exit(bool({'torch', 'ffmpeg', 'imageio_ffmpeg', 'librosa'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
