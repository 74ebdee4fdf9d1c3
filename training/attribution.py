"""Who made the music that the shipped model learnt from: ``python -m training.attribution > ATTRIBUTION.md``."""

import sys
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from training.corpus import Piece, load_pieces, load_pins

#: Where each licence can be read; a package's own wording may add to the name.
LICENCES: Final = {
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "GPL-2": "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html",
    "GPL-3": "https://www.gnu.org/licenses/gpl-3.0.html",
}

_HEAD: Final = """\
# Attribution

The model that ships with Bardcast learnt from the recordings below. None of them is in this repository: they are part
of Debian packages, and `bardcast-train corpus fetch` takes them from there. Changes made for training: mixed to mono,
cut into clips of ten seconds with silence left out, brought to one loudness, turned into Mel spectrograms. Recordings
marked *held out* were used to validate the model and never to train it.

Made by `python -m training.attribution` from `training/corpus.csv`. A plus sign after a licence means "or any later
version"; title, author and licence are as the package states them.
"""


def attribution(pieces: Iterable[Piece]) -> str:
    """All recordings with their authors and licences, as a page of Markdown."""
    pieces = sorted(pieces, key=lambda piece: (piece.package, piece.path))
    lines = [_HEAD, "## Licences", "", "| Licence | Recordings | Minutes |", "|---|---:|---:|"]
    counts = Counter(piece.licence for piece in pieces)
    for licence, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        minutes = sum(piece.seconds for piece in pieces if piece.licence == licence) / 60
        lines.append(f"| {_cell(licence)} | {count} | {minutes:.0f} |")
    lines += ["", *(f"- {name}: <{address}>" for name, address in LICENCES.items()), ""]
    pins = load_pins()
    for package, group in groupby(pieces, key=lambda piece: piece.package):
        lines += [f"## {package}", "", f"Debian package {package}, version {pins[package].version}.", ""]
        lines += ["| Title | Author | Licence | Mood | Length | File |", "|---|---|---|---|---:|---|"]
        for piece in group:
            cells = (piece.title, piece.author, piece.licence, _mood(piece), _clock(piece.seconds), f"`{piece.path}`")
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _mood(piece: Piece) -> str:
    return f"{piece.mood} (held out)" if piece.split == "validation" else piece.mood


def _clock(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(attribution(load_pieces()))
