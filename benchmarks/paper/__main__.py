"""The command ``python -m benchmarks.paper``: parse, call, say."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper.rows import ROWS, RUNS, Row, Scale
from benchmarks.paper.work import Order, train_row
from benchmarks.report import note
from generator.threads import share_cores
from training.errors import Interrupted, RunError, TrainingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    share_cores()
    options = _parser().parse_args(arguments)
    order = Order(options.prepared, options.runs, Scale(options.widths, options.crop, options.epochs), options.minutes)
    try:
        failed = _work([ROWS[options.row]] if options.row else list(ROWS.values()), order)
    except (TrainingError, Interrupted) as error:
        note(f"benchmarks.paper: {error}")
        return error.exit_status
    return 1 if failed else 0


def _work(rows: Sequence[Row], order: Order) -> list[Row]:
    """Do the rows in order; one whose training fails does not keep the others waiting."""
    failed = []
    for number, row in enumerate(rows, 1):
        note(f"row {number} of {len(rows)}: {row.name}")
        try:
            train_row(row, order, note)
        except RunError as error:
            note(f"{row.name}: {error}")
            failed.append(row)
    return failed


def _parser() -> argparse.ArgumentParser:
    own = Scale()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description="The paper's experiments, and each repair: train, sample, diagnose, draw. Run the same command "
        "again to go on after an interruption.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("row", nargs="?", choices=ROWS, metavar="ROW", help=f"one of: {', '.join(ROWS)}")
    what.add_argument("--all", action="store_true", help="every row in order")
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"), help="folder that prepare made")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where each row has its folder")
    parser.add_argument("--widths", type=_widths, default=own.widths, help="of the network; the paper's: 32,64,128")
    parser.add_argument("--crop", type=int, default=own.crop, help="Mel frames of a sample; the paper's: 864")
    parser.add_argument("--epochs", type=int, default=own.epochs, help="at most")
    parser.add_argument("--minutes", type=float, help="of training at most, a row, over all calls")
    return parser


def _widths(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
