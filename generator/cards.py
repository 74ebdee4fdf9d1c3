"""Score cards, as ``bardcast-train evaluate`` leaves them, for whoever listens to a model. Torch-free."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

REPORT_NAME: Final = "report.json"
TOLD: Final = ("section", "name", "unit", "value", "real", "aim", "met")  #: of each figure


def card(model: str, folder: Path) -> dict[str, Any] | None:
    """What was measured of a model: figures and faults. ``None`` where it was not, or can't be read.

    Args:
        model: its name or path, as the command line has it.
        folder: of evaluations, a folder for each model; before what was measured of the models that ship.
    """
    name = Path(model).stem
    for report in (folder / name / REPORT_NAME, files("generator") / "weights" / f"{name}.{REPORT_NAME}"):
        try:
            body = json.loads(report.read_text(encoding="utf-8"))
            figures = [{key: figure[key] for key in TOLD} for figure in body["figures"]]
            return {"figures": figures, "faults": body["faults"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
