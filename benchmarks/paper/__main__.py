"""The command ``python -m benchmarks.paper``: parse, call, say."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper.play import play_row
from benchmarks.paper.rows import ROWS, RUNS, Row, Scale
from benchmarks.paper.table import load_results, markdown
from benchmarks.paper.work import Order, draw, train_row
from benchmarks.report import note
from generator.errors import GeneratorError
from generator.threads import share_cores
from training.commands import at_least_one
from training.errors import Interrupted, RunError, TrainingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    share_cores()
    options = _parser().parse_args(arguments)
    scale = Scale(options.widths, options.crop, options.epochs)
    order = Order(options.prepared, options.runs, scale, options.minutes)
    try:
        if options.draw is not None:
            for path in draw(order, options.draw):
                note(f"wrote {path}")
            return 0
        if options.table:
            sys.stdout.writelines(f"{line}\n" for line in markdown(load_results(options.runs), options.runs))
            return 0
        failed = _work([ROWS[options.row]] if options.row else list(ROWS.values()), order)
    except (TrainingError, Interrupted) as error:
        note(f"benchmarks.paper: {error}")
        return error.exit_status
    except GeneratorError as error:
        note(f"benchmarks.paper: {error}")
        return 1
    return 1 if failed else 0


def _work(rows: Sequence[Row], order: Order) -> list[Row]:
    """Do the rows in order; one whose training fails does not keep the others waiting."""
    failed = []
    for number, row in enumerate(rows, 1):
        note(f"row {number} of {len(rows)}: {row.name} ({row.title})")
        try:
            train_row(row, order, note)
            play_row(row, order.prepared, order.runs, note)
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
    what.add_argument(
        "--draw", type=Path, nargs="?", const=Path("docs/paper"), metavar="DIR", help="pictures and rows.json, only"
    )
    what.add_argument(
        "--table", action="store_true", help="the document's tables as Markdown, with each row's score card"
    )
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"), help="folder that prepare made")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where each row has its folder")
    parser.add_argument("--widths", type=_widths, default=own.widths, help="of the network; the paper's: 32,64,128")
    parser.add_argument("--crop", type=at_least_one, default=own.crop, help="Mel frames a sample; the paper's: 864")
    parser.add_argument("--epochs", type=at_least_one, default=own.epochs, help="at most")
    parser.add_argument("--minutes", type=float, help="of training at most, a row, over all calls")
    return parser


def _widths(text: str) -> tuple[int, ...]:
    return tuple(at_least_one(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
