"""Score cards, as ``bardcast-train evaluate`` leaves them, for whoever listens to a model. Torch-free."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

REPORT_NAME: Final = "report.json"
RUN_MODEL: Final = "model.safetensors"
TOLD: Final = ("section", "name", "unit", "value", "real", "aim", "met")  #: of each figure


def card(model: str, folder: Path) -> dict[str, Any] | None:
    """What was measured of a model: figures and faults. ``None`` where it was not, or can't be read.

    Args:
        model: its name or path, as the command line has it.
        folder: of evaluations, a folder for each model; before what was measured of the models that ship.
    """
    path = Path(model)
    # A run's model is called as all runs' are, and its card as the run's folder.
    name = path.parent.name if path.name == RUN_MODEL else path.name.removesuffix(".safetensors")
    for report in (folder / name / REPORT_NAME, files("generator") / "weights" / f"{name}.{REPORT_NAME}"):
        try:
            body = json.loads(report.read_text(encoding="utf-8"), parse_constant=_no_number)
            figures = [{key: figure[key] for key in TOLD} for figure in body["figures"]]
            return {"figures": figures, "faults": body["faults"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number that a page can show")
