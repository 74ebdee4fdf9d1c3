"""``bardcast-generator serve``, ``cluster`` and ``sample``. Anything heavy is imported only when a command runs."""

import argparse
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from generator.console import fill_closed, put
from generator.errors import GeneratorError
from generator.moods import MOODS, Mood, UnknownMood, parse_mood
from generator.protocol import INTENSITIES, MAX_SEED, Controls
from generator.settings import DEFAULT_PORT, TOKEN_VARIABLE, Settings, load_settings
from generator.threads import share_cores

if TYPE_CHECKING:
    from generator.engine import Engine

DEFAULT_MODEL: Final = "bard"
DASHBOARD: Final = "http://127.0.0.1:8265"
RAY_ENVIRONMENT: Final = {
    "RAY_AUTH_MODE": "token",  # in ~/.ray/auth_token, which Ray writes where there is none; or RAY_AUTH_TOKEN
    "RAY_USAGE_STATS_ENABLED": "0",
    # As Ray has it on a laptop's usual systems: without it, it listens on all addresses of a Linux machine.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",  # its own default is 15, and whatever else runs would starve the tables
    # All streams of a machine pass through one proxy; Ray would miss it, were it killed, after 10 s and more.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
}
MAX_CLIP_SECONDS: Final = 600  #: a clip is held in memory while its picture is drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit status."""
    share_cores()
    fill_closed()
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return {"serve": _serve, "sample": _sample, "cluster": _cluster}[options.command](options)
    except GeneratorError as error:
        put(f"bardcast-generator: {error}\n", "stderr")
        return error.status
    except ModuleNotFoundError as error:
        put(f"bardcast-generator: {error.name} is not installed: pip install 'bardcast[generator]'\n", "stderr")
        return 1
    except KeyboardInterrupt:
        put("bardcast-generator: stopped\n", "stderr")
        return 130


def _serve(options: argparse.Namespace) -> int:
    from generator.server import bind, minding_signals, need_certificate, serve

    settings = _settings(options, options.certificate)
    if settings.certificate is not None:
        need_certificate(settings.certificate)
    with minding_signals(), bind(settings.host, settings.port) as bound:
        load = _loader(options)

        from generator.batching import Batcher, best_rows, real_time_factor
        from generator.player import Player
        from generator.service import STOP_SECONDS, Beside, create_app

        engine = load(options.model)
        batcher = Batcher(best_rows(engine))
        batcher.start()
        player = Player(engine, batcher.window)
        factor = real_time_factor(player, batcher.rows)
        beside = None
        if options.beside is not None:
            other = Player(load(options.beside), batcher.window)
            beside = Beside(other, options.beside)
            factor = min(factor, real_time_factor(other, batcher.rows))
        app = create_app(player, settings, options.model, lambda model: Player(load(model)), beside, factor)
        serve(
            app,
            bound,
            on_hangup=app.state.reload,
            exit_with_stdin=options.exit_with_stdin,
            certificate=settings.certificate,
        )
        batcher.stop(STOP_SECONDS)
        if batcher.alive or any(worker.alive for worker in app.state.workers):
            # A window that is being computed can't be stopped, and torch's thread would abort the interpreter's exit.
            logging.shutdown()
            os._exit(0)
    return 0


def _sample(options: argparse.Namespace) -> int:
    from generator.picture import draw_spectrogram
    from generator.player import Player
    from generator.sample import Order, open_folder, write_clips

    order = Order(
        Controls(options.mood, options.intensity),
        options.seconds,
        options.count,
        options.seed,
        options.out,
        options.format,
    )
    open_folder(order.out)
    player = Player(_loader(options)(options.model))
    live = sys.stderr is not None and sys.stderr.isatty()

    def progress(clip: int, seconds: float) -> None:
        done = seconds >= order.seconds
        if live or done:
            line = f"clip {clip + 1} of {order.count}: {seconds:.1f} of {order.seconds:g} s"
            put(("\r" if live else "") + line + ("\n" if done else ""), "stderr")

    for path in write_clips(player, order, draw_spectrogram, progress):
        put(f"{path}\n")
    return 0


def _cluster(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("ray") is None:
        raise GeneratorError("a cluster needs Ray: pip install 'bardcast[cluster]'")
    # Ray reads these when it is imported; see its documentation for what else it takes from the environment.
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from generator import cluster_up
    from generator.cluster import Plan

    if options.action == "model":
        cluster_up.play(options.name, options.address)
        return 0
    settings = _settings(options)
    least, most = options.replicas
    plan = Plan(
        model=options.model,
        least=least,
        most=most,
        ingresses=options.ingresses,
        host=settings.host,
        max_streams=settings.max_streams,
        origins=settings.origins,
    )
    cluster_up.up(plan, settings, options.threads or max(most, os.cpu_count() or 1))
    return 0


def _settings(options: argparse.Namespace, certificate: Path | None = None) -> Settings:
    return load_settings(
        os.environ,
        host=options.host,
        port=options.port,
        token_file=options.token_file,
        max_streams=options.max_streams,
        origins=options.origin,
        certificate=certificate,
    )


def _loader(options: argparse.Namespace) -> "Callable[[str], Engine]":
    """What makes an engine of a model's name or path."""
    import torch

    from generator.engine import load_engine

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return load_engine


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bardcast-generator", description="Endless music in eight moods.")
    commands = parser.add_subparsers(dest="command", required=True)

    engine = argparse.ArgumentParser(add_help=False)
    engine.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|PATH", help="checkpoint (default: %(default)s)")
    engine.add_argument("--threads", type=_whole(1, 1024), metavar="N", help="CPU threads (default: one a core)")

    service = argparse.ArgumentParser(add_help=False)
    service.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    service.add_argument(
        "--port", type=_whole(0, 65535), default=DEFAULT_PORT, help="0: any free one (default: %(default)s)"
    )
    service.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file with the token that clients must show (default: the variable {TOKEN_VARIABLE})",
    )
    service.add_argument(
        "--max-streams",
        type=_whole(1, 10_000),
        metavar="N",
        help="tables played to at once (default: as many as the machine is found to carry)",
    )
    service.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="a web page that may use the service beside its own, such as https://music.example; may be repeated",
    )

    serve = commands.add_parser("serve", parents=[engine, service], help="play to clients over the network")
    serve.add_argument(
        "--beside", metavar="NAME|PATH", help="another model, to be heard in the listening room beside the first"
    )
    serve.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="PEM file with certificate and key: speak HTTPS, which browsers on other machines insist on for sound",
    )
    serve.add_argument("--exit-with-stdin", action="store_true", help="end when stdin closes")

    cluster = commands.add_parser("cluster", help="play from many machines or devices, on Ray Serve")
    actions = cluster.add_subparsers(dest="action", required=True)
    up = actions.add_parser("up", parents=[engine, service], help="run such a cluster on this machine")
    up.add_argument(
        "--replicas",
        type=_range,
        default=(1, 1),
        metavar="N|MIN:MAX",
        help="samplers, which compute the music; of a range as many as the load needs (default: 1)",
    )
    up.add_argument(
        "--ingresses",
        type=_whole(1, 100),
        default=2,
        metavar="N",
        help="processes that hold the streams (default: %(default)s)",
    )
    model = actions.add_parser("model", help="have a running cluster play another model")
    model.add_argument("name", metavar="NAME|PATH", help="checkpoint, there on every machine under this name")
    model.add_argument(
        "--address", default=DASHBOARD, metavar="URL", help="of Ray's dashboard there (default: %(default)s)"
    )

    sample = commands.add_parser("sample", parents=[engine], help="write clips and their spectrograms")
    sample.add_argument("--mood", type=_mood, required=True, help=f"one of: {', '.join(MOODS)}")
    sample.add_argument(
        "--intensity", type=_whole(INTENSITIES.start, INTENSITIES.stop - 1), default=3, help="1 to 5 (default: 3)"
    )
    sample.add_argument("--seconds", type=_seconds, default=30.0, help="length of a clip (default: 30)")
    sample.add_argument("--count", type=_whole(1, 100_000), default=1, help="number of clips (default: 1)")
    sample.add_argument("--seed", type=_whole(0, MAX_SEED), default=0, help="same seed, same music (default: 0)")
    sample.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    sample.add_argument("--format", choices=("wav", "ogg"), default="wav", help="default: wav")
    return parser


def _mood(text: str) -> Mood:
    try:
        return parse_mood(text)
    except UnknownMood as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _whole:  # noqa: N801 - reads as a type in the parser
    """An argparse type: a whole number within bounds."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def __call__(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = self._low - 1
        if not self._low <= value <= self._high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {self._low} to {self._high}")
        return value


_REPLICAS: Final = _whole(1, 1_000)


def _range(text: str) -> tuple[int, int]:
    low, separator, high = text.partition(":")
    least = _REPLICAS(low)
    most = _REPLICAS(high) if separator else least
    if least > most:
        raise argparse.ArgumentTypeError(f"{text!r}: the first number is the lower one")
    return least, most


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_CLIP_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to {MAX_CLIP_SECONDS}")
    return value


if __name__ == "__main__":
    sys.exit(main())
