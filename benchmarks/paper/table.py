"""``rows.json``: every row's scale, verdict and diagnosis, as the tables of docs/paper.md are made of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.paper.play import RESULT_NAME
from benchmarks.paper.rows import ROWS
from training.storage import write_atomically

DIGITS: Final = 4  #: significant; what is more is noise, and makes each rerun another file


def load_results(runs: Path) -> dict[str, dict[str, Any]]:
    """The results of the rows that were played, in the rows' order."""
    return {
        name: json.loads((runs / name / RESULT_NAME).read_text(encoding="utf-8"))
        for name in ROWS
        if (runs / name / RESULT_NAME).is_file()
    }


def write_rows(results: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Write them, the steps as columns and without what was found clip by clip."""
    rows = [
        {key: value for key, value in result.items() if key not in {"steps", "clips"}}
        | {"steps": _columns(result["steps"])}
        for result in results.values()
    ]
    write_atomically(path, json.dumps(_short({"rows": rows}), indent=1, allow_nan=False) + "\n")
    return path


def _columns(steps: list[dict[str, Any]]) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for step in steps:
        for key, value in step.items():
            parts = {f"{key} {name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
            for name, part in parts.items():
                columns.setdefault(name, []).append(part)
    return columns


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_short(part) for part in value]
    return value
