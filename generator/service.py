"""The endpoint: ``/v1/stream`` (WebSocket), ``/healthz`` and ``/metrics``. Torch-free: the engine is handed in."""

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.websockets import WebSocket

from generator.metrics import Metrics
from generator.protocol import AUTHORIZATION_HEADER
from generator.session import Engine, Session
from generator.settings import Settings
from generator.worker import Worker

#: A window takes a second or so; one that takes this long never ends, and health says so.
STALLED_SECONDS: Final = 60.0
#: How long a shutdown waits for the window in hand.
STOP_SECONDS: Final = 0.5


def create_app(engine: Engine, settings: Settings) -> FastAPI:
    """The service as an ASGI application, playing what ``engine`` makes. ``app.state.worker`` computes."""
    worker = Worker()
    metrics = Metrics()
    open_streams = 0

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop(STOP_SECONDS)

    app = FastAPI(title="Bardcast generator", lifespan=lifespan, openapi_url=None)
    app.state.worker = worker

    @app.get("/healthz")
    async def health() -> Response:
        stalled = worker.busy_seconds > STALLED_SECONDS
        return JSONResponse(
            {"status": "stalled" if stalled else "ok", "model": engine.name, "streams": open_streams},
            status_code=503 if stalled else 200,
        )

    @app.get("/metrics")
    async def scrape(request: Request) -> Response:
        if (refusal := _refusal(request.headers, settings, metrics)) is not None:
            return refusal
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        nonlocal open_streams
        if (refusal := _refusal(socket.headers, settings, metrics)) is not None:
            await socket.send_denial_response(refusal)
            return
        claimed = False

        def claim() -> bool:
            nonlocal open_streams, claimed
            if open_streams >= settings.max_streams:
                metrics.refused.labels("full").inc()
                return False
            open_streams += 1
            metrics.streams.set(open_streams)
            claimed = True
            return True

        try:
            await Session(socket, engine, worker, metrics, settings).run(claim)
        finally:
            if claimed:
                open_streams -= 1
                metrics.streams.set(open_streams)

    return app


def _refusal(headers: Mapping[str, str], settings: Settings, metrics: Metrics) -> Response | None:
    """The answer that turns a stranger away, or ``None`` for a welcome client."""
    if settings.token is None:
        # Without a token any web page open in a browser here could reach loopback. Only browsers send an origin.
        if "origin" not in headers:
            return None
        metrics.refused.labels("origin").inc()
        return PlainTextResponse("no web page may use this service\n", status_code=403)
    shown = headers.get(AUTHORIZATION_HEADER, "").encode()
    if hmac.compare_digest(shown, f"Bearer {settings.token}".encode()):
        return None
    metrics.refused.labels("token").inc()
    return PlainTextResponse(
        "this service needs the shared token: Authorization: Bearer <token>\n",
        status_code=401,
        headers={"WWW-Authenticate": "Bearer"},
    )
