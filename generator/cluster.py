"""The service on Ray Serve: ingresses hold the streams, samplers make their windows, one a device.

What runs where, how many of it, and what follows when one dies or hangs is Serve's: here is only what each does. For
``serve deploy`` and KubeRay the import path is ``generator.cluster:application``, with :class:`Plan` as its arguments;
``user_config`` of both deployments names the model that plays, and Serve changes it replica by replica.
"""

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import FastAPI
from pydantic import BaseModel, Field
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from generator.exchange import ExchangeError
from generator.service import STALLED_SECONDS, create_app
from generator.settings import DEFAULT_PORT, load_settings
from generator.threads import share_cores
from generator.worker import Worker

if TYPE_CHECKING:
    from generator.engine import Engine, Window
    from generator.remote import Order

log = logging.getLogger(__name__)

APPLICATION: Final = "bardcast"
SAMPLER, INGRESS = "Sampler", "Ingress"
MOST_WINDOWS: Final = 256  #: in hand at one sampler
#: Of them handed over together: few, for Serve answers none of those before the last is made.
MOST_TOGETHER: Final = 4
MOST_STREAMS: Final = 10_000  #: at one ingress
COUNT_SECONDS: Final = 2.0  #: how often an ingress looks how many share the work
FIXED: Final = (
    "what a cluster plays is told to the cluster, lest one part of it play something else: "
    "bardcast-generator cluster model NAME"
)
#: Serve looks after each replica so often, and gives up at once one that died, and one that hangs at the third silence.
CHECK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 1.5  #: until silence counts


class Plan(BaseModel):
    """What the application consists of.

    Attributes:
        model: name or path of what plays at first.
        least: samplers at least.
        most: samplers at most; more than ``least`` lets Serve start and end some as load comes and goes.
        ingresses: that hold the streams.
        cpus: cores of a sampler.
        gpus: of a sampler; 0 computes on the CPU.
        host: address that clients use; any but this machine's own needs a token.
        max_streams: at one ingress; as many as the samplers are found to carry if not given.
        origins: of web pages that may use the service beside its own.
    """

    model: str = "bard"
    least: Annotated[int, Field(ge=1)] = 1
    most: Annotated[int, Field(ge=1)] = 1
    ingresses: Annotated[int, Field(ge=1)] = 2
    cpus: Annotated[float, Field(ge=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    host: str = "127.0.0.1"
    max_streams: Annotated[int, Field(ge=1)] | None = None
    origins: tuple[str, ...] = ()


def load(model: str, device: str | None = None) -> "Engine":
    """An engine for a model's name or path.

    Raises:
        CheckpointError: it is missing, damaged or foreign.
    """
    from generator.engine import load_engine  # torch, which whoever only describes a cluster does not need

    return load_engine(model, device)


@dataclass(slots=True)
class _Job:
    """An order in hand."""

    order: "Order"
    wanted: bool = True


class Sampler:
    """Makes windows of whatever stream, on one device."""

    def __init__(self) -> None:
        """No model yet."""
        share_cores()
        from generator.batching import Batcher

        self._worker = Worker()
        self._batcher = Batcher()
        self._batcher.start()
        self._model: str | None = None

    async def reconfigure(self, playing: dict[str, str]) -> None:
        """Hold another model ready; the one before is kept for whoever still plays it.

        Raises:
            CheckpointError: it can't be used, and there was none before.
        """
        from generator.batching import best_rows
        from generator.errors import GeneratorError

        model = playing["model"]
        try:
            engine = await self.engine(model)
        except GeneratorError as error:
            if self._model is None:
                raise
            log.error("%s; %s plays on", error, self._model)
            return
        if self._model is None:
            self._batcher.rows = await asyncio.to_thread(best_rows, engine)
        self._model = model

    async def model(self) -> str | None:
        """Name or path of what plays."""
        return self._model

    @serve.multiplexed(max_num_models_per_replica=2)  # type: ignore[untyped-decorator]  # Ray's
    async def engine(self, model: str) -> "Engine":
        """What makes a model's windows; of the last two it is at hand."""
        return await asyncio.to_thread(load, model)

    async def window(self, order: "Order") -> "Window":
        """Make a window. Cancelled, it is dropped at its next denoising step.

        Raises:
            GenerationError: the model's output is not finite.
        """
        job = _Job(order)
        try:
            made: Window | BaseException = await self.windows(job)
        finally:
            job.wanted = False
        if isinstance(made, BaseException):
            raise made
        return made

    @serve.batch(
        max_batch_size=MOST_TOGETHER,
        batch_wait_timeout_s=0.0,
        max_concurrent_batches=MOST_WINDOWS // MOST_TOGETHER,
    )
    async def windows(self, jobs: list[_Job]) -> "list[Window | BaseException]":
        """Those that came together; they join whatever is in hand, so nobody need wait for a full batch."""
        return await asyncio.gather(*(self._make(job) for job in jobs), return_exceptions=True)

    async def _make(self, job: _Job) -> "Window":
        order = job.order
        engine = await self.engine(order.model)
        make = partial(self._batcher.window, engine, order.state, order.section, order.seed, order.slack)
        return await self._worker.run(partial(make, lambda: job.wanted))

    def check_health(self) -> None:
        """Asked by Serve.

        Raises:
            RuntimeError: it will make no window any more.
        """
        if not self._batcher.alive or self._worker.busy_seconds > STALLED_SECONDS:
            raise RuntimeError("the sampler is stalled: a window never ended")


@serve.ingress()
class Ingress:
    """Holds streams: the service as it is everywhere, around windows that samplers make."""

    async def __init__(self, samplers: DeploymentHandle[Any], plan: Plan) -> None:  # type: ignore[misc]  # Serve awaits it
        """Open once a sampler has made the first two windows.

        Args:
            samplers: make the windows.
            plan: of the application.
        """
        share_cores()
        from generator.batching import real_time_factor
        from generator.remote import Remote

        self._samplers, self._plan = samplers, plan
        self._devices = 1.0
        remote = Remote(self._ask, lambda model: load(model, "cpu"), asyncio.get_running_loop())
        # Not the plan's: what plays may have been changed since.
        model: str = await samplers.model.remote()
        player = await asyncio.to_thread(remote.player, model)
        factor = await asyncio.to_thread(real_time_factor, player, 1)
        settings = load_settings(
            os.environ, host=plan.host, port=DEFAULT_PORT, max_streams=plan.max_streams, origins=plan.origins
        )
        self._service = create_app(
            player, settings, model, remote.player, factor=factor, devices=lambda: self._devices, fixed=FIXED
        )
        self._counting = asyncio.create_task(self._count())

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._service

    async def reconfigure(self, playing: dict[str, str]) -> None:
        """Let all streams here play another model from their next window on."""
        exchange = self._service.state.exchange
        if playing["model"] != exchange.model:
            with contextlib.suppress(ExchangeError):  # of which the log tells; what played before plays on
                await exchange.play(playing["model"])

    async def _ask(self, order: "Order") -> "Window":
        """Have one of the samplers make a window, whichever Serve finds."""
        from generator.remote import LostError

        call = self._samplers.window.remote(order)
        try:
            window: Window = await call
        except asyncio.CancelledError:
            call.cancel()  # type: ignore[no-untyped-call]
            raise
        except RayTaskError as error:
            raise error.cause from None
        except (RayError, RayServeException) as error:
            raise LostError(str(error)) from error
        return window

    async def _count(self) -> None:
        """Keep an eye on how many samplers there are for each ingress."""
        application = serve.get_replica_context().app_name
        while True:
            with contextlib.suppress(RayError, RayServeException, KeyError):  # Serve may be starting anew
                deployments = (await asyncio.to_thread(serve.status)).applications[application].deployments
                samplers, ingresses = (
                    sum(n for state, n in deployments[name].replica_states.items() if state == "RUNNING")
                    for name in (SAMPLER, INGRESS)
                )
                # One more may soon be there: where one died, or where Serve starts one for whoever comes.
                self._devices = min(self._plan.most, samplers + 1) / max(1, ingresses)
            await asyncio.sleep(COUNT_SECONDS)


def application(plan: Plan) -> serve.Application:
    """The application, for ``serve deploy``, ``serve run`` and KubeRay."""
    playing = {"model": plan.model}
    scale: dict[str, Any] = {"num_replicas": plan.least}
    if plan.most > plan.least:
        scale = {
            "autoscaling_config": {
                "min_replicas": plan.least,
                "max_replicas": plan.most,
                "target_ongoing_requests": 1.0,  # one in hand on average: a device that is busy all the time
            }
        }
    samplers = serve.deployment(
        name=SAMPLER,
        user_config=playing,
        max_ongoing_requests=MOST_WINDOWS,
        graceful_shutdown_timeout_s=2.0,
        health_check_period_s=CHECK_SECONDS,
        health_check_timeout_s=ANSWER_SECONDS,
        ray_actor_options={"num_cpus": plan.cpus, "num_gpus": plan.gpus},
        **scale,
    )(Sampler)
    ingresses = serve.deployment(
        name=INGRESS,
        user_config=playing,
        num_replicas=plan.ingresses,
        max_ongoing_requests=MOST_STREAMS,
        graceful_shutdown_timeout_s=1.0,
        health_check_period_s=CHECK_SECONDS,
        health_check_timeout_s=ANSWER_SECONDS,
        ray_actor_options={"num_cpus": 0},
    )(Ingress)
    return ingresses.bind(samplers.bind(), plan)
