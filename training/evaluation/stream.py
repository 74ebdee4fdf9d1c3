"""The card's section on one long stream: do its seams show, does it wander off?"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.errors import EvaluationError
from training.evaluation import drift, seams, spoil
from training.evaluation.ear import Ear
from training.evaluation.excerpts import Sound
from training.evaluation.hearing import levelled
from training.evaluation.report import Figure
from training.evaluation.sections import Part
from training.evaluation.sources import LongStream
from training.manifest import Manifest

CONTROLS: Final = 300
MOST_SEAMS: Final = 150  #: that the ear is asked about; enough for the interval
SIGNIFICANT: Final = 0.01
PLAIN: Final = 1.5  #: a contrast that a person would notice


def long_recording(manifest: Manifest) -> Sound | None:
    """The longest held-out recording: what a stream without seams is like."""
    tracks = manifest.of("validation")
    if not tracks:
        return None
    longest = max(tracks, key=lambda track: track.clips)
    sound: Sound = (manifest.shard(longest).reshape(-1) / np.float32(32_768)).astype(np.float32)
    return sound


def seams_and_drift(
    stream: LongStream, fade: int, recording: Sound | None, ear: Ear, random: np.random.Generator
) -> Part:
    """Every figure at splices against other places, and the last minute against the first.

    Args:
        stream: the model's.
        fade: samples over which a window takes over.
        recording: without seams; ``None`` if none is held out.
        ear: listens on either side.
        random: draws places and resamples.
    """
    try:
        found = _contrasts(stream.sound, stream.splices, fade, ear, random)
    except EvaluationError:
        return Part(())
    real: dict[str, seams.Contrast] = {}
    if recording is not None and len(recording) > 2 * 60 * 48_000:
        invented = seams.pseudo_splices(len(recording), 60, random, fade)
        real = _contrasts(recording, invented.tolist(), fade, ear, random)
    shuffled = _contrasts(*spoil.shuffle(stream.sound, stream.splices, random), 0, ear, random)
    clicked = _contrasts(spoil.click(stream.sound, stream.splices), stream.splices, fade, ear, random)
    figures, faults = [], []
    for name, contrast in found.items():
        met = contrast.p_value >= SIGNIFICANT or contrast.interval[0] <= 1
        planted: dict[str, float | None] = {"hard cuts": shuffled[name].ratio, "clicks": clicked[name].ratio}
        ceiling = real[name].ratio if name in real else None
        figures.append(
            Figure(
                "seams",
                f"{name} at seams, of elsewhere",
                "",
                "low",
                contrast.ratio,
                contrast.interval,
                ceiling,
                planted,
                "1: seams can't be told",
                met,
            )
        )
        if not met and contrast.ratio > PLAIN:
            worst = ", ".join(f"{seconds:.1f} s" for seconds in contrast.worst)
            faults.append(f"its seams show: {name} is {contrast.ratio:.1f} times that of other places; hear {worst}")
    wandering = _drifts(stream.sound, ear, random)
    steady = {} if recording is None else _drifts(recording, ear, random)
    for name, moved in wandering.items():
        unit = name.rpartition(", ")[2]
        compared = steady[name].distance if name in steady else None
        usual = max(2 * moved.usual, compared or 0.0)  # recordings wander too, and more
        still = moved.p_value is None or moved.p_value >= SIGNIFICANT or moved.distance <= usual
        figures.append(
            Figure(
                "drift",
                f"first to last minute: {name}",
                "",
                "low",
                moved.distance,
                None,
                compared,
                {},
                f"no trend, or at most {usual:.2g}: a recording's, or twice a neighbour's",
                still,
            )
        )
        if not still and moved.distance > 2 * usual:
            faults.append(f"it drifts: {name} by {moved.distance:.2g} {unit}".rstrip())
    return Part(tuple(figures), tuple(faults))


def _contrasts(
    sound: Sound, splices: list[int] | tuple[int, ...], fade: int, ear: Ear, random: np.random.Generator
) -> dict[str, seams.Contrast]:
    inside = seams.inside(splices, len(sound), fade)
    elsewhere = seams.controls(splices, len(sound), CONTROLS, random, fade)
    found = seams.seams(sound, inside, elsewhere, random, fade)
    asked, others = _some(inside, random), _some(elsewhere, random)
    here, there = (_jumps(sound, places, fade, ear) for places in (asked, others))
    return {
        "flux": found.flux,
        "loudness step": found.step,
        "click": found.click,
        "change to the ear": seams.contrast(here, there, asked, random),
    }


def _some(places: seams.Places, random: np.random.Generator) -> seams.Places:
    return places if len(places) <= MOST_SEAMS else np.sort(random.choice(places, MOST_SEAMS, replace=False))


def _jumps(sound: Sound, places: seams.Places, fade: int, ear: Ear) -> NDArray[np.float64]:
    sides = [seams.around(sound, int(place), seams.PATCH, fade) for place in places]
    before, after = (ear.listen(side[which] for side in sides) for which in (0, 1))
    return seams.jumps(before, after)


def _drifts(sound: Sound, ear: Ear, random: np.random.Generator) -> dict[str, drift.Drift]:
    minutes = drift.minutes(sound)
    if len(minutes) < 2:
        return {}
    found = drift.drifts(minutes, random)
    heard = ear.listen(levelled(sound[at * drift.MINUTE : (at + 1) * drift.MINUTE]) for at in range(len(minutes)))
    return {
        "loudness, LU": found.level,
        "brightness, octaves": found.centroid,
        "tuning, cents": found.tuning,
        "what the ear hears": drift.drift(drift.impressions_apart(heard), random),
    }
