"""The score card: everything measured, put together. Is it music, is it the mood, is it new, may it ship?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from generator.moods import MOODS, Mood
from generator.picture import log_spectrogram
from training.errors import EvaluationError
from training.evaluation import sections, sources
from training.evaluation.ear import Ear
from training.evaluation.excerpts import Music
from training.evaluation.fingerprints import load_library
from training.evaluation.hearing import Hearing, hear, kept, listen
from training.evaluation.known import known
from training.evaluation.memorisation import PLAN, SOUND, Novelty, View, judge, plant_copies, search
from training.evaluation.picture import Spectrogram
from training.evaluation.probe import MoodProbe
from training.evaluation.report import Figure, Pair, Report
from training.evaluation.sections import Part, Reference
from training.evaluation.sources import LongStream
from training.evaluation.stream import long_recording, seams_and_drift
from training.manifest import SAMPLE_RATE, Manifest, Split

HELD_OUT_EXCERPTS: Final = 6  #: a track, at most
LEARNT_EXCERPTS: Final = 2  #: a track, at most: enough for a probe
PLANTED_EXCERPTS: Final = 8  #: of each planted failure
PLANTED_COPIES: Final = 24
SIGNIFICANT: Final = 0.01
MOST_ABOVE: Final = 0.02  #: share of clips; by chance one in the number of held-out clips
GLIMPSE_SECONDS: Final = 10

Glimpses = Mapping[Mood, tuple[Spectrogram, Spectrogram | None]]


@dataclass(frozen=True)
class Judged:
    """What is to be judged.

    Attributes:
        name: of the model or the folder.
        music: its excerpts.
        stream: one long stream of a model's; ``None`` for a folder.
        fade: samples over which that stream's windows take over.
    """

    name: str
    music: Music
    stream: LongStream | None = None
    fade: int = 0


def load_reference(manifest: Manifest, ear: Ear) -> Reference:
    """What everything is held against; measured once for each set of recordings.

    Raises:
        EvaluationError: nothing is held out.
        StorageError: what was measured can't be kept.
    """
    if not manifest.of("validation"):
        raise EvaluationError(
            f"{manifest.folder} holds nothing out to compare with: prepare two recordings or more of a mood"
        )

    def keep(name: str, music: Music, whole: bool = True) -> Hearing:
        return kept(name, manifest, lambda: (hear if whole else listen)(music, ear))

    plants = {
        "noise": Music("planted noise", PLANTED_EXCERPTS, lambda: sources.noise(PLANTED_EXCERPTS, 0)),
        "silence": Music("planted silence", PLANTED_EXCERPTS, lambda: sources.silence(PLANTED_EXCERPTS)),
    }
    learnt = keep("learnt", _recorded(manifest, "train", LEARNT_EXCERPTS), whole=False).clips
    labelled = learnt.labelled
    try:
        moods = [mood for mood in labelled.moods if mood is not None]
        probe = MoodProbe(labelled.features, moods, labelled.tracks)
    except EvaluationError:
        probe = None
    held_out = keep("held-out", _recorded(manifest, "validation", HELD_OUT_EXCERPTS))
    return Reference(held_out, learnt, {name: keep(name, music) for name, music in plants.items()}, probe)


def evaluate(judged: Judged, manifest: Manifest, ear: Ear, seed: int) -> tuple[Report, Glimpses]:
    """Measure everything.

    Raises:
        EvaluationError: there is nothing to judge, or nothing to judge it by.
        StorageError: what was measured of the reference can't be kept.
    """
    random = np.random.default_rng(seed)
    reference = load_reference(manifest, ear)
    hearing = hear(judged.music, ear)
    if not len(hearing.clips):
        raise EvaluationError(f"{judged.name} holds no clip of 10 s")
    mood, verdict = sections.moods(hearing, reference, random)
    spectrum, curves = sections.spectrum(hearing, reference, random)
    novelty, found, scores = _novelty(judged.music, manifest, random)
    recording = long_recording(manifest)
    parts = (
        sections.flaws(hearing, reference),
        sections.distances(hearing, reference, random),
        mood,
        sections.hangs_together(hearing, reference, random),
        spectrum,
        sections.level(hearing, reference, random),
        novelty,
        Part(()) if judged.stream is None else seams_and_drift(judged.stream, judged.fade, recording, ear, random),
    )
    about = {
        "clips": f"{len(hearing.clips)} of 10 s",
        "held out": f"{len(reference.held_out.clips)} clips of {len(set(reference.held_out.clips.tracks))} recordings",
        "stream": f"{len(judged.stream.sound) / SAMPLE_RATE / 60:.0f} min" if judged.stream else "none",
        "seed": str(seed),
        "ear": "musicnn 0.1.0",
    }
    report = Report(
        judged.name,
        about,
        tuple(figure for part in parts for figure in part.figures),
        tuple(fault for part in parts for fault in part.faults),
        () if verdict is None else tuple(tuple(int(count) for count in row) for row in verdict.confusion),
        found,
        curves | scores,
    )
    return report, _glimpses(judged.music, manifest)


def _recorded(manifest: Manifest, split: Split, most: int) -> Music:
    name = "held-out recordings" if split == "validation" else "training recordings"
    count = sources.excerpts_of(manifest, split, most)
    return Music(name, count, lambda: sources.recorded(manifest, split, most))


def _novelty(
    music: Music, manifest: Manifest, random: np.random.Generator
) -> tuple[Part, tuple[Pair, ...], dict[str, list[float]]]:
    library = load_library(manifest)
    planted = plant_copies(manifest, PLANTED_COPIES, np.random.default_rng(0))  # the same ones each time
    figures: list[Figure] = []
    faults: list[str] = []
    pairs: tuple[Pair, ...] = ()
    scores: dict[str, list[float]] = {}
    for view in (SOUND, PLAN):
        mine = search(music, library, view)
        others = known(manifest, library, view, _recorded(manifest, "validation", HELD_OUT_EXCERPTS), planted)
        found = judge(mine, others.held_out, others.copies, planted, random)
        figures += _likeness(view, found)
        if found.copies:
            faults.append(f"it copies: {len(found.copies)} clips, for instance {found.copies[0].label}")
        if view is SOUND:
            scores = {
                "nearest, judged": [match.score for match in mine],
                "nearest, held-out recordings": [match.score for match in others.held_out],
            }
            pairs = tuple(
                Pair(f"{match.track} at {match.start:.1f} s", match.source, match.source_start, match.score)
                for match in found.closest
            )
    return Part(tuple(figures), tuple(faults)), pairs, scores


def _likeness(view: View, found: Novelty) -> list[Figure]:
    section, name = "novelty", view.name
    above = None if found.share_above_upper is None else 100 * found.share_above_upper
    usual = found.null.median if found.null else None
    # Chords that are written by rule are simple, and simple chords fit much music: what counts is whether they fit one
    # recording better than any other music does.
    if view is PLAN:
        new, aim = (found.share_above_maximum or 0.0) <= MOST_ABOVE, "2 % nearer than any held-out recording at most"
    else:
        new, aim = found.p_value is None or found.p_value >= SIGNIFICANT, "no nearer than held-out recordings"
    return [
        Figure(section, f"likeness to the nearest training music, by {name}", "", "low", found.median, None,
               usual, {"copies": found.copy_score}, aim, new),
        Figure(section, f"clips nearer than 95 % of held-out ones, by {name}", "%", "low", above, None, 5.0, {},
               "about 5", None),
        Figure(section, f"copies of training music, by {name}", "", "low", float(len(found.copies)), None,
               float(len(found.duplicates)), {"copies": 100 * found.planted_found}, "none", not found.copies),
    ]  # fmt: skip


def _glimpses(music: Music, manifest: Manifest) -> dict[Mood, tuple[Spectrogram, Spectrogram | None]]:
    """Ten seconds of each mood, from the middle of its first excerpt, beside a held-out recording's."""

    def firsts(excerpts: Music) -> dict[Mood, Spectrogram]:
        seen: dict[Mood, Spectrogram] = {}
        for excerpt in excerpts:
            if excerpt.mood is not None and excerpt.mood not in seen:
                middle = max(0, len(excerpt.sound) // 2 - GLIMPSE_SECONDS * SAMPLE_RATE // 2)
                sound = excerpt.heard[middle : middle + GLIMPSE_SECONDS * SAMPLE_RATE]
                decibels, _ = log_spectrogram(sound, SAMPLE_RATE)
                seen[excerpt.mood] = np.asarray(decibels, np.float64)
            if len(seen) == len(MOODS):
                break
        return seen

    recordings = Music("recordings", 0, lambda: sources.recorded(manifest, "validation", 1))
    mine, theirs = firsts(music), firsts(recordings)
    return {mood: (spectrogram, theirs.get(mood)) for mood, spectrogram in mine.items()}
