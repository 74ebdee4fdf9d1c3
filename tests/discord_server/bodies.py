"""Requests and responses as Discord words them."""

import json

from aiohttp import web
from multidict import MultiDictProxy

from tests.discord_server.world import Json


async def body_of(request: web.Request) -> tuple[Json, dict[str, bytes]]:
    """The JSON of a request and its attachments (with attachments, the JSON is the part ``payload_json``)."""
    if request.content_type != "multipart/form-data":
        return await request.json(), {}
    form: MultiDictProxy[str | bytes | bytearray | web.FileField] = await request.post()
    files = {part.filename: part.file.read() for part in form.values() if isinstance(part, web.FileField)}
    return json.loads(str(form["payload_json"])), files


def reply_json(body: object, status: int = 200) -> web.Response:
    # discord.py parses JSON only when the header is exactly this, without "; charset=utf-8".
    return web.Response(body=json.dumps(body).encode(), status=status, headers={"Content-Type": "application/json"})


def reply_error(status: int, code: int, message: str) -> web.Response:
    return reply_json({"code": code, "message": message}, status)
