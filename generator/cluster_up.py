"""``bardcast-generator cluster``: Ray and the application on this machine, and another model for one that runs."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import ray
from ray import serve
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.exceptions import RayError

from generator.checkpoint import load_checkpoint
from generator.cluster import APPLICATION, INGRESS, SAMPLER, Plan
from generator.errors import GeneratorError
from generator.server import bind
from generator.settings import TOKEN_VARIABLE, Settings

ENDS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  #: the last where the terminal is closed
IMPORT_PATH: Final = "generator.cluster:application"
START_SECONDS: Final = 300.0
GLANCE: Final = 0.2
#: Bytes for windows on their way, of which each takes some two million.
OBJECT_STORE: Final = 256 * 2**20


class ClusterError(GeneratorError):
    """The cluster does not do what it is told; the text is a sentence that says why."""


def up(plan: Plan, settings: Settings, threads: int) -> None:
    """Run a cluster on this machine until SIGTERM or SIGINT.

    Prints one line, ``listening on HOST:PORT``, once the first client may come; whatever Ray says goes to stderr.

    Args:
        plan: of the application; whether samplers have a GPU is decided here.
        settings: address and token.
        threads: cores for all samplers together.

    Raises:
        ClusterError: it did not start.
        ListenError: the address can't be listened on.
    """
    load_checkpoint(plan.model)  # says at once what the samplers would say in a log
    with bind(settings.host, settings.port) as bound:
        host, port = bound.getsockname()[:2]
    if settings.token is not None:  # not an argument: a dashboard shows those
        os.environ[TOKEN_VARIABLE] = settings.token
    ended = threading.Event()
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr), _ray(threads) as dashboard:
        for number in ENDS:  # not before: Ray has put handlers of its own there
            signal.signal(number, lambda *_: ended.set())
        gpus = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
        share = min(1.0, gpus / plan.most)
        plan = plan.model_copy(update={"gpus": share, "cpus": threads / plan.most})
        serve.start(http_options={"host": host, "port": port}, proxy_location="HeadOnly")
        ServeSubmissionClient(dashboard).deploy_applications(_configuration(plan))
        if _until_running(ended):
            logging.getLogger(__name__).info("the cluster is managed at %s", dashboard)
            out.write(f"listening on {f'[{host}]' if ':' in host else host}:{port}\n")
            out.flush()
            ended.wait()


def play(model: str, dashboard: str) -> None:
    """Have a cluster play another model, from each stream's next window on.

    Args:
        model: its name, or a path that leads to it on every machine of the cluster.
        dashboard: address of Ray's.

    Raises:
        CheckpointError: the model is missing, damaged or foreign.
        ClusterError: there is no such cluster, or the model does not play.
    """
    load_checkpoint(model)
    try:
        client = ServeSubmissionClient(dashboard)
        applications = client.get_serve_details()["applications"]
        ours = applications.pop(APPLICATION)["deployed_app_config"]
        # Whoever is left out here is taken down: other applications stay as they are, and what else ours is told.
        others = [config for each in applications.values() if (config := each["deployed_app_config"])]
        told = {each["name"]: each for each in ours.get("deployments", [])}
        for each in _playing(model):
            told[each["name"]] = told.get(each["name"], {}) | each
        client.deploy_applications({"applications": [ours | {"deployments": list(told.values())}, *others]})
    except (ConnectionError, RuntimeError, KeyError, ValueError, RayError) as error:
        raise ClusterError(
            f"no Bardcast cluster is managed at {dashboard}: name the address that it told when it started, "
            f"with --address ({error})"
        ) from None


def _configuration(plan: Plan) -> dict[str, Any]:
    return {
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "args": plan.model_dump(mode="json", exclude_none=True),
                "deployments": _playing(plan.model),
            }
        ],
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
    }


def _playing(model: str) -> list[dict[str, Any]]:
    return [{"name": name, "user_config": {"model": model}} for name in (SAMPLER, INGRESS)]


@contextlib.contextmanager
def _ray(cores: int) -> Iterator[str]:
    """Ray on this machine, and all that is Serve's; the dashboard's address."""
    context = ray.init(
        address="local",
        num_cpus=cores,
        object_store_memory=OBJECT_STORE,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        logging_level=logging.WARNING,
    )
    try:
        yield f"http://{context.dashboard_url}"
    finally:
        with contextlib.suppress(RayError):
            serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _until_running(ended: threading.Event) -> bool:
    """Whether it runs; not if it was ended before."""
    until = time.monotonic() + START_SECONDS
    while not ended.wait(GLANCE):
        application = serve.status().applications.get(APPLICATION)
        state = "NOT_STARTED" if application is None else application.status.value
        if state == "RUNNING":
            return True
        if "FAILED" in state or time.monotonic() > until:
            told = "" if application is None else application.message.strip().splitlines()
            raise ClusterError(f"the cluster does not start ({state}): {told[-1] if told else 'look into its log'}")
    return False
