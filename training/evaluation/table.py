"""The report as lines of text."""

from collections.abc import Iterator
from typing import Final

from generator.moods import MOODS
from training.evaluation.report import Figure, Report

_MARKS: Final = {True: "✓", False: "✗", None: " "}


def lines(report: Report, baseline: Report | None = None) -> Iterator[str]:
    """The card: a heading, a table a section, the confusion matrix, the closest pairs, the faults."""
    yield f"{report.judged}: the score card"
    yield ", ".join(f"{key} {value}" for key, value in report.about.items())
    plants = list(dict.fromkeys(name for figure in report.figures for name in figure.planted))
    heading = ["", "figure", "value", "95 %", "real", *plants, "aim", *(["against the baseline"] if baseline else [])]
    rows: list[list[str]] = [heading]
    section = ""
    for figure in report.figures:
        if figure.section != section:
            section = figure.section
            rows.append([section.upper()])
        rows.append(_row(figure, plants, baseline))
    widths = [max(len(row[at]) for row in rows if at < len(row) > 1) for at in range(len(heading))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join(cells).rstrip() if len(row) > 1 else f"\n{row[0]}"
    if report.confusion:
        yield "\nMOODS: meant, and what the probe takes the clips for"
        yield " " * 12 + "".join(f"{mood[:5]:>7}" for mood in MOODS)
        for mood, counts in zip(MOODS, report.confusion, strict=True):
            yield f"{mood:<12}" + "".join(f"{count:>7}" for count in counts)
    if report.pairs:
        yield "\nCLOSEST TO TRAINING RECORDINGS: listen to these side by side"
        for pair in report.pairs:
            minutes, seconds = divmod(round(pair.start), 60)
            yield f"{pair.score:.3f}  {pair.clip}  like  {pair.track} at {minutes}:{seconds:02d}"
    yield ""
    yield from (f"FAULT: {fault}" for fault in report.faults)
    yield verdict(report)


def verdict(report: Report) -> str:
    """The last line: whether it may ship, and how many aims it meets."""
    held = [figure for figure in report.figures if figure.met is not None]
    met = sum(bool(figure.met) for figure in held)
    count = len(report.faults)
    may = "no fault found" if not count else f"not fit to ship: {count} {'fault' if count == 1 else 'faults'}"
    return f"{report.judged}: {may}; {met} of {len(held)} aims met"


def number(value: float | None) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if value == round(value) and abs(value) < 10_000:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _row(figure: Figure, plants: list[str], baseline: Report | None) -> list[str]:
    unit = f" {figure.unit}" if figure.unit else ""
    interval = "" if figure.interval is None else "{} to {}".format(*map(number, figure.interval))
    cells = [_MARKS[figure.met], figure.name, number(figure.value) + unit, interval, number(figure.real)]
    cells += [number(figure.planted[name]) if name in figure.planted else "" for name in plants]
    cells.append(figure.aim)
    if baseline is not None:
        earlier = baseline.figure(figure.name)
        said = figure.compared(earlier) if earlier is not None else None
        cells.append("" if earlier is None else f"{said or '-'} ({number(earlier.value)})")
    return cells
