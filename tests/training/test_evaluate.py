"""The score card's command and where its excerpts come from."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from generator.moods import Mood
from training.__main__ import main
from training.errors import EvaluationError
from training.evaluate import _printable
from training.evaluation.sources import excerpts_of, files_in, from_files, recorded
from training.manifest import CLIP_SAMPLES, SAMPLE_RATE, Manifest, Track, shard_path


def write(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 220 * time), SAMPLE_RATE)
    return path


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["{folder}", "--reference", "{folder}/nowhere"], 1, "nowhere"),
        (["{folder}", "--baseline", "{folder}/none.json"], 2, "none.json can't be read"),
        (["no-such-model", "--baseline", "{folder}/odd.json"], 2, "is no report"),
    ],
)
def test_a_wrong_call_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    (tmp_path / "odd.json").write_text("[]")
    assert main(["evaluate", *(word.format(folder=tmp_path) for word in arguments)]) == status
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_name_of_no_encoding_is_printed_all_the_same() -> None:
    name = os.fsdecode(b"na\xefve.wav")
    assert _printable(f"\u2713 {name}") == r"✓ na\udcefve.wav"
    assert _printable(f"\u2713 {name}", "latin-1") == r"\u2713 na\udcefve.wav"


def test_a_folder_without_sound_says_what_to_put_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("la")
    with pytest.raises(Exception, match=r"holds no sound: put \.flac"):
        files_in(tmp_path)


def test_a_file_that_is_no_sound_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 12)
    (tmp_path / "b.mp3").write_bytes(b"la" * 500)
    with pytest.raises(EvaluationError, match=r"b\.mp3: .*; mend it or take it out of the folder"):
        list(from_files(tmp_path, files_in(tmp_path), lambda _: None))


def test_files_are_cut_and_know_their_mood(tmp_path: Path) -> None:
    write(tmp_path / "sad" / "long.wav", 95)
    write(tmp_path / "fight-7-0.wav", 12)
    write(tmp_path / "other" / "short.wav", 3)
    files = files_in(tmp_path)
    short = list[str]()
    excerpts = list(from_files(tmp_path, files, short.append))
    assert short == ["other/short.wav"]
    assert [(each.track, each.mood, each.start, round(each.seconds)) for each in excerpts] == [
        ("fight-7-0.wav", Mood("fight"), 0.0, 12),
        ("sad/long.wav", Mood("sad"), 0.0, 40),
        ("sad/long.wav", Mood("sad"), 40.0, 40),
        ("sad/long.wav", Mood("sad"), 80.0, 15),
    ]
    assert [len(list(each.clips())) for each in excerpts] == [1, 4, 4, 1]
    np.testing.assert_allclose(np.sqrt(np.mean(excerpts[1].sound ** 2)), 0.1 / np.sqrt(2), rtol=1e-3)


@pytest.mark.parametrize(("clips", "most", "starts"), [(1, 3, [0]), (9, 1, [0]), (9, 3, [0, 40]), (12, 2, [0, 80])])
def test_recordings_are_cut_at_the_level_that_is_learnt(
    tmp_path: Path, clips: int, most: int, starts: list[float]
) -> None:
    shard_path(tmp_path, "a").parent.mkdir()
    np.save(shard_path(tmp_path, "a"), np.full((clips, CLIP_SAMPLES), 3_277, np.int16))
    track = Track("a", "sad/a.ogg", "0" * 64, Mood("sad"), False, 0.3, None, "validation", clips, 0, 0.1)
    manifest = Manifest(tmp_path, (track,))
    found = list(recorded(manifest, "validation", most))
    assert [each.start for each in found] == starts
    assert len(found) == excerpts_of(manifest, "validation", most)
    assert all(each.mood is None and each.track == "sad/a.ogg" for each in found)  # its label is not sure
    np.testing.assert_allclose(found[0].sound, 0.1, rtol=1e-3)
