"""How near held-out recordings and planted copies come to the training music: searched once, then known."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.evaluation.excerpts import Excerpt, Music
from training.evaluation.fingerprints import Library
from training.evaluation.hearing import identity
from training.evaluation.memorisation import Match, Matches, Planted, View, search
from training.manifest import Manifest
from training.storage import write_atomically, writing_to


@dataclass(frozen=True)
class Known:
    """What clips are held against.

    Attributes:
        held_out: the nearest of each held-out clip.
        copies: the nearest of each planted copy.
    """

    held_out: Matches
    copies: Matches


def known(manifest: Manifest, library: Library, view: View, held_out: Music, planted: Sequence[Planted]) -> Known:
    """Look it up, or search.

    Raises:
        StorageError: it can't be kept.
    """

    def found(name: str, make: Callable[[], Sequence[Excerpt] | Music]) -> Matches:
        path = manifest.cache / f"nearest-{name}-{view.name}-{identity(manifest)}.json"
        matches = _read(path)
        if matches is None:
            matches = search(make(), library, view)
            with writing_to(manifest.cache, "--reference"):
                manifest.cache.mkdir(exist_ok=True)
                write_atomically(path, json.dumps([asdict(match) for match in matches]) + "\n")
        return matches

    return Known(found("held-out", lambda: held_out), found("copies", lambda: [each.excerpt for each in planted]))


def _read(path: Path) -> Matches | None:
    try:
        return tuple(Match(**each) for each in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
