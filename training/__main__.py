"""The command ``bardcast-train``: parse, call, say. Heavy imports wait inside the handlers."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from generator.console import put
from generator.threads import share_cores
from training.commands import add_run_commands, at_least_one
from training.errors import Interrupted, TrainingError
from training.evaluate import add_evaluate_command
from training.vocoder_command import add_vocoder_command

EXIT_STATUSES = (
    "exit status: 0 done; 1 failed; 2 wrong call or folder; 3 done, but some files were skipped (each is named); "
    "130 or 143 interrupted"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    share_cores()
    args = build_parser().parse_args(argv)
    earlier = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status: int = args.run(args)
    except (TrainingError, Interrupted) as error:
        say(f"bardcast-train: {error}")
        return error.exit_status
    except ModuleNotFoundError as error:
        say(f"bardcast-train: {error.name} is not installed: pip install 'bardcast[training]'")
        return 1
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    return status


def build_parser() -> argparse.ArgumentParser:
    """All subcommands; each sets ``run``, which takes the parsed arguments and returns an exit status."""
    parser = argparse.ArgumentParser(
        prog="bardcast-train", description="From recordings to a model that plays them.", epilog=EXIT_STATUSES
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_corpus(subparsers)
    _add_prepare(subparsers)
    add_run_commands(subparsers, say, EXIT_STATUSES)
    add_vocoder_command(subparsers, say, EXIT_STATUSES)
    add_evaluate_command(subparsers, say, EXIT_STATUSES)
    return parser


def say(line: str) -> None:
    """One line for the user, beside whatever goes to standard output."""
    put(f"{line}\n", "stderr")


def _add_corpus(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    corpus = subparsers.add_parser("corpus", help="the licence-clear recordings to learn from")
    actions = corpus.add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser(
        "fetch",
        help="bring the recordings here, out of Debian packages",
        description="Download Debian packages with your own apt client, take the recordings out of them, install "
        "nothing. Needs no root. Run the same command again to go on after an interruption.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("--into", type=Path, default=Path("data/corpus"), help="default: %(default)s")
    parser.add_argument("--packages", type=_names, metavar="A,B", help="only the recordings of these packages")
    parser.add_argument("--keep-packages", action="store_true", help="keep the package files once unpacked")
    parser.set_defaults(run=_fetch)


def _fetch(args: argparse.Namespace) -> int:
    from training.corpus import fetch

    result = fetch(args.into, args.packages, keep_packages=args.keep_packages, say=say)
    for problem in result.problems:
        say(problem)
    say(f"{result.there} recordings are in {args.into}, {result.fetched} of them new")
    if result.problems:
        return 3 if result.there else 1
    return 0


def _add_prepare(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "prepare",
        help="cut recordings into clips to train on",
        description="Cut recordings into 10-second clips, silence left out, whole tracks held out for validation. "
        "Run the same command again to go on after an interruption, or after files were added.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument(
        "source", type=Path, metavar="SRC", help="folder of <mood>/* with mp3, ogg, opus, flac, wav or m4a"
    )
    parser.add_argument("--out", type=Path, default=Path("data/prepared"), help="default: %(default)s")
    parser.add_argument(
        "--workers", type=at_least_one, metavar="N", help="files decoded at once (default: as many as there are cores)"
    )
    parser.set_defaults(run=_prepare)


def _prepare(args: argparse.Namespace) -> int:
    from training.prepare import prepare

    result = prepare(args.source, args.out, args.workers)
    counts = result.manifest.counts()
    say(f"{'mood':<12}{'train':>14}{'validation':>14}{'unlabelled':>14}   (clips/tracks)")
    for mood in counts["train"]:
        train, held = counts["train"][mood], counts["validation"][mood]
        unlabelled = sum(side["clips"] - side["labelled_clips"] for side in (train, held))
        cells = [f"{side['clips']}/{side['tracks']}" for side in (train, held)]
        say(f"{mood:<12}{cells[0]:>14}{cells[1]:>14}{unlabelled:>14}")
    for note in result.notes:
        say(note)
    for sentence in result.broken:
        say(f"skipped {sentence}")
    if not any(track.clips for track in result.manifest.tracks):
        say(f"bardcast-train: nothing in {args.source} can be trained on")
        return 1
    if result.broken:
        say(f"{len(result.broken)} files were skipped; the rest is in {args.out}")
        return 3
    return 0


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:  # an empty variable in a script must not mean gigabytes
        raise argparse.ArgumentTypeError(f"{text!r} names no package; leave the option out for all")
    return names


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main())
