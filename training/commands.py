"""The subcommands round a run: train, plot, export. Heavy imports wait inside the handlers."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from generator.checkpoint import Checkpoint
    from training.distributed import World
    from training.state import Progress

    # The class is generic only for type checkers.
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

Say = Callable[[str], None]

PREPARED = Path("data/prepared")
RUNS = Path("runs")


def add_run_commands(subparsers: "Subparsers", say: Say, epilog: str) -> None:
    """Add them; each sets ``run``, which takes the parsed arguments and returns an exit status."""
    _add_train(subparsers, say, epilog)
    _add_plot(subparsers, say, epilog)
    _add_export(subparsers, say, epilog)


def _add_train(subparsers: "Subparsers", say: Say, epilog: str) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a model, or go on with it",
        description="Train a model on prepared clips. The run's folder gets a log, a state, a model that plays, and at "
        "the end two pictures. Run the same command again to go on after an interruption.",
        epilog=epilog,
    )
    parser.add_argument(
        "prepared", type=Path, nargs="?", default=PREPARED, metavar="PREPARED", help="default: %(default)s"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--preset", default="bard", metavar="NAME", help="what to train (default: %(default)s)")
    what.add_argument(
        "--from", metavar="MODEL", dest="start", help="begin with the weights of a model: bard, or a file of its kind"
    )
    what.add_argument(
        "--distil", metavar="MODEL", help="teach a model to do guidance in one pass in place of two: it plays faster"
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        dest="folder",
        help=f"default: {RUNS}/NAME, {RUNS}/NAME-tuned with --from, {RUNS}/NAME-distilled with --distil",
    )
    parser.add_argument("--steps", type=at_least_one, metavar="N", help="end after N steps in all")
    parser.add_argument("--epochs", type=at_least_one, metavar="N", help="end after N passes over the clips in all")
    parser.add_argument("--minutes", type=_minutes, metavar="M", help="end after M minutes of training in all")
    parser.add_argument("--batch", type=at_least_one, metavar="N", help="clips a step, if not the preset's")
    parser.add_argument("--widths", type=_widths, metavar="A,B,C", help="channels by level, for less compute")
    parser.add_argument("--crop", type=at_least_one, metavar="N", help="Mel frames a sample, for less compute")
    parser.set_defaults(run=lambda args: _train(args, say))


def _train(args: argparse.Namespace, say: Say) -> int:
    from training.distributed import joined

    with joined() as world:
        folder, progress = _trained(args, say, world)
    if not world.leads:
        return 0
    say(f"{folder}: {progress.step} steps, {progress.samples} samples, {progress.seconds / 3600:.2f} hours of training")
    if progress.validation is not None:
        say(f"loss on held-out recordings: {progress.validation:.4f}")
    return _draw(folder, args.prepared, say)


def _trained(args: argparse.Namespace, say: Say, world: "World") -> tuple[Path, "Progress"]:
    """The run's folder, and how far it is."""
    from dataclasses import replace

    from training.errors import PresetError
    from training.loop import Bounds, train
    from training.presets import distilling, find_preset, tuning, with_crop, with_widths

    start, kind = None, ""
    if args.start is not None:
        start = _start("--from", args.start)
        config = tuning(start.config)
    elif args.distil is not None:
        start, kind = _start("--distil", args.distil), "-distilled"
        config = distilling(start.config)
    else:
        config = find_preset(args.preset)
    if args.widths and start is not None:
        raise PresetError(
            "--widths is for a new model; leave it out, since one that begins with another has its widths"
        )
    if args.widths:
        config = with_widths(config, args.widths)
    if args.crop:
        config = with_crop(config, args.crop)
    if args.batch:
        config = replace(config, batch=args.batch)
    name = Path(config.model.name).name  # that of a file may be somebody else's, and no way out of RUNS
    folder = args.folder or RUNS / f"{name}{kind}"
    seconds = None if args.minutes is None else 60 * args.minutes
    bounds = Bounds(args.steps, seconds, args.epochs)
    return folder, train(config, args.prepared, folder, bounds, say=say, start=start, world=world)


def _start(option: str, model: str) -> "Checkpoint":
    import torch

    from generator.checkpoint import CheckpointError, load_checkpoint
    from generator.engine import Engine
    from training.errors import PresetError

    try:
        checkpoint = load_checkpoint(model)
        Engine(checkpoint, torch.device("cpu"))  # what can't be played can't be learnt from either
        return checkpoint
    except CheckpointError as error:
        raise PresetError(f"{option}: {error}") from error


def _add_plot(subparsers: "Subparsers", say: Say, epilog: str) -> None:
    parser = subparsers.add_parser(
        "plot",
        help="draw a run's loss and samples",
        description="Draw loss.png and samples.png into a run's folder, also while it trains.",
        epilog=epilog,
    )
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument(
        "prepared", type=Path, nargs="?", default=PREPARED, metavar="PREPARED", help="default: %(default)s"
    )
    parser.set_defaults(run=lambda args: _draw(args.folder, args.prepared, say))


def _draw(folder: Path, prepared: Path, say: Say) -> int:
    from tqdm import tqdm

    from training.plots import draw_loss, draw_samples

    say(f"drew {draw_loss(folder)}")
    say(f"drew {draw_samples(folder, prepared, lambda moods: tqdm(moods, desc='samples', unit='mood', disable=None))}")
    return 0


def _add_export(subparsers: "Subparsers", say: Say, epilog: str) -> None:
    parser = subparsers.add_parser(
        "export",
        help="make a run's model ready to ship",
        description="Write a run's weights as one bfloat16 file that `bardcast-generator --model` plays.",
        epilog=epilog,
    )
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: RUN/export.safetensors; names the model, too"
    )
    parser.add_argument(
        "--base", type=Path, metavar="FILE", help="write the difference from this model, which lies in the same folder"
    )
    parser.set_defaults(run=lambda args: _export(args, say))


def _export(args: argparse.Namespace, say: Say) -> int:
    from training.errors import PresetError
    from training.export import export

    out = args.out or args.folder / "export.safetensors"
    if args.base is not None and args.base.resolve().parent != out.resolve().parent:
        raise PresetError(f"--base: a difference is written beside its base; give an --out in {args.base.parent}")
    if args.base is not None and args.base.resolve() == out.resolve():
        raise PresetError("--base: a difference can't take its base's place; give another --out beside it")
    written = export(args.folder, out, args.base, None if args.out is None else out.stem)
    for key, value in written.config.notes.items():
        say(f"{key}: {value}")
    say(f"wrote {out}: {written.config.name}, {out.stat().st_size / 1e6:.1f} MB")
    return 0


def at_least_one(text: str) -> int:
    """An argparse type: a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _minutes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _widths(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers, such as 8,16,32")
    return tuple(int(part) for part in parts)
