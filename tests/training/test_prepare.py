import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from training import prepare as prepare_module
from training.__main__ import main
from training.decode import Decoder
from training.errors import ManifestError, StorageError
from training.manifest import CLIP_SAMPLES, MANIFEST_NAME, SAMPLE_RATE, load_manifest, shard_path
from training.prepare import clips_of, is_silent, mean_square, prepare
from training.source import LABELS_NAME

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def tone(path: Path, seconds: float, *, rate: int = 44_100, level: float = 0.25, hertz: float = 440) -> Path:
    """A stereo sine, made by ffmpeg in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"sine=frequency={hertz}:sample_rate={rate}:duration={seconds}"
    shape = f"volume={level * 8},pan=stereo|c0=c0|c1=c0"  # the sine's own level is 1/8
    command = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", source, "-af", shape, str(path)]
    subprocess.run(command, check=True)
    return path


def wav(path: Path, *pieces: tuple[float, float]) -> Path:
    """A mono wav of ``(seconds, level)`` pieces of a square wave: its RMS is its level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [np.where(np.arange(int(s * SAMPLE_RATE)) % 96 < 48, level, -level) for s, level in pieces]
    soundfile.write(path, np.concatenate(parts), SAMPLE_RATE, subtype="PCM_16")
    return path


# --- segments --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=400), st.lists(st.integers(1, 60), max_size=40), st.sampled_from((2, 10, 32)))
def test_streaming_equals_batch(pcm: bytes, sizes: list[int], clip_bytes: int) -> None:
    pcm = pcm[: len(pcm) // 2 * 2]
    pieces, at = [], 0
    for size in sizes:  # pieces end anywhere, in the middle of a sample too
        pieces.append(pcm[at : at + size])
        at += size
    pieces.append(pcm[at:])
    whole = len(pcm) // clip_bytes
    batch = np.frombuffer(pcm[: whole * clip_bytes], "<i2").reshape(whole, clip_bytes // 2)
    streamed = list(clips_of(iter(pieces), clip_bytes))
    assert len(streamed) == whole
    assert all(np.array_equal(one, other) for one, other in zip(streamed, batch, strict=True))


def test_a_clip_is_copied_out_of_the_stream() -> None:
    first, second = clips_of([b"\1\0\2\0"], 2)
    assert (first.item(), second.item()) == (1, 2)


@given(st.integers(0, 32767))
@settings(max_examples=50)
def test_silence_is_below_minus_50_dbfs(level: int) -> None:
    power = mean_square(np.full(1000, level, np.int16))
    assert power == pytest.approx((level / 32768) ** 2, rel=1e-4)
    assert is_silent(power) == (level < 32768 * 10 ** (-50 / 20))


# --- formats and what is kept ----------------------------------------------------------------------------------------


def test_every_format_becomes_the_same_clips(tmp_path: Path) -> None:
    for suffix in ("mp3", "ogg", "opus", "flac", "wav", "m4a"):
        tone(tmp_path / "music" / "fight" / f"{suffix}.{suffix}", 25, rate=48_000 if suffix == "opus" else 44_100)
    result = prepare(tmp_path / "music", tmp_path / "out")
    assert result.broken == ()
    assert result.decoded == 6
    for track in result.manifest.tracks:
        clips = result.manifest.shard(track)
        assert (clips.dtype, clips.shape) == (np.dtype(np.int16), (2, CLIP_SAMPLES))
        assert (track.clips, track.dropped_silent) == (2, 0)
        assert track.rms == pytest.approx(0.25 / np.sqrt(2), rel=0.06)  # AAC loses 5 %
        measured = np.sqrt(np.mean((clips.astype(np.float64) / 32768) ** 2))
        assert track.rms == pytest.approx(measured, rel=1e-4)
        spectrum = np.abs(np.fft.rfft(clips[1]))
        assert spectrum.argmax() == 440 * 10  # bins of 0.1 Hz: resampled, not just relabelled


def test_silent_clips_and_the_tail_are_dropped(tmp_path: Path) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1), (10, 0.001), (10, 0.2), (9.9, 0.5))
    wav(tmp_path / "music" / "sad" / "short.wav", (9.9, 0.5))
    result = prepare(tmp_path / "music", tmp_path / "out")
    track, short = result.manifest.tracks
    assert (track.clips, track.dropped_silent) == (2, 1)
    assert track.rms == pytest.approx(np.sqrt((0.1**2 + 0.2**2) / 2), rel=1e-3)
    levels = np.abs(result.manifest.shard(track).astype(np.int32)).max(axis=1) / 32768
    assert levels == pytest.approx([0.1, 0.2], rel=1e-3)
    assert short.clips == 0
    assert result.manifest.shard(short).shape == (0, CLIP_SAMPLES)
    assert any("short.wav" in note for note in result.notes)
    assert any("nothing is held out" in note and "sad" in note for note in result.notes)


def test_split_confidence_and_licence_come_from_the_table(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        wav(tmp_path / "music" / "town" / f"{name}.wav", (10, 0.1), (1, ord(name) / 256))
    (tmp_path / "music" / "tracks.csv").write_text(
        "file,split,confidence,licence\ntown/a.wav,train,0.4,GPL-2+\ntown/b.wav,validation,0.5,CC0\n"
    )
    manifest = prepare(tmp_path / "music", tmp_path / "out").manifest
    a, b, c = manifest.tracks
    assert (a.split, a.labelled, a.confidence, a.licence) == ("train", False, 0.4, "GPL-2+")
    assert (b.split, b.labelled, b.confidence, b.licence) == ("validation", True, 0.5, "CC0")
    assert (c.split, c.labelled, c.confidence, c.licence) == ("train", True, 1.0, None)
    assert manifest.counts()["train"]["town"] == {"tracks": 2, "clips": 2, "labelled_clips": 1}
    assert manifest.of("validation") == (b,)
    written = json.loads((tmp_path / "out" / MANIFEST_NAME).read_text())
    assert written["counts"] == manifest.counts()
    assert load_manifest(tmp_path / "out") == manifest


def test_two_long_files_a_mood_hold_one_out(tmp_path: Path) -> None:
    for mood in ("sad", "fight"):
        for name in ("one", "two"):
            wav(tmp_path / "music" / mood / f"{name}.wav", (20, 0.1 + 0.1 * len(name) + 0.01 * len(mood)), (1, 0.3))
    wav(tmp_path / "music" / "sad" / "two.wav", (20, 0.4))
    wav(tmp_path / "music" / "fight" / "two.wav", (20, 0.5))
    manifest = prepare(tmp_path / "music", tmp_path / "out").manifest
    for mood in ("sad", "fight"):
        assert sorted(t.split for t in manifest.tracks if t.mood == mood) == ["train", "validation"]


def test_the_same_bytes_whoever_made_them(tmp_path: Path) -> None:
    for number in range(6):
        mood = ("sad", "fight")[number % 2]
        tone(tmp_path / "music" / mood / f"{number}.ogg", 11 + 10 * (number % 3), hertz=200 + 50 * number)
    made = []
    for workers in (1, 2, None):
        out = tmp_path / f"out {workers}"
        prepare(tmp_path / "music", out, workers)
        made.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*.*") if path.is_file()})
    assert len([path for path in made[0] if path.suffix == ".npy"]) == 6
    assert made[0] == made[1] == made[2]


def test_as_many_files_are_decoded_at_once_as_there_are_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each decoder waits until three are under way, which two workers never would be."""
    for number in range(3):
        wav(tmp_path / "music" / "sad" / f"{number}.wav", (10, 0.1 + number / 10))
    monkeypatch.setattr(prepare_module, "cores", lambda: 3)
    meeting = threading.Barrier(3)

    class Waiting(Decoder):
        def __enter__(self) -> Self:
            meeting.wait(timeout=30)
            return super().__enter__()

    monkeypatch.setattr(prepare_module, "Decoder", Waiting)
    assert prepare(tmp_path / "music", tmp_path / "out").decoded == 3


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_broken_files_are_named_counted_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music = tmp_path / "music" / "tavern"
    good = tone(music / "good.ogg", 11)
    (music / "empty.ogg").touch()
    (music / "noise.mp3").write_bytes(np.random.default_rng(1).bytes(50_000))
    (music / "list.mp3").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:11\n#EXTINF:11\n" + str(good) + "\n")
    for suffix in ("flac", "mp3", "m4a"):
        whole = tone(tmp_path / f"whole.{suffix}", 30)
        (music / f"cut.{suffix}").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert main(["prepare", str(tmp_path / "music"), "--out", str(tmp_path / "out")]) == 3
    said = capsys.readouterr().err
    for name in ("empty.ogg", "noise.mp3", "list.mp3", "cut.flac", "cut.mp3", "cut.m4a"):
        assert f"skipped tavern/{name}: " in said
    assert "ends after 15 of 30 seconds" in said
    assert "moov atom not found" in said  # ffmpeg's own words
    assert "6 files were skipped" in said
    assert [track.source for track in load_manifest(tmp_path / "out").tracks] == ["tavern/good.ogg"]


def test_names_that_are_no_utf_8_and_names_that_look_like_something_else(tmp_path: Path) -> None:
    music = tmp_path / "music" / "Tavern"
    good = tone(tmp_path / "good.ogg", 11).read_bytes()
    music.mkdir(parents=True)
    names = (b"old \xfc.ogg", b"-y.OGG", b"a%03d.ogg", b"new\nline.ogg", b"concat:a|b.ogg")
    for number, name in enumerate(names):
        (music / os.fsdecode(name)).write_bytes(good + bytes(number))
    result = prepare(tmp_path / "music", tmp_path / "out")
    assert result.broken == ()
    sources = {track.source for track in load_manifest(tmp_path / "out").tracks}
    assert sources == {f"Tavern/{os.fsdecode(name)}" for name in names}


def test_nothing_usable_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music = tmp_path / "music" / "sad"
    tone(music / "short.ogg", 3)
    film = ["-f", "lavfi", "-i", "color=duration=1:size=16x16", str(music / "film.m4a")]
    subprocess.run([FFMPEG, "-v", "error", *film], check=True)
    assert main(["prepare", str(tmp_path / "music"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "skipped sad/film.m4a: film.m4a can't be decoded: no sound in it" in said
    assert f"nothing in {tmp_path / 'music'} can be trained on" in said


def test_a_variable_bitrate_without_a_header_is_not_taken_for_cut_off(tmp_path: Path) -> None:
    # Loud first, then silence: by the bitrate of its first second ffmpeg thinks such a file shorter or longer.
    path = tmp_path / "music" / "sad" / "vbr.mp3"
    path.parent.mkdir(parents=True)
    source = "anoisesrc=d=5:c=pink[n];sine=440:d=25[s];[n][s]concat=n=2:v=0:a=1"
    encode = ["-q:a", "4", "-write_xing", "0", str(path)]
    subprocess.run([FFMPEG, "-v", "error", "-filter_complex", source, *encode], check=True)
    result = prepare(tmp_path / "music", tmp_path / "out")
    assert result.broken == ()
    assert result.manifest.tracks[0].clips == 3


def test_a_file_that_may_not_be_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    secret = wav(tmp_path / "music" / "sad" / "secret.wav", (10, 0.1))
    real = Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == secret:  # root may read everything, so the refusal is played
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    result = prepare(tmp_path / "music", tmp_path / "out")
    assert result.broken == ("sad/secret.wav: can't be read: Permission denied",)
    assert len(result.manifest.tracks) == 1


def test_what_can_not_be_read_today_is_not_decoded_again_tomorrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "away", "gone"):
        wav(tmp_path / "music" / "sad" / f"{name}.wav", (10, 0.1 + len(name) / 100))
    whole = prepare(tmp_path / "music", tmp_path / "out").manifest
    (tmp_path / "music" / "sad" / "gone.wav").unlink()
    real, away = Path.open, tmp_path / "music" / "sad" / "away.wav"

    def fail(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == away:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        result = prepare(tmp_path / "music", tmp_path / "out")
    assert [track.source for track in result.manifest.tracks] == ["sad/a.wav"]
    assert "1 shards of recordings that are gone or changed were removed" in result.notes
    again = prepare(tmp_path / "music", tmp_path / "out")
    assert again.decoded == 0
    assert again.manifest.tracks == whole.tracks[:2]


def test_another_folders_clips_are_not_thrown_away(tmp_path: Path) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    wav(tmp_path / "other" / "sad" / "b.wav", (10, 0.1))
    before = prepare(tmp_path / "music", tmp_path / "out").manifest
    with pytest.raises(StorageError, match=r"holds clips of other recordings.*another --out"):
        prepare(tmp_path / "other", tmp_path / "out")
    assert load_manifest(tmp_path / "out") == before
    assert prepare(tmp_path / "music", tmp_path / "out").decoded == 0


def test_names_in_common_make_no_other_folder_the_same(tmp_path: Path) -> None:
    for name in ("01", "02", "03"):
        wav(tmp_path / "music" / "sad" / f"{name}.wav", (10, 0.1))
    wav(tmp_path / "other" / "sad" / "01.wav", (10, 0.2))
    before = prepare(tmp_path / "music", tmp_path / "out").manifest
    with pytest.raises(StorageError, match="most of which are not in"):
        prepare(tmp_path / "other", tmp_path / "out")
    assert load_manifest(tmp_path / "out") == before
    for name in ("02", "03"):  # but in the same folder anything may go
        (tmp_path / "music" / "sad" / f"{name}.wav").unlink()
    assert len(prepare(tmp_path / "music", tmp_path / "out").manifest.tracks) == 1
    (tmp_path / "music").rename(tmp_path / "moved")
    assert prepare(tmp_path / "moved", tmp_path / "out").decoded == 0


def test_nothing_is_removed_that_it_did_not_make(tmp_path: Path) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    out = tmp_path / "home"
    kept = [out / "cache" / "photos" / "1.jpg", out / "shards" / "notes.txt", out / "shards" / "more" / "sad-a.npy"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    prepare(tmp_path / "music", out)
    wav(tmp_path / "music" / "sad" / "b.wav", (10, 0.1))
    prepare(tmp_path / "music", out)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("out", ["music", "music/prepared", "music/sad/../out"])
def test_clips_are_not_put_among_the_recordings(tmp_path: Path, out: str) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    with pytest.raises(StorageError, match="lies in the folder of the recordings; choose another --out"):
        prepare(tmp_path / "music", tmp_path / out)


def test_a_folder_of_recordings_is_to_be_prepared_first(tmp_path: Path) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    with pytest.raises(ManifestError, match=r"not prepared: run `bardcast-train prepare .*music --out DIR`"):
        load_manifest(tmp_path / "music")


def test_a_link_back_up_is_not_followed(tmp_path: Path) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    (tmp_path / "music" / "sad" / "loop").symlink_to("..")
    assert len(prepare(tmp_path / "music", tmp_path / "out").manifest.tracks) == 1


def test_a_table_that_names_what_is_not_there_is_told(tmp_path: Path) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    rows = ["sad/A.wav", *(f"sad/{number}.wav" for number in range(6)), "sad/a.wav"]
    (tmp_path / "music" / "tracks.csv").write_text("\n".join(["file", *rows]))
    (note,) = (note for note in prepare(tmp_path / "music", tmp_path / "out").notes if "tracks.csv" in note)
    assert note.endswith("no recording here: sad/0.wav, sad/1.wav, sad/2.wav, sad/3.wav, sad/4.wav and 2 more")


@pytest.mark.parametrize(
    ("code", "says"), [(errno.ENOSPC, "full; make room"), (errno.EROFS, "choose another folder with --out")]
)
def test_a_disk_that_fails_leaves_no_shard_and_what_was_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, says: str
) -> None:
    for name in ("a", "b", "c"):
        wav(tmp_path / "music" / "sad" / f"{name}.wav", (20, 0.1))
    out = tmp_path / "out"
    real, calls = os.fsync, iter(range(100))

    def fsync(file: int) -> None:
        if next(calls) == 2:  # shard, sidecar, and then the second shard: where delayed allocation finds the disk full
            raise OSError(code, os.strerror(code))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    command = ["prepare", str(tmp_path / "music"), "--out", str(out), "--workers", "1"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert says in said
    assert str(out) in said
    assert not (out / MANIFEST_NAME).exists()
    assert [path.suffix for path in sorted((out / "shards").iterdir())] == [".json", ".npy"]
    monkeypatch.undo()
    result = prepare(tmp_path / "music", out)
    assert (result.decoded, len(result.manifest.tracks)) == (2, 3)


def test_an_out_that_is_a_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    (tmp_path / "out").touch()
    with pytest.raises(StorageError, match="choose another folder with --out"):
        prepare(tmp_path / "music", tmp_path / "out")


def test_no_ffmpeg_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    assert main(["prepare", str(tmp_path / "music"), "--out", str(tmp_path / "out")]) == 1
    assert "ffmpeg can't be started" in capsys.readouterr().err


def test_exit_status_of_a_wrong_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- resuming --------------------------------------------------------------------------------------------------------


def test_only_new_and_changed_files_are_decoded_again(tmp_path: Path) -> None:
    music, out = tmp_path / "music", tmp_path / "out"
    a, b = (wav(music / "sad" / f"{name}.wav", (10, 0.1)) for name in ("a", "b"))
    first = prepare(music, out)
    assert (first.decoded, prepare(music, out).decoded) == (2, 0)
    wav(a, (10, 0.2))
    wav(music / "sad" / "c.wav", (10, 0.3))
    second = prepare(music, out)
    assert second.decoded == 2
    assert [round(track.rms, 2) for track in second.manifest.tracks] == [0.2, 0.1, 0.3]
    b.unlink()
    third = prepare(music, out)
    assert (third.decoded, len(third.manifest.tracks)) == (0, 2)
    assert {path.stem for path in (out / "shards").iterdir()} == {track.key for track in third.manifest.tracks}
    shutil.rmtree(music / "sad")
    wav(music / "fight" / "a.wav", (10, 0.2))
    assert [track.mood for track in prepare(music, out).manifest.tracks] == ["fight"]


def test_what_was_made_of_other_tracks_is_removed(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    tone(source / "fight" / "one.wav", 10.1)
    cache = prepare(source, out).manifest.cache
    made = cache / "mel-1" / "one.mel.npy"
    made.parent.mkdir(parents=True)
    made.touch()
    prepare(source, out)
    assert made.exists()
    (source / LABELS_NAME).write_text("file,split\nfight/one.wav,validation\n")
    prepare(source, out)
    assert not made.exists()


@pytest.mark.parametrize("damage", ["truncate", "lengthen", "header", "remove", "sidecar"])
def test_a_damaged_shard_is_noticed_and_remade(tmp_path: Path, damage: str) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (20, 0.1))
    out = tmp_path / "out"
    manifest = prepare(tmp_path / "music", out).manifest
    track = manifest.tracks[0]
    whole = manifest.shard(track).copy()
    path = shard_path(out, track.key)
    content = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(content[:-2])
    elif damage == "lengthen":
        path.write_bytes(content + b"\0\0")
    elif damage == "header":
        path.write_bytes(b"\0" * 128 + content[128:])
    elif damage == "remove":
        path.unlink()
    else:
        path.with_suffix(".json").write_text('{"key": ')
    if damage != "sidecar":
        with pytest.raises(ManifestError, match="missing or damaged"):
            load_manifest(out).shard(track)
    again = prepare(tmp_path / "music", out)
    assert again.decoded == 1
    assert np.array_equal(again.manifest.shard(track), whole)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_killed_in_the_middle_and_resumed(tmp_path: Path, number: signal.Signals, status: int) -> None:
    music, out = tmp_path / "music", tmp_path / "out"
    wav(music / "sad" / "a.wav", (20, 0.1))
    wav(music / "sad" / "endless.wav", (30, 0.1))
    fake = tmp_path / "ffmpeg"  # plays the second file for ever
    endless = 'while head -c 960000 /dev/zero | tr "\\0" "\\1"; do sleep 0.02; done'
    fake.write_text(f'#!/bin/sh\ncase "$*" in *endless*) {endless};; esac\nexec {FFMPEG} "$@"\n')
    fake.chmod(0o755)
    command = [sys.executable, "-m", "training", "prepare", str(music), "--out", str(out), "--workers", "1"]
    process = subprocess.Popen(
        command, env={**os.environ, "IMAGEIO_FFMPEG_EXE": str(fake)}, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size > 3_000_000 for p in (out / "shards").glob("sad-endless-*.tmp")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, number)  # as a terminal does: the whole group
    _, said = process.communicate(timeout=30)
    assert process.returncode == status
    if number is not signal.SIGKILL:
        assert said.decode().strip().endswith("run the same command again, which goes on from what is finished")
        assert b"Traceback" not in said
        assert not list((out / "shards").glob("*.tmp"))
    assert not (out / MANIFEST_NAME).exists()
    with pytest.raises(ManifestError, match="bardcast-train prepare"):
        load_manifest(out)
    result = prepare(music, out)
    assert (result.decoded, result.broken) == (1, ())
    assert [track.clips for track in result.manifest.tracks] == [2, 3]
    assert len(list((out / "shards").iterdir())) == 4  # two shards, two sidecars, nothing half-written


def test_a_second_run_into_the_same_folder_is_turned_away(tmp_path: Path) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    with (
        prepare_module._lock(tmp_path / "out"),
        pytest.raises(StorageError, match="another run"),
    ):
        prepare(tmp_path / "music", tmp_path / "out")


def test_an_hour_never_sits_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "music" / "sad" / "hour.wav"
    path.parent.mkdir(parents=True)
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_U8") as file:
        minute = np.random.default_rng(0).uniform(-0.3, 0.3, 60 * 8_000)
        for _ in range(60):
            file.write(minute)
    script = (
        "import sys; from pathlib import Path; from training.prepare import prepare\n"
        "r = prepare(Path(sys.argv[1]), Path(sys.argv[2])); status = Path('/proc/self/status').read_text()\n"
        "print(sum(t.clips for t in r.manifest.tracks), status.split('VmHWM:')[1].split()[0])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "music"), str(tmp_path / "out")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    clips, peak_kib = map(int, done.stdout.split())
    assert clips == 360
    assert peak_kib < 200 * 1024  # the hour is 345 MB at 48 kHz


# --- the reader ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "can't read"),
        ("[]", "another version"),
        ('{"format": 0}', "another version"),
        ('{"format": 1}', "damaged"),
        ('{"format": 1, "tracks": [{"key": "a"}], "sample_rate": 48000, "clip_samples": 480000}', "damaged"),
    ],
)
def test_a_damaged_manifest_is_told_in_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(ManifestError, match=says):
        load_manifest(tmp_path)


def test_a_shard_is_mapped_and_read_only(tmp_path: Path) -> None:
    wav(tmp_path / "music" / "sad" / "a.wav", (10, 0.1))
    prepare(tmp_path / "music", tmp_path / "out")
    manifest = load_manifest(tmp_path / "out" / MANIFEST_NAME)
    shard = manifest.shard(manifest.tracks[0])
    assert isinstance(shard, np.memmap)
    assert not shard.flags.writeable
