"""The endpoint: ``/v1/stream`` (WebSocket), ``/v1/model``, ``/v1/models``, ``/healthz``, ``/metrics``; ``/`` is a page.

Torch-free: the player and the loader of others are handed in.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.websockets import WebSocket

from generator.capacity import Capacity
from generator.cards import card
from generator.exchange import Exchange, ExchangeError, Load, Player
from generator.guard import Guard
from generator.metrics import Metrics
from generator.playable import Engine
from generator.protocol import MAX_MESSAGE_BYTES, SUBPROTOCOL
from generator.room import rooms
from generator.session import Session
from generator.settings import Settings
from generator.worker import Worker

#: A window takes a second or so; one that takes this long never ends, and health says so.
STALLED_SECONDS: Final = 60.0
#: How long a shutdown waits for the window in hand.
STOP_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Beside:
    """A second model, for streams that ask for it, to be heard beside the first.

    Attributes:
        engine: plays it.
        model: its name or path.
    """

    engine: Engine
    model: str


def create_app(
    player: Player,
    settings: Settings,
    model: str,
    load: Load,
    beside: Beside | None = None,
    factor: float | None = None,
    devices: Callable[[], float] = lambda: 1.0,
    fixed: str | None = None,
) -> FastAPI:
    """The service as an ASGI application.

    On its ``state``, ``exchange`` exchanges the model, ``reload()`` has it read from its file again, and ``workers``
    are its threads.

    Args:
        player: plays in all streams.
        settings: how to behave.
        model: name or path of what ``player`` plays.
        load: makes a player of another's name or path.
        beside: another model, if there is one.
        factor: real-time factor, as measured before anybody came.
        devices: how many such devices make windows for this service.
        fixed: why clients can't have another model played, where they can't: a sentence.
    """
    worker = Worker()
    metrics = Metrics()
    exchange = Exchange(player, model, load, metrics)
    capacity = Capacity(settings.max_streams, metrics, factor, devices)
    guard = Guard(settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        exchange.start()
        yield
        exchange.stop(STOP_SECONDS)
        worker.stop(STOP_SECONDS)

    app = FastAPI(title="Bardcast generator", lifespan=lifespan, openapi_url=None)
    app.state.workers = (worker, exchange.loader)
    app.state.exchange = exchange
    app.state.reload = exchange.reload

    @app.api_route("/healthz", methods=["GET", "HEAD"])  # some load balancers ask for no more than the head
    async def health() -> Response:
        stalled = worker.busy_seconds > STALLED_SECONDS
        return JSONResponse(
            {"status": "stalled" if stalled else "ok", "model": player.name, "streams": capacity.open},
            status_code=503 if stalled else 200,
        )

    @app.get("/metrics")
    async def scrape(request: Request) -> Response:
        if (refusal := guard.refusal(request.headers)) is not None:
            return refusal
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        if (refusal := guard.refusal(request.headers)) is not None:
            return refusal
        playing = [(player.name, exchange.model)]
        if beside is not None:
            playing.append((beside.engine.name, beside.model))
        return JSONResponse([{"name": name, "card": card(each, settings.cards)} for name, each in playing])

    @app.post("/v1/model")
    async def play_model(request: Request) -> Response:
        if (refusal := guard.refusal(request.headers)) is not None:
            return refusal
        if fixed is not None:
            return PlainTextResponse(f"{fixed}\n", status_code=409)
        try:
            wanted = _named_model(await _body(request, settings.open_seconds))
            await exchange.play(wanted)
        except _BadRequestError as error:
            # Closed, for else the rest of too long a request would still be read.
            return PlainTextResponse(f"{error}\n", status_code=error.status, headers={"Connection": "close"})
        except ExchangeError as error:
            return PlainTextResponse(f"{error}\n", status_code=422)
        except asyncio.CancelledError:  # the server's last word to what it no longer waits for
            return PlainTextResponse("the generator is ending: ask again when it is back\n", status_code=503)
        return JSONResponse({"model": player.name})

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        if (refusal := guard.refusal(socket.headers)) is not None:
            await socket.send_denial_response(refusal)
            return
        # Agreed to where it is offered: a browser that hears nothing of what it offered hangs up.
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        other = None if beside is None else beside.engine
        await Session(socket, player, other, worker, capacity, metrics, settings).run()

    app.include_router(rooms())
    return app


class _BadRequestError(Exception):
    """What was sent is no request; the text is a sentence for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def _body(request: Request, seconds: float) -> bytes:
    """What the client sends, if it is short and comes soon."""
    body = b""
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > MAX_MESSAGE_BYTES:
                    raise _BadRequestError(413, f"a request is at most {MAX_MESSAGE_BYTES} bytes long")
    except TimeoutError:
        raise _BadRequestError(408, f"the request did not come whole within {seconds:g} seconds") from None
    except ClientDisconnect:
        raise _BadRequestError(400, "the client went before it had asked for anything") from None
    return body


def _named_model(body: bytes) -> str:
    """The model that a request's body asks for."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    match asked:
        case {"model": str(model), **rest} if model and model.isprintable() and not rest:
            return model
    raise _BadRequestError(400, 'name the model to play, and nothing else: {"model": "NAME or PATH"}')
