"""``bardcast run`` and ``bardcast demo``."""

import argparse
import asyncio
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from dotenv import dotenv_values, find_dotenv

from bot.errors import BotError, DemoError, SettingsError
from bot.logs import catch_the_rest, configure
from bot.redaction import Redactor
from bot.settings import Settings, load_settings
from generator.moods import MOODS, Mood, UnknownMood, parse_mood
from generator.protocol import FRAME_SECONDS, MAX_SEED

USAGE: Final = 2
FAILED: Final = 1
MAX_DEMO_SECONDS: Final = 3_600
DEFAULT_OUT: Final = Path("demo.ogg")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    options = _parser().parse_args(arguments)
    # What is exported goes before what the file says, as python-dotenv's own load_dotenv has it.
    redact = Redactor()
    try:
        env = {**_dotenv(), **os.environ}
        settings = load_settings(env)
        redact.hide(settings.discord_token)
        redact.hide(settings.generator_token)
        configure(logging.INFO if options.command == "run" else logging.ERROR, settings.log, redact)
        return _run(settings, redact) if options.command == "run" else _demo(settings, options, env)
    except BotError as error:
        sys.stderr.write(f"bardcast: {redact(str(error))}\n")
        return USAGE if isinstance(error, SettingsError) else FAILED
    except KeyboardInterrupt:
        return 130


def _dotenv() -> dict[str, str | None]:
    path = find_dotenv(usecwd=True)
    try:
        return dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"can't read {path} ({error}); save it as UTF-8, or remove it") from None


def _run(settings: Settings, redact: Redactor) -> int:
    settings.require_discord_token()
    catch_the_rest()

    # discord.py takes half a second to import: not before it is certain that it is wanted.
    from bot.run import run

    return asyncio.run(run(settings, redact))


def _demo(settings: Settings, options: argparse.Namespace, env: Mapping[str, str | None]) -> int:
    from bot.demo import demo
    from bot.listening import listen, somebody_watches
    from bot.stage import Order

    if options.seconds < len(options.moods) * FRAME_SECONDS:
        raise DemoError(f"{options.seconds:g} seconds are too short for {len(options.moods)} moods")
    if options.model is not None:
        if settings.generator_urls:
            raise SettingsError(
                "--model chooses for a generator that is started here, but BARDCAST_GENERATOR_URL names one elsewhere: "
                "leave out one of them"
            )
        settings = replace(settings, model=options.model)
    if options.out is None and not options.fast and somebody_watches(env):
        return asyncio.run(listen(settings, env))
    order = Order(options.moods, options.seconds, options.seed, options.fast)
    return asyncio.run(demo(settings, order, options.out or DEFAULT_OUT))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bardcast", description="Endless music for the table, in eight moods.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="serve Discord")
    demo = commands.add_parser("demo", help="Bardcast without Discord: in a browser, or a minute of a table in a file")
    demo.add_argument(
        "--moods",
        type=_moods,
        default=_moods("tavern,mysterious,fight"),
        metavar="A,B,…",
        help=f"in this order, of: {', '.join(MOODS)} (default: tavern,mysterious,fight)",
    )
    demo.add_argument("--seconds", type=_seconds, default=60.0, help="altogether (default: 60)")
    demo.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a table's minute as sound, .ogg or .wav, and a picture beside it as .png (default: at a terminal the "
        "listening room, in a browser, and no file; elsewhere demo.ogg)",
    )
    demo.add_argument("--fast", action="store_true", help="as fast as music is made, not as it is heard")
    demo.add_argument("--seed", type=_seed, default=0, help="of the music (default: 0)")
    demo.add_argument("--model", metavar="NAME|PATH", help="checkpoint (default: the one that ships)")
    return parser


def _moods(text: str) -> tuple[Mood, ...]:
    try:
        return tuple(parse_mood(name) for name in text.split(","))
    except UnknownMood as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= MAX_DEMO_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to {MAX_DEMO_SECONDS}")
    return seconds


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_SEED):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {MAX_SEED}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
