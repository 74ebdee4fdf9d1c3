"""Messages that a bot posts in channels, which stand until somebody deletes them."""

import time

from aiohttp import web

from tests.discord_server.bodies import body_of, reply_error, reply_json
from tests.discord_server.changes import Changes
from tests.discord_server.interactions import Message
from tests.discord_server.world import Json, User


class Posts:
    """Every message of the bot's own that stands.

    Attributes:
        messages: by id, oldest first; a test that deletes one is a person who does.
        edits: when each message was edited, monotonic.
    """

    def __init__(self, bot: User, changes: Changes) -> None:
        self.messages: dict[int, Message] = {}
        self.edits: dict[int, list[float]] = {}
        self._bot = bot
        self._changes = changes

    def routes(self, api: str) -> list[web.RouteDef]:
        """All of it, below ``api``."""
        channel = f"{api}/channels/{{channel}}/messages"
        message = channel + "/{message}"
        return [
            web.post(channel, self._post),
            web.patch(message, self._edit),
            web.delete(message, self._delete),
        ]

    async def _post(self, request: web.Request) -> web.Response:
        message = Message(int(request.match_info["channel"]), self._bot, type=0)
        message.apply(*await body_of(request))
        self.messages[message.id] = message
        self.edits[message.id] = []
        self._changes.notify()
        return self._shown(message)

    async def _edit(self, request: web.Request) -> web.Response:
        data, files = await body_of(request)
        message = self._find(request)
        if message is None:
            return reply_error(404, 10008, "Unknown Message")
        message.apply(data, files)
        self.edits[message.id].append(time.monotonic())
        self._changes.notify()
        return self._shown(message)

    async def _delete(self, request: web.Request) -> web.Response:
        message = self._find(request)
        if message is None:
            return reply_error(404, 10008, "Unknown Message")
        del self.messages[message.id]
        self._changes.notify()
        return web.Response(status=204)

    def _find(self, request: web.Request) -> Message | None:
        message = self.messages.get(int(request.match_info["message"]))
        return message if message and message.channel_id == int(request.match_info["channel"]) else None

    def _shown(self, message: Message) -> web.Response:
        payload: Json = message.payload()
        return reply_json(payload)
