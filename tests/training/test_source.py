import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.moods import MOODS, Mood
from training.errors import SourceError
from training.source import Label, Recording, find_recordings, read_labels, split_tracks

RECORDINGS = st.dictionaries(
    st.tuples(st.sampled_from(MOODS[:3]), st.text("abc123", min_size=1, max_size=6)),
    st.text("0123456789abcdef", min_size=3, max_size=3),
    max_size=40,
).map(
    lambda drawn: {
        Recording(Path(f"/m/{mood}/{name}.ogg"), f"{mood}/{name}.ogg", mood, 1): sha256
        for (mood, name), sha256 in drawn.items()
    }
)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


@given(RECORDINGS, st.randoms(use_true_random=False))
def test_split_is_the_same_in_any_order_and_keeps_equal_content_together(
    recordings: dict[Recording, str], random: Random
) -> None:
    sides, bare = split_tracks(recordings, {})
    shuffled = list(recordings.items())
    random.shuffle(shuffled)
    assert split_tracks(dict(shuffled), {}) == (sides, bare)
    by_content = defaultdict(set)
    for recording, sha256 in recordings.items():
        by_content[sha256].add(sides[recording])
    assert all(len(found) == 1 for found in by_content.values())


@given(RECORDINGS)
def test_a_mood_of_two_tracks_or_more_holds_out_some_but_not_all(recordings: dict[Recording, str]) -> None:
    distinct = {recording: f"{number}" for number, recording in enumerate(recordings)}
    sides, bare = split_tracks(distinct, {})
    for mood in MOODS:
        of_mood = [sides[recording] for recording in distinct if recording.mood == mood]
        if len(of_mood) >= 2:
            assert 1 <= of_mood.count("validation") <= max(1, 0.2 * len(of_mood))
            assert mood not in bare
        else:
            assert "validation" not in of_mood
            assert (mood in bare) == bool(of_mood)


def test_copies_of_one_track_are_not_held_out_from_themselves() -> None:
    copies = {Recording(Path(f"/{name}"), f"sad/{name}.ogg", Mood("sad"), 1): "same content" for name in ("one", "two")}
    sides, bare = split_tracks(copies, {})
    assert set(sides.values()) == {"train"}
    assert bare == ["sad"]


def test_the_table_overrules_the_hash() -> None:
    recordings = {Recording(Path(f"/{n}"), f"sad/{n}.ogg", Mood("sad"), 1): str(n) for n in range(10)}
    labels = {r.source: Label("validation" if r.source in ("sad/3.ogg", "sad/7.ogg") else "train") for r in recordings}
    sides, _ = split_tracks(recordings, labels)
    assert {r.source for r, side in sides.items() if side == "validation"} == {"sad/3.ogg", "sad/7.ogg"}


def test_finds_recordings_at_any_depth_in_any_case_and_says_what_it_passed_over(tmp_path: Path) -> None:
    for name in (
        "Fight/a.MP3",
        "fight/album one/b.flac",
        "sad/c.opus",
        "sad/cover.jpg",
        "sad/.hidden.ogg",
        "stray.ogg",
    ):
        touch(tmp_path / name)
    touch(tmp_path / ".packages" / "x.ogg")
    (tmp_path / "sad" / "folder.mp3").mkdir()
    found = find_recordings(tmp_path)
    assert [(r.source, r.mood) for r in found.recordings] == [
        ("Fight/a.MP3", "fight"),
        ("fight/album one/b.flac", "fight"),
        ("sad/c.opus", "sad"),
    ]
    assert "stray.ogg" in found.notes[0]
    assert found.notes[1].startswith("1 files of other kinds")


def test_an_unknown_mood_lists_the_moods(tmp_path: Path) -> None:
    touch(tmp_path / "fight" / "a.ogg")
    touch(tmp_path / "brawl" / "a.ogg")
    with pytest.raises(SourceError, match="brawl") as raised:
        find_recordings(tmp_path)
    assert ", ".join(MOODS) in str(raised.value)
    assert raised.value.exit_status == 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "no folder"),
        (lambda folder: folder.write_text(""), "is a file"),
        (lambda folder: folder.mkdir(), "no recording"),
        (lambda folder: (folder / "sad").mkdir(parents=True), "no recording"),
        (lambda folder: touch(folder / "sad" / "readme.txt"), "no recording"),
    ],
)
def test_a_folder_without_recordings_is_told_in_a_sentence(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    make(tmp_path / "music")
    with pytest.raises(SourceError, match=says) as raised:
        find_recordings(tmp_path / "music")
    assert str(tmp_path / "music") in str(raised.value)


def test_a_folder_that_may_not_be_read_is_an_error_and_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "sad" / "a.ogg")
    touch(tmp_path / "fight" / "a.ogg")
    real = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "sad":  # root may read everything, so the refusal is played
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SourceError, match=f"no permission to read {tmp_path / 'sad'}"):
        find_recordings(tmp_path)


def test_labels(tmp_path: Path) -> None:
    assert read_labels(tmp_path) == {}
    table = tmp_path / "tracks.csv"
    table.write_text("file,split,confidence,licence\nsad/a.ogg,validation,0.3,CC0-1.0\nsad/b.ogg,,,\n")
    assert read_labels(tmp_path) == {"sad/a.ogg": Label("validation", 0.3, "CC0-1.0"), "sad/b.ogg": Label()}
    assert not read_labels(tmp_path)["sad/a.ogg"].sure
    assert read_labels(tmp_path)["sad/b.ogg"].sure
    table.write_text("file\nsad/a.ogg\n", encoding="utf-8-sig")  # as Excel writes it
    assert list(read_labels(tmp_path)) == ["sad/a.ogg"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,split\na,train\n", "no column 'file'"),
        ("mood,file\nsad\n", "a row names no file"),
        ("file,mood\n,sad\n", "a row names no file"),
        ("file,split\nsad/a.ogg,test\n", "must be train, validation or empty"),
        ("file,confidence\nsad/a.ogg,1.5\n", "from 0 to 1"),
        ("file,confidence\nsad/a.ogg,high\n", "from 0 to 1"),
        ("file,confidence\nsad/a.ogg,nan\n", "from 0 to 1"),
        (b"file\n\xff\xfe\n", "can't read"),
    ],
)
def test_a_table_that_makes_no_sense_is_told_in_a_sentence(tmp_path: Path, text: str | bytes, says: str) -> None:
    (tmp_path / "tracks.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=says):
        read_labels(tmp_path)
