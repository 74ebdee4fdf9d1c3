"""A run's log: one JSON object a line, only ever appended to.

Steps are ``{"step", "samples", "loss", "gradient", "seconds"}``, some with ``"validation"``; a call begins with
``{"event": "start"}`` and ends with ``{"event": "stop"}``.
"""

import json
from pathlib import Path
from typing import Any, Final

from training.storage import writing_to

LOG_NAME: Final = "log.jsonl"


def append(folder: Path, entry: dict[str, object]) -> None:
    """Add a line.

    Raises:
        StorageError: it can't be written.
    """
    with writing_to(folder, "--run"), (folder / LOG_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """All entries, each step once: what a kill undid and a later call did again counts as that call did it.

    A line that a full disk cut short, or that is damaged, is left out.
    """
    path = folder / LOG_NAME
    entries: list[dict[str, Any]] = []
    for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if not isinstance(entry, dict) or not ("event" in entry or "step" in entry):
            continue
        if entry.get("event") == "start":
            entries = [earlier for earlier in entries if "event" in earlier or earlier["step"] <= entry["step"]]
        entries.append(entry)
    return entries
