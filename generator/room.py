"""The listening room's page: its files, and the headers that keep everybody else's out of it. Torch-free."""

import json
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from generator.moods import COLOURS

PAGE: Final = "index.html"
#: The page's own tongue for what it is told in Python: the one vocabulary of moods.
MOODS_FILE: Final = "moods.js"
KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "webmanifest": "application/manifest+json",
    "svg": "image/svg+xml",
    "png": "image/png",
}
#: Nothing but what the package holds, no frame around it, and no word to anybody about where a visitor comes from.
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src blob:; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}


def rooms() -> APIRouter:
    """``/`` is the page, and ``/room/…`` what it consists of. Nobody needs a secret to look at it."""
    router = APIRouter()
    shelf = _shelf()

    @router.get("/")
    async def page() -> Response:
        return _answer(PAGE, shelf[PAGE])

    @router.get("/room/{name}")
    async def part(name: str) -> Response:
        if name in shelf:
            return _answer(name, shelf[name])
        return PlainTextResponse("the listening room has no such file\n", status_code=404, headers=HEADERS)

    return router


def _shelf() -> dict[str, bytes]:
    """Every file of the page by its name."""
    folder = files("generator") / "page"
    shelf = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.rpartition(".")[2] in KINDS}
    return {**shelf, MOODS_FILE: _moods().encode()}


def _moods() -> str:
    return (
        "/** The one vocabulary of moods, and a colour for each. @type {Record<string, string>} */\n"
        f"export const COLOURS = {json.dumps(COLOURS)};\n"
    )


def _answer(name: str, body: bytes) -> Response:
    return Response(body, media_type=KINDS[name.rpartition(".")[2]], headers=HEADERS)
