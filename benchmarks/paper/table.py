"""``rows.json``: every row's scale, verdict and diagnosis, as the tables of docs/paper.md are made of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.paper.play import RESULT_NAME
from benchmarks.paper.rows import ROWS
from training.evaluation.report import REPORT_NAME, Report
from training.evaluation.table import number
from training.storage import write_atomically

DIGITS: Final = 4  #: significant; what is more is noise, and makes each rerun another file


#: Columns of the card's table, and the figures that they show.
CARD: Final = {
    "Kernel distance": "kernel distance",
    "Mood accuracy": "mood accuracy",
    "Noise, %": "clips of noise",
    "Balance, dB": "spectral balance, mean difference",
    "Texture": "texture, of real",
    "Movement": "movement of bands, of real",
    "Beat": "beat strength",
    "Key": "clarity of key",
    "Notes/s": "note density, a second",
    "LUFS": "loudness",
}


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


def markdown(results: Mapping[str, Mapping[str, Any]], runs: Path) -> Iterator[str]:
    """The document's tables: what each row drew, and what the score card hears in it."""
    yield "| Row | What it is | Loss, held out | Infinite | Exploded | Blank | Noise | Sound |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for name, row in results.items():
        found = row["verdict"]
        counts = " | ".join(str(found[kind]) for kind in ("infinite", "exploded", "blank", "noise", "sound"))
        yield f"| `{name}` | {row['title']} | {row['training']['validation']:.4f} | {counts} |"
    yield ""
    yield "| Row | " + " | ".join(CARD) + " |"
    yield "|---|" + "---:|" * len(CARD)
    real: Report | None = None
    for name in results:
        path = runs / name / "card" / REPORT_NAME
        if path.is_file():
            real = Report.load(path)
            yield f"| `{name}` | " + " | ".join(_cell(real, figure, "value") for figure in CARD.values()) + " |"
    if real is not None:
        yield "| held-out recordings | " + " | ".join(_cell(real, figure, "real") for figure in CARD.values()) + " |"
        yield "| planted noise | " + " | ".join(_cell(real, figure, "noise") for figure in CARD.values()) + " |"


def _cell(report: Report, name: str, what: str) -> str:
    figure = report.figure(name)
    if figure is None:
        return "-"
    return number({"value": figure.value, "real": figure.real}.get(what, figure.planted.get(what)))
