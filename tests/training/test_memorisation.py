from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from generator.moods import Mood
from training.errors import StorageError
from training.evaluation.excerpts import Excerpt, Sound
from training.evaluation.fingerprints import BANDS, Library, chroma, fingerprint, load_library
from training.evaluation.memorisation import (
    PLAN,
    SOUND,
    Match,
    Planted,
    View,
    disguise,
    judge,
    nearer,
    plant_copies,
    search,
)
from training.evaluation.nearest import nearest
from training.manifest import CLIP_SAMPLES, SAMPLE_RATE, Manifest, Track, load_manifest, shard_path

VIEWS = pytest.mark.parametrize("view", [SOUND, PLAN], ids=lambda view: view.name)
TRACKS, HELD_OUT, CLIPS = 6, 5, 3
SCALE = np.array([0, 2, 3, 5, 7, 8, 10])


BEAT = 2 * SAMPLE_RATE // 5


@cache
def tone(note: int) -> NDArray[np.float64]:
    time = np.arange(BEAT) / SAMPLE_RATE
    envelope = np.minimum(1, time / 0.01) * np.exp(-4 * time)
    hertz = 440 * 2 ** ((note - 69) / 12)
    partials = [np.sin(2 * np.pi * hertz * number * time) / number for number in range(1, 6)]
    note_sound: NDArray[np.float64] = np.sum(partials, axis=0) * envelope
    return note_sound


def song(random: np.random.Generator, seconds: int, semitones: int = 0) -> Sound:
    """Music in one style: chords and a melody in A minor, on one sawtooth-like instrument, at one tempo."""
    beats = []
    for number in range(seconds * SAMPLE_RATE // BEAT):
        if number % 4 == 0:
            root = int(random.integers(7))
        melody = int(random.choice(SCALE))
        notes = (45 + SCALE[root], 57 + SCALE[(root + 2) % 7], 57 + SCALE[(root + 4) % 7], 69 + melody)
        beats.append(np.sum([tone(int(note) + semitones) for note in notes], axis=0))
    music = 0.05 * np.concatenate(beats)
    return (music + 0.002 * random.standard_normal(len(music), np.float32)).astype(np.float32)


def save_tracks(folder: Path, songs: Sequence[Sound]) -> Manifest:
    (folder / "shards").mkdir(parents=True)
    tracks = []
    for number, sound in enumerate(songs):
        key, rms = f"{number:02d}", float(np.sqrt(np.square(sound).mean()))
        np.save(shard_path(folder, key), np.round(sound * 32_767).astype("<i2").reshape(CLIPS, CLIP_SAMPLES))
        tracks.append(Track(key, f"sad/{key}.ogg", "0" * 64, Mood("sad"), True, 1.0, "CC0", "train", CLIPS, 0, rms))
    Manifest(folder, tuple(tracks)).save()
    return load_manifest(folder)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    random = np.random.default_rng(1)
    return save_tracks(tmp_path_factory.mktemp("data") / "prepared", [song(random, 10 * CLIPS) for _ in range(TRACKS)])


@pytest.fixture(scope="module")
def library(manifest: Manifest) -> Library:
    return load_library(manifest)


@pytest.fixture(scope="module")
def held_out() -> list[Excerpt]:
    random = np.random.default_rng(2)
    return [Excerpt(song(random, 10), None, f"held out {number}") for number in range(HELD_OUT)]


@pytest.fixture(scope="module")
def planted(manifest: Manifest) -> tuple[Planted, ...]:
    return plant_copies(manifest, 100, np.random.default_rng(3))


def cut(manifest: Manifest, track: int, start: float) -> Sound:
    first = round(start * SAMPLE_RATE)
    pcm = manifest.shard(manifest.tracks[track]).reshape(-1)[first : first + CLIP_SAMPLES]
    return np.divide(pcm, 32_768, dtype=np.float32)


def equalise(sound: Sound) -> Sound:
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    gain = 2 * np.sin(np.log2(hertz.clip(min=20)))  # dB
    equalised: Sound = np.fft.irfft(spectrum * 10 ** (gain / 20), len(sound)).astype(np.float32)
    return equalised


def noisy(sound: Sound) -> Sound:
    return (sound + 0.003 * np.random.default_rng(4).standard_normal(len(sound))).astype(np.float32)


DISGUISES: dict[str, Callable[[Sound], Sound]] = {
    "as it is": lambda sound: sound,
    "quieter": lambda sound: 0.2 * sound,
    "noisy": noisy,
    "equalised": equalise,
    "all of it": lambda sound: disguise(sound, np.random.default_rng(5)),
    "swelling": lambda sound: sound * np.linspace(0.3, 1, len(sound), dtype=np.float32),
}


# --- what is compared ------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(40, 100))
def test_a_note_lies_in_its_band_and_its_pitch_class(note: int) -> None:
    hertz = 440 * 2 ** ((note - 69) / 12)
    tone = np.sin(2 * np.pi * hertz * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    pitches = fingerprint(tone)
    assert (pitches[2:-2].argmax(axis=1) == note - 36).all()  # C2 is note 36
    assert (chroma(pitches)[2:-2].argmax(axis=1) == note % 12).all()


def test_gain_does_not_count() -> None:
    sound = song(np.random.default_rng(6), 3)
    quiet = fingerprint(0.01 * sound).astype(int)
    assert np.abs(quiet - fingerprint(sound)).max() <= 1
    assert (fingerprint(np.zeros(SAMPLE_RATE, np.float32)) == 0).all()


def test_a_library_is_computed_once_and_again_if_it_is_damaged(tmp_path: Path, manifest: Manifest) -> None:
    own = save_tracks(tmp_path / "prepared", [cut(manifest, 0, 0).repeat(CLIPS)])
    first = load_library(own)
    [path] = own.cache.glob("pitches-*.npy")
    written = path.stat().st_mtime_ns
    again = load_library(own)
    assert path.stat().st_mtime_ns == written
    assert np.array_equal(first.pitches, again.pitches)
    for damage in (path.read_bytes()[:-100], path.read_bytes()[:10], b""):
        path.write_bytes(damage)
        assert np.array_equal(load_library(own).pitches, first.pitches)
    np.save(path, first.pitches[1:])
    assert np.array_equal(load_library(own).pitches, first.pitches)
    moved = replace(own, tracks=(replace(own.tracks[0], key="another"),))
    shard_path(own.folder, "00").rename(shard_path(own.folder, "another"))
    load_library(moved)
    assert len(list(own.cache.glob("pitches-*.npy"))) == 2


def test_a_full_disk_is_a_sentence(tmp_path: Path, manifest: Manifest) -> None:
    from tests.training.test_state import disk_with_room_for

    own = save_tracks(tmp_path / "prepared", [cut(manifest, 0, 0).repeat(CLIPS)])
    with disk_with_room_for(5_000), pytest.raises(StorageError, match="PREPARED"):
        load_library(own)
    assert not list(own.cache.glob(".pitches*")) + list(own.cache.glob("pitches*"))


def test_a_place_names_its_recording(library: Library) -> None:
    per_track = CLIPS * 125
    assert library.place(0) == ("sad/00.ogg", 0.0)
    assert library.place(per_track - 1) == ("sad/00.ogg", CLIPS * 10 - 0.08)
    assert library.place(per_track) == ("sad/01.ogg", 0.0)


# --- the search ------------------------------------------------------------------------------------------------------


def correlations(
    piece: NDArray[np.float32], rows: NDArray[np.float32], ends: Sequence[int]
) -> dict[tuple[int, int], float]:
    """By the definition: Pearson's correlation after centring along both axes, at every place."""

    def centred(stretches: NDArray[np.float64]) -> NDArray[np.float64]:
        values = stretches - stretches.mean(axis=-2, keepdims=True)
        values = values - values.mean(axis=-1, keepdims=True)
        unit: NDArray[np.float64] = values / np.linalg.norm(values, axis=(-2, -1), keepdims=True)
        return unit

    found: dict[tuple[int, int], float] = {}
    for begin, end in zip((0, *ends[:-1]), ends, strict=True):
        if end - begin >= len(piece):
            views = np.lib.stride_tricks.sliding_window_view(rows[begin:end].astype(np.float64), piece.shape)
            scores = (centred(views) * centred(piece.astype(np.float64))).sum(axis=(-2, -1))
            found |= {(begin + row, offset): float(score) for (row, offset), score in np.ndenumerate(scores)}
    return found


@settings(max_examples=15)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(4, 30),
    st.lists(st.integers(1, 1_200), min_size=1, max_size=3),
    st.integers(0, 2),
)
def test_the_search_by_fft_is_the_search_by_definition(seed: int, length: int, sizes: list[int], spare: int) -> None:
    random = np.random.default_rng(seed)
    ends = np.cumsum(sizes)
    rows = random.normal(50, 10, (int(ends[-1]), 3 + spare)).astype(np.float32)
    pieces = random.normal(5, 1, (2, length, 3)).astype(np.float32)
    found = nearest(pieces, rows, ends, still=1e-3)
    for number, piece in enumerate(pieces):
        all_places = correlations(piece, rows, ends.tolist())
        best = max(all_places.values(), default=0.0)
        assert found.score[number] == pytest.approx(max(0, best), abs=1e-4)
        if best > 0:
            place = (int(found.row[number]), int(found.offset[number]))
            assert all_places[place] == pytest.approx(best, abs=1e-4)


def test_what_does_not_move_is_near_nothing() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(0, 1e-3, (2_000, 4)).astype(np.float32)
    rows[1_000:] = random.normal(0, 1, (1_000, 4))
    elsewhere = random.normal(0, 1, (40, 4)).astype(np.float32)
    rows[300:340] = 1e-3 * elsewhere  # all but still, and like it by chance
    found = nearest(np.stack([rows[100:140], rows[1_500:1_540], elsewhere]), rows, np.array([2_000]), still=0.1)
    assert found.score[0] < 0.01
    assert found.score[1] == pytest.approx(1, abs=1e-4)
    assert found.score[2] < 0.5


@VIEWS
@pytest.mark.parametrize("name", DISGUISES)
@pytest.mark.parametrize(("track", "start"), [(0, 0.0), (3, 11.3), (5, 20.0)])
def test_a_copy_is_found_where_it_was_cut(
    manifest: Manifest, library: Library, view: View, name: str, track: int, start: float
) -> None:
    [match] = search([Excerpt(DISGUISES[name](cut(manifest, track, start)), None, "copy", start=100)], library, view)
    assert match.source == f"sad/{track:02d}.ogg"
    assert match.source_start - (match.start - 100) == pytest.approx(start, abs=0.1)
    assert match.semitones == 0
    assert match.score > 0.75


@pytest.mark.parametrize(("view", "semitones"), [(SOUND, -2), (SOUND, 1), (PLAN, 5), (PLAN, -4)])
def test_a_transposed_copy_is_found(tmp_path: Path, view: View, semitones: int) -> None:
    own = save_tracks(tmp_path / "prepared", [song(np.random.default_rng(number), 10 * CLIPS) for number in (7, 8)])
    moved = song(np.random.default_rng(8), 10 * CLIPS, semitones)[CLIP_SAMPLES : 2 * CLIP_SAMPLES]
    [match] = search([Excerpt(moved, None, "moved")], load_library(own), view)
    assert (match.source, match.semitones) == ("sad/01.ogg", -semitones)
    assert match.source_start - match.start == pytest.approx(10, abs=0.1)
    assert match.score > 0.75


def test_a_copied_window_within_new_music_is_found(manifest: Manifest, library: Library) -> None:
    for start in (0.0, 0.4, 1.7, 3.5, 5.0):
        sound = song(np.random.default_rng(9), 10)
        first = round(start * SAMPLE_RATE)
        sound[first : first + 5 * SAMPLE_RATE] = cut(manifest, 2, 7.0)[: 5 * SAMPLE_RATE]
        [match] = search([Excerpt(sound, None, "half new")], library, SOUND)
        assert match.source == "sad/02.ogg"
        assert match.source_start - (match.start - start) == pytest.approx(7, abs=0.1)
        assert match.score > 0.9


@VIEWS
def test_sound_that_is_none_is_near_nothing(library: Library, view: View) -> None:
    silence = Excerpt(np.zeros(CLIP_SAMPLES, np.float32), None, "silence")
    infinite = Excerpt(np.full(CLIP_SAMPLES, np.nan, np.float32), None, "not finite")
    short = Excerpt(np.ones(CLIP_SAMPLES - 1, np.float32), None, "short")
    matches = search([silence, short, infinite], library, view)
    assert [(match.track, match.score) for match in matches] == [("silence", 0), ("not finite", 0)]
    assert search([short], library, view) == ()


# --- the verdict -----------------------------------------------------------------------------------------------------


@VIEWS
def test_copies_are_named_and_new_music_is_not(
    manifest: Manifest, library: Library, held_out: list[Excerpt], planted: tuple[Planted, ...], view: View
) -> None:
    random = np.random.default_rng(10)
    new = [Excerpt(song(random, 10), None, f"new {number}") for number in range(5)]
    copied = [Excerpt(noisy(0.3 * cut(manifest, track, 5.7)), None, f"copied {track}") for track in (1, 4)]
    found = [search(each, library, view) for each in (new, copied, held_out, [one.excerpt for one in planted])]
    clean = judge(found[0], found[2], found[3], planted, random)
    assert clean.copies == ()
    assert clean.duplicates == ()
    assert clean.p_value is not None
    assert clean.p_value > 0.01
    assert clean.planted_found == 1
    guilty = judge((*found[0], *found[1]), found[2], found[3], planted, random)
    assert {match.track for match in guilty.copies} == {"copied 1", "copied 4"}
    assert {match.source for match in guilty.copies} == {"sad/01.ogg", "sad/04.ogg"}
    assert [match.track for match in guilty.closest[:2]] == [match.track for match in guilty.copies]
    assert guilty.share_above_maximum is not None
    assert guilty.share_above_maximum >= 2 / 7
    assert "copied 1 at 0:0" in next(match.label for match in guilty.copies if match.track == "copied 1")


def test_a_model_that_only_copies_is_nearer_than_held_out_recordings(
    library: Library, held_out: list[Excerpt], planted: tuple[Planted, ...]
) -> None:
    copies = search([one.excerpt for one in planted], library, SOUND)
    verdict = judge(copies, search(held_out, library, SOUND), copies, planted, np.random.default_rng(0))
    assert verdict.share_above_upper == verdict.share_above_maximum == 1
    assert verdict.p_value is not None
    assert verdict.p_value < 0.01


def match(track: str, score: float) -> Match:
    return Match(track, 0.0, "sad/00.ogg", 0.0, 0, score)


def test_a_piece_on_both_sides_is_reported_and_does_not_lift_the_null() -> None:
    random = np.random.default_rng(0)
    null = [match(f"held out {number // 4}", 0.3 + 0.01 * (number % 7)) for number in range(40)]
    twice = [match("another version", 0.95), match("another version", 0.4)]
    copies = [match("copy", 0.8 + 0.01 * number) for number in range(10)]
    planted = [Planted(Excerpt(np.zeros(0, np.float32), None, "copy"), "sad/00.ogg", 0.0)] * 10
    verdict = judge([match("new", 0.5)], [*null, *twice], copies, planted, random)
    assert [one.track for one in verdict.duplicates] == ["another version"]
    assert verdict.null is not None
    assert (verdict.null.clips, verdict.null.maximum) == (40, 0.36)
    assert verdict.share_above_maximum == 1
    assert verdict.copies == ()
    assert verdict.closest_real[0].track == "another version"
    alone = judge([match("new", 0.5)], [], copies, planted, random)
    assert (alone.null, alone.share_above_upper, alone.p_value) == (None, None, None)
    assert judge([], null, copies, planted, random).median is None


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    """Tracks that differ, clips that are alike, and more clips to a track on one side: all that could mislead."""
    p_values = []
    for seed in range(100):
        random = np.random.default_rng(seed)

        def clips(side: str, tracks: int, each: int, random: np.random.Generator = random) -> list[Match]:
            levels = random.normal(0.4, 0.1, tracks)
            return [
                match(f"{side} {t}", level + random.normal(0, 0.03))
                for t, level in enumerate(levels)
                for _ in range(each)
            ]

        p_value = nearer(clips("new", 30, 2), clips("old", 20, 9), random)
        assert p_value is not None
        p_values.append(p_value)
    levels = np.sort(p_values)
    distance = np.abs(levels - np.arange(1, 101) / 100).max()
    assert distance < 1.36 / np.sqrt(100)  # Kolmogorov and Smirnov, 5 %


def test_p_value_sees_what_is_nearer_and_does_not_blame_what_is_farther() -> None:
    random = np.random.default_rng(0)
    null = [match(f"old {number // 5}", random.normal(0.4, 0.05)) for number in range(100)]
    near, far = ([match(f"new {number}", random.normal(mean, 0.05)) for number in range(30)] for mean in (0.5, 0.3))
    assert (nearer(near, null, random) or 1) < 0.001
    assert (nearer(far, null, random) or 0) > 0.99
    assert nearer(near[:1], null, random) is None
    same = [match(f"{side} {number}", 0.0) for side in ("a", "b") for number in range(5)]
    assert nearer(same[:5], same[5:], random) == 1  # ties favour nobody


def test_planted_copies_come_from_different_recordings(manifest: Manifest, planted: tuple[Planted, ...]) -> None:
    assert len({one.source for one in planted}) == len(planted) == TRACKS
    assert BANDS == 84
    assert all(len(one.excerpt.sound) == CLIP_SAMPLES for one in planted)
    again = plant_copies(manifest, 100, np.random.default_rng(3))
    assert all(
        np.array_equal(one.excerpt.sound, other.excerpt.sound) for one, other in zip(planted, again, strict=True)
    )
