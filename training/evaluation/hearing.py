"""All that is measured of some music, in one pass; that of recordings is kept for the next time."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from generator.moods import Mood
from training.data import TARGET_RMS
from training.evaluation import balance, coherence, defects, loudness
from training.evaluation.ear import Ear
from training.evaluation.excerpts import Excerpt, Music, Sound
from training.manifest import Manifest
from training.storage import writing_to

FORMAT: Final = 2  #: of what is kept; another as soon as something is measured otherwise


@dataclass(frozen=True)
class Clips:
    """The clips of 10 s, as the ear hears them.

    Attributes:
        features: [clips, 200].
        moods: of each, as far as they are known.
        tracks: of each.
    """

    features: NDArray[np.float32]
    moods: tuple[Mood | None, ...]
    tracks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tracks)

    def where(self, chosen: NDArray[np.bool_]) -> "Clips":
        """Some of them."""
        at = np.flatnonzero(chosen).tolist()
        return Clips(self.features[at], tuple(self.moods[i] for i in at), tuple(self.tracks[i] for i in at))

    @property
    def labelled(self) -> "Clips":
        """Those whose mood is known."""
        return self.where(np.array([mood is not None for mood in self.moods], bool))


@dataclass(frozen=True)
class Hearing:
    """Everything about some music, but for what takes the training recordings or one long stream.

    Attributes:
        clips: as the ear hears them.
        defects: of each clip.
        tracks: of each excerpt.
        loudness: of each excerpt.
        balance: of each excerpt.
        coherence: of each excerpt.
    """

    clips: Clips
    defects: tuple[defects.Clip, ...]
    tracks: tuple[str, ...]
    loudness: tuple[loudness.Loudness, ...]
    balance: tuple[balance.Balance, ...]
    coherence: tuple[coherence.Coherence, ...]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        text = {
            "moods": self.clips.moods,
            "clip tracks": self.clips.tracks,
            "tracks": self.tracks,
            "defects": [asdict(each) for each in self.defects],
            "loudness": [asdict(each) for each in self.loudness],
            "coherence": [asdict(each) for each in self.coherence],
        }
        shapes = {
            field.name: np.array([getattr(each, field.name) for each in self.balance])
            for field in fields(balance.Balance)
        }
        partial = path.with_name(f".{path.stem}.{os.getpid()}.part.npz")
        try:
            with partial.open("wb") as file:
                np.savez(
                    file, allow_pickle=False, features=self.clips.features, text=np.array(json.dumps(text)), **shapes
                )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """What :meth:`save` wrote; ``None`` where it is missing or damaged."""
        try:
            with path.open("rb") as archive, np.load(archive, allow_pickle=False) as file:
                text: dict[str, Any] = json.loads(str(file["text"]))
                shapes = {field.name: file[field.name].astype(np.float64) for field in fields(balance.Balance)}
                clips = Clips(file["features"], tuple(text["moods"]), tuple(text["clip tracks"]))
            return cls(
                clips,
                tuple(defects.Clip(**each) for each in text["defects"]),
                tuple(text["tracks"]),
                tuple(loudness.Loudness(**each) for each in text["loudness"]),
                tuple(
                    balance.Balance(**{name: values[row] for name, values in shapes.items()})
                    for row in range(len(shapes["levels"]))
                ),
                tuple(coherence.Coherence(**each) for each in text["coherence"]),
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
            return None


def hear(music: Music, ear: Ear) -> Hearing:
    """Go through it once."""
    return _joined([_measure(excerpt, ear) for excerpt in _followed(music)])


def listen(music: Music, ear: Ear) -> Hearing:
    """Only what the ear hears: all that is needed of recordings that a probe learns from."""
    return _joined([Hearing(_embed(excerpt, ear), (), (), (), (), ()) for excerpt in _followed(music)])


def _followed(music: Music) -> Iterable[Excerpt]:
    bar: Iterable[Excerpt] = tqdm(music, desc=f"hearing {music.name}", unit="excerpt", total=len(music), disable=None)
    return bar


def _measure(excerpt: Excerpt, ear: Ear) -> Hearing:
    return Hearing(
        _embed(excerpt, ear),
        tuple(defects.measure(clip) for clip in excerpt.clips()),
        (excerpt.track,),
        (loudness.measure(excerpt),),
        (balance.measure(excerpt),),
        (coherence.measure(excerpt),),
    )


def _embed(excerpt: Excerpt, ear: Ear) -> Clips:
    clips = tuple(excerpt.clips())
    features = ear.listen(levelled(clip.heard) for clip in clips)
    return Clips(features, tuple(clip.mood for clip in clips), tuple(clip.track for clip in clips))


def levelled(sound: Sound) -> Sound:
    """At the level that recordings are learnt at: the ear hears level too, and that is no music."""
    rms = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0
    return sound if rms < 1e-4 else (sound * np.float32(TARGET_RMS / rms))


def kept(name: str, manifest: Manifest, make: Callable[[], Hearing]) -> Hearing:
    """What was measured of recordings before, or now.

    Raises:
        StorageError: it can't be kept.
    """
    path = manifest.cache / f"heard-{name}-{identity(manifest)}.npz"
    found = Hearing.load(path)
    if found is None:
        found = make()
        with writing_to(manifest.cache, "--reference"):
            manifest.cache.mkdir(exist_ok=True)
            found.save(path)
    return found


def _joined(parts: list[Hearing]) -> Hearing:
    clips = [part.clips for part in parts]
    return Hearing(
        Clips(
            np.concatenate([one.features for one in clips]),
            tuple(chain.from_iterable(one.moods for one in clips)),
            tuple(chain.from_iterable(one.tracks for one in clips)),
        ),
        tuple(chain.from_iterable(part.defects for part in parts)),
        tuple(chain.from_iterable(part.tracks for part in parts)),
        tuple(chain.from_iterable(part.loudness for part in parts)),
        tuple(chain.from_iterable(part.balance for part in parts)),
        tuple(chain.from_iterable(part.coherence for part in parts)),
    )


def identity(manifest: Manifest) -> str:
    """Another as soon as a recording, the split or what is measured is another."""
    tracks = sorted(f"{track.split}/{track.key}" for track in manifest.tracks if track.clips)
    return hashlib.sha256(json.dumps([FORMAT, tracks]).encode()).hexdigest()[:16]
