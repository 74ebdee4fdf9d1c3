"""The command ``bardcast-train vocoder``: parse, call, say."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from training.commands import PREPARED, RUNS, Say, at_least_one

if TYPE_CHECKING:
    from training.commands import Subparsers

MINUTES: Final = 20


def add_vocoder_command(subparsers: "Subparsers", say: Say, epilog: str) -> None:
    """Add it; it sets ``run``, which takes the parsed arguments and returns an exit status."""
    parser = subparsers.add_parser(
        "vocoder",
        help="train the network that turns Mels into spectra, or go on with it",
        description="Train the vocoder's amplitude network on prepared clips. The run's folder gets a log, a state and "
        "vocoder.safetensors, which plays once it lies in generator/weights. Run the same command again to go on after "
        "an interruption.",
        epilog=epilog,
    )
    parser.add_argument(
        "prepared", type=Path, nargs="?", default=PREPARED, metavar="PREPARED", help="default: %(default)s"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", dest="folder", default=RUNS / "vocoder", help="default: %(default)s"
    )
    parser.add_argument(
        "--minutes", type=at_least_one, default=MINUTES, metavar="M", help="of training in all (default: %(default)s)"
    )
    parser.set_defaults(run=lambda args: _train(args, say))


def _train(args: argparse.Namespace, say: Say) -> int:
    from training.vocoder import FILE_NAME, train_vocoder

    progress = train_vocoder(args.prepared, args.folder, 60 * args.minutes, say)
    if progress.validation is not None:
        say(f"loss on held-out recordings: {progress.validation:.4f}")
    path = args.folder / FILE_NAME
    say(f"wrote {path}: {progress.step} steps, {path.stat().st_size / 1e6:.1f} MB; it plays from generator/weights")
    return 0
