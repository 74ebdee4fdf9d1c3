"""The card can fail: noise, silence, a copy, wrong moods and a wandering tempo are each called what they are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from generator.moods import Mood
from tests.training.synthetic_music import song
from training.errors import EvaluationError
from training.evaluation import card, sections
from training.evaluation.card import Judged, evaluate
from training.evaluation.ear import Ear
from training.evaluation.excerpts import Excerpt, Music, Sound
from training.evaluation.hearing import Hearing
from training.evaluation.report import Report
from training.evaluation.sources import noise, silence
from training.manifest import CLIP_SAMPLES, SAMPLE_RATE, Manifest, Split, Track, shard_path

LIVELY, QUIET = Mood("tavern"), Mood("sad")
TRAINED, HELD_OUT = 3, 2  #: recordings of each mood
SECONDS = 20.0


@dataclass(frozen=True)
class World:
    """Recordings of two moods, and an ear."""

    manifest: Manifest
    ear: Ear

    def card(self, excerpts: Sequence[Excerpt]) -> Report:
        report, _ = evaluate(Judged("music", music(excerpts)), self.manifest, self.ear, seed=1)
        return report


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "shards").mkdir()
    tracks = []
    for mood in (LIVELY, QUIET):
        for number in range(TRAINED + HELD_OUT):
            split: Split = "train" if number < TRAINED else "validation"
            tracks.append(record(folder, f"{mood}-{number}", mood, split, song(number, mood == LIVELY, SECONDS)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "PLANTED_EXCERPTS", 2)  # two of noise and two of silence say it as well
        patch.setattr(sections, "DRAWS", 200)
        yield World(Manifest(folder, tuple(tracks)), Ear())


def record(folder: Path, key: str, mood: Mood, split: Split, sound: Sound) -> Track:
    clips = np.round(sound * 32_767).astype(np.int16).reshape(-1, CLIP_SAMPLES)
    np.save(shard_path(folder, key), clips)
    rms = float(np.sqrt(np.mean(np.square(sound))))
    return Track(key, f"{mood}/{key}.ogg", "0" * 64, mood, True, 1.0, None, split, len(clips), 0, rms)


def music(excerpts: Sequence[Excerpt]) -> Music:
    return Music("music", len(excerpts), lambda: iter(excerpts))


def songs(swapped: bool = False, wander: float = 0.0) -> list[Excerpt]:
    """New music of both moods, two streams each; ``swapped``: each is called by the other's name."""
    made = []
    for number in range(2):
        for mood in (LIVELY, QUIET):
            sound = song(100 + number, mood == LIVELY, SECONDS, wander)
            called = {LIVELY: QUIET, QUIET: LIVELY}[mood] if swapped else mood
            made.append(Excerpt(sound, called, f"{mood} stream {number}"))
    return made


def test_new_music_of_the_right_moods_has_no_fault(world: World) -> None:
    report = world.card(songs())
    assert report.faults == ()
    figures = {figure.name: figure for figure in report.figures}
    assert figures["blank clips"].met
    assert figures["mood accuracy"].met
    assert figures["copies of training music, by sound"].met
    distance = figures["kernel distance"]
    assert distance.value is not None
    assert distance.planted["noise"] is not None
    assert distance.value < distance.planted["noise"] / 2


def test_a_figure_is_as_sure_as_its_tracks_are_alike(world: World) -> None:
    names = ("texture, of real", "movement of bands, of real", "loudness")
    many, one = (
        {figure.name: figure for figure in world.card(excerpts).figures} for excerpts in (songs(), songs()[:1])
    )
    for name in names:
        value, interval = many[name].value, many[name].interval
        assert value is not None
        assert interval is not None
        assert interval[0] < value < interval[1]
        assert one[name].interval == pytest.approx((one[name].value, one[name].value))


@pytest.mark.parametrize(
    ("planted", "complaints"),
    [
        (lambda: list(noise(4, 1)), ("are noise", "it is no music")),
        (lambda: list(silence(4)), ("are blank",)),
        (lambda: songs(swapped=True), ("its moods are not heard",)),
        (lambda: songs(wander=0.25), ("its tempo wanders",)),
    ],
    ids=["noise", "silence", "wrong moods", "wandering tempo"],
)
def test_a_planted_failure_is_named(
    world: World, planted: Callable[[], list[Excerpt]], complaints: tuple[str, ...]
) -> None:
    faults = world.card(planted()).faults
    for complaint in complaints:
        assert any(complaint in fault for fault in faults), faults


def test_a_copied_clip_is_named_with_the_recording_and_the_place(world: World) -> None:
    source = song(1, True, SECONDS)
    first = round(7.3 * SAMPLE_RATE)
    copy = Excerpt(0.6 * source[first : first + CLIP_SAMPLES], LIVELY, "tavern stream 0")
    report = world.card([copy, *songs()[1:]])
    assert any(fault.startswith("it copies") and "tavern/tavern-1.ogg" in fault for fault in report.faults)
    (pair, *_) = report.pairs
    assert pair.track == "tavern/tavern-1.ogg"
    heard_at = float(pair.clip.rsplit(" at ", 1)[1].removesuffix(" s"))
    assert pair.start - heard_at == pytest.approx(7.3, abs=0.1)


def test_what_is_not_finite_is_named(world: World) -> None:
    broken = songs()
    broken[0].sound[::1000] = np.nan
    assert any("are not finite" in fault for fault in world.card(broken).faults)


def test_what_was_kept_and_is_damaged_is_measured_anew(tmp_path: Path) -> None:
    for damage in (b"", b"PK", b"PK\3\4" + bytes(500), b"no archive at all"):
        (tmp_path / "heard.npz").write_bytes(damage)
        assert Hearing.load(tmp_path / "heard.npz") is None


def test_nothing_held_out_is_said(world: World) -> None:
    manifest = Manifest(world.manifest.folder, world.manifest.of("train"))
    with pytest.raises(EvaluationError, match="holds nothing out"):
        evaluate(Judged("music", music(songs()[:1])), manifest, world.ear, seed=1)


def test_the_report_is_saved_and_compared(world: World, tmp_path: Path) -> None:
    report = world.card(songs())
    report.save(tmp_path / "report.json")
    loaded = Report.load(tmp_path / "report.json")
    assert loaded == report
    worse = {figure.name: figure for figure in world.card(list(noise(4, 1))).figures}
    for name in ("kernel distance", "clips of noise"):
        better = report.figure(name)
        assert better is not None
        assert better.compared(worse[name]) == "better"
        assert worse[name].compared(better) == "worse"
        assert better.compared(better) == "same"
    (tmp_path / "report.json").write_text('{"format": 1}')
    with pytest.raises(EvaluationError, match="is no report"):
        Report.load(tmp_path / "report.json")
