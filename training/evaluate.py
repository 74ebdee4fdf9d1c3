"""The command ``bardcast-train evaluate``: parse, call, say."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from generator.console import put
from training.commands import PREPARED, Say, at_least_one
from training.errors import EvaluationError

if TYPE_CHECKING:
    from training.commands import Subparsers
    from training.evaluation.card import Judged

OUT: Final = Path("runs/evaluations")
EACH: Final = 5  #: excerpts of 40 s for each mood
STREAM_MINUTES: Final = 30
STREAM_MOOD: Final = "town"  #: neither still nor wild, so that seams and drift show
FAULTY: Final = 4  #: exit status of a card that was drawn and shows faults


def add_evaluate_command(subparsers: "Subparsers", say: Say, epilog: str) -> None:
    """Add it; it sets ``run``, which takes the parsed arguments and returns an exit status."""
    parser = subparsers.add_parser(
        "evaluate",
        help="draw the score card of a model, or of a folder of sound",
        description="Is it music, is it the mood, is it new, may it ship? Every figure stands beside the same figure "
        "of recordings that were not learnt from, and of failures planted on purpose. Writes report.json, report.txt "
        "and report.png.",
        epilog=f"{epilog}; {FAULTY} the card was drawn, and shows faults",
    )
    parser.add_argument(
        "judged",
        metavar="MODEL|DIR",
        help="a model's name or file, a run's folder, or a folder of sound, best in folders named after moods",
    )
    parser.add_argument(
        "--reference", type=Path, default=PREPARED, metavar="PREPARED", help="recordings (default: %(default)s)"
    )
    parser.add_argument("--baseline", type=Path, metavar="REPORT", help="an earlier report.json to compare with")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"default: {OUT}/NAME")
    parser.add_argument(
        "--each", type=at_least_one, default=EACH, metavar="N", help="excerpts of 40 s a mood (default: %(default)s)"
    )
    parser.add_argument(
        "--stream-minutes",
        type=at_least_one,
        default=STREAM_MINUTES,
        metavar="M",
        help="length of the stream for seams and drift (default: %(default)s)",
    )
    parser.add_argument("--seed", type=at_least_one, default=1, metavar="N", help="default: %(default)s")
    parser.set_defaults(run=lambda args: _evaluate(args, say))


def _evaluate(args: argparse.Namespace, say: Say) -> int:
    from training.evaluation.card import evaluate
    from training.evaluation.ear import Ear
    from training.evaluation.picture import PICTURE_NAME, draw_report
    from training.evaluation.report import REPORT_NAME, Report
    from training.evaluation.table import lines
    from training.manifest import load_manifest
    from training.storage import write_atomically, writing_to

    baseline = None if args.baseline is None else Report.load(args.baseline)  # said before hours of work
    manifest, ear = load_manifest(args.reference), Ear()
    judged = _judged(args, say)
    folder = args.out or OUT / Path(judged.name).resolve().name
    with writing_to(folder, "--out"):
        folder.mkdir(parents=True, exist_ok=True)
    report, glimpses = evaluate(judged, manifest, ear, args.seed)
    with writing_to(folder, "--out"):
        report.save(folder / REPORT_NAME)
    text = _printable("\n".join(lines(report, baseline)) + "\n")
    with writing_to(folder, "--out"):
        write_atomically(folder / "report.txt", text)
    draw_report(report, glimpses, folder / PICTURE_NAME)
    put(_printable(text, getattr(sys.stdout, "encoding", "utf-8")))
    say(f"wrote {folder}/{REPORT_NAME}, report.txt and {PICTURE_NAME}")
    return FAULTY if report.faults else 0


def _printable(text: str, encoding: str = "utf-8") -> str:
    """Names of files may be of no encoding, and a terminal may be of an old one."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _judged(args: argparse.Namespace, say: Say) -> "Judged":
    from generator.checkpoint import MODEL_NAME
    from training.evaluation import sources
    from training.evaluation.card import Judged
    from training.evaluation.excerpts import Music
    from training.source import is_sound

    path = Path(args.judged)
    if path.is_file() and is_sound(path.name):
        raise EvaluationError(f"{path} is one file of sound: put it into a folder, and give that")
    if not path.is_dir():
        return _of_model(args.judged, path.stem, args, say)
    if (path / MODEL_NAME).is_file():
        return _of_model(str(path / MODEL_NAME), path.name, args, say)
    files = sources.files_in(path)
    say(f"{path}: {len(files)} files of sound")
    short = set[str]()  # said once, though the files are gone through more than once

    def too_short(name: str) -> None:
        if name not in short:
            short.add(name)
            say(f"{_printable(name)} is shorter than 10 s and was left out")

    return Judged(
        _printable(str(path)), Music(path.name, len(files), lambda: sources.from_files(path, files, too_short))
    )


def _of_model(model: str, name: str, args: argparse.Namespace, say: Callable[[str], None]) -> "Judged":
    """The model's music: excerpts in all moods, and one long stream."""
    from tqdm import tqdm

    from generator.checkpoint import CheckpointError
    from generator.engine import GenerationError, load_engine
    from generator.moods import MOODS, parse_mood
    from generator.protocol import FRAME_SAMPLES
    from training.evaluation import sources
    from training.evaluation.card import Judged
    from training.evaluation.excerpts import Music

    try:
        engine = load_engine(model)
    except CheckpointError as error:
        raise EvaluationError(str(error)) from None
    made = sources.generated(engine, list(MOODS), args.each, args.seed)
    excerpts = list(tqdm(made, desc=f"{name} plays", unit="excerpt", total=args.each * len(MOODS), disable=None))
    music = Music(name, len(excerpts), lambda: iter(excerpts))
    say(f"{name} plays a stream of {args.stream_minutes} minutes")
    try:
        stream = sources.long_stream(engine, parse_mood(STREAM_MOOD), args.stream_minutes, args.seed)
    except GenerationError as error:
        say(f"no long stream: {error}")
        return Judged(name, music)
    return Judged(name, music, stream, engine.overlap * FRAME_SAMPLES)
