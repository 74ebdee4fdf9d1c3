"""The REST half: who am I, commands, interaction callbacks, webhook follow-ups."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from tests.discord_server.bodies import body_of, reply_error, reply_json
from tests.discord_server.changes import Changes
from tests.discord_server.gateway import Gateway
from tests.discord_server.interactions import Reply
from tests.discord_server.posts import Posts
from tests.discord_server.world import REFUSED_TOKEN, Json, User, snowflake

API: Final = "/api/v10"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Failure:
    """What the next ``times`` requests are answered whose path contains ``part``.

    Attributes:
        status: 429 for a rate limit, which ends after ``retry_after`` seconds, or what a server in trouble says; 0
            where it closes the line and says nothing.
        met: when it happened, monotonic.
    """

    part: str
    status: int
    times: int = 1
    retry_after: float = 0.0
    met: list[float] = field(default_factory=list)

    def answer(self) -> web.Response:
        """Discord's own words."""
        self.met.append(time.monotonic())
        if self.status != 429:
            return reply_error(self.status or 503, 0, f"{self.status}: a planted fault")
        body = {"message": "You are being rate limited.", "retry_after": self.retry_after, "global": False}
        response = reply_json(body, 429)
        response.headers.update({"Retry-After": str(self.retry_after), "Via": "1.1 loopback"})
        return response


class Rest:
    """Commands and replies are kept for tests to look at.

    Attributes:
        commands: what the bot has registered, in full; the key is a guild's id, or None for global commands.
        replies: every interaction so far, by its token.
        failures: what goes wrong at present; see :class:`Failure`.
        posts: messages in channels, see :class:`Posts`.
        unknown: requests to which there is no route, as "METHOD path"; a test may insist that it stays empty.
    """

    def __init__(
        self,
        bot: User,
        gateway: Gateway,
        edit_voice_state: Callable[[int, Json], Awaitable[bool]],
        changes: Changes,
    ) -> None:
        self.failures: list[Failure] = []
        self._edit_voice_state = edit_voice_state
        self.commands: dict[int | None, list[Json]] = {}
        self.replies: dict[str, Reply] = {}
        self.unknown: list[str] = []
        self.posts = Posts(bot, changes)
        self._bot = bot
        self._gateway = gateway
        self._changes = changes

    def routes(self) -> list[web.RouteDef]:
        """All of it, below :data:`API`."""
        commands = f"{API}/applications/{{app}}/commands"
        guild_commands = f"{API}/applications/{{app}}/guilds/{{guild}}/commands"
        webhook = f"{API}/webhooks/{{app}}/{{token}}"
        message = webhook + "/messages/{message}"
        return [
            web.get(f"{API}/users/@me", self._me),
            web.get(f"{API}/oauth2/applications/@me", self._application),
            web.patch(f"{API}/guilds/{{guild}}/voice-states/@me", self._own_voice_state),
            web.get(f"{API}/gateway", self._where_gateway),
            web.get(f"{API}/gateway/bot", self._where_gateway),
            web.get(commands, self._list_commands),
            web.put(commands, self._put_commands),
            web.get(guild_commands, self._list_commands),
            web.put(guild_commands, self._put_commands),
            web.post(f"{API}/interactions/{{id}}/{{token}}/callback", self._callback),
            web.post(webhook, self._follow_up),
            web.get(message, self._get_message),
            web.patch(message, self._edit_message),
            web.delete(message, self._delete_message),
            *self.posts.routes(API),
        ]

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Turn away a bad token; note what there is no route for."""
        if request.headers.get("Authorization") == f"Bot {REFUSED_TOKEN}":
            return reply_error(401, 0, "401: Unauthorized")
        for failure in self.failures:
            if failure.part in request.path and len(failure.met) < failure.times:
                if failure.status == 0 and request.transport is not None:
                    request.transport.close()
                return failure.answer()
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            self.unknown.append(f"{request.method} {request.path}")
            return reply_error(404, 0, "404: Not Found")

    # Who am I

    async def _me(self, _: web.Request) -> web.Response:
        return reply_json(
            {**self._bot.payload(), "mfa_enabled": False, "verified": True, "locale": "en-US", "email": None}
        )

    async def _application(self, _: web.Request) -> web.Response:
        owner = User("admin", id=1)
        return reply_json(
            {
                "id": str(self._bot.id),
                "name": self._bot.name,
                "icon": None,
                "description": "",
                "bot_public": True,
                "bot_require_code_grant": False,
                "verify_key": "0" * 64,
                "owner": owner.payload(),
                "team": None,
                "flags": 0,
            }
        )

    async def _where_gateway(self, _: web.Request) -> web.Response:
        limit = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}
        return reply_json({"url": self._gateway.url, "shards": 1, "session_start_limit": limit})

    # On a stage

    async def _own_voice_state(self, request: web.Request) -> web.Response:
        if await self._edit_voice_state(int(request.match_info["guild"]), await request.json()):
            return web.Response(status=204)
        return reply_error(403, 50013, "Missing Permissions")

    # Commands

    async def _list_commands(self, request: web.Request) -> web.Response:
        return reply_json(self.commands.get(_guild_of(request), []))

    async def _put_commands(self, request: web.Request) -> web.Response:
        guild = _guild_of(request)
        registered = []
        for command in await request.json():
            full = {"type": 1, **command, "id": str(snowflake()), "application_id": request.match_info["app"]}
            registered.append({**full, "version": "1", **({"guild_id": str(guild)} if guild else {})})
        self.commands[guild] = registered
        self._changes.notify()
        return reply_json(registered)

    # Interactions

    async def _callback(self, request: web.Request) -> web.Response:
        reply = self.replies.get(request.match_info["token"])
        if reply is None or str(reply.id) != request.match_info["id"] or (reply.kind is None and reply.expired):
            return reply_error(404, 10062, "Unknown interaction")
        if reply.kind is not None:
            return reply_error(400, 40060, "Interaction has already been acknowledged.")
        body, files = await body_of(request)
        reply.answer(body["type"], body.get("data") or {}, files)
        if request.query.get("with_response") in ("1", "true"):
            return reply_json(reply.callback_payload())
        return web.Response(status=204)

    async def _follow_up(self, request: web.Request) -> web.Response:
        reply = self._answered(request)
        if reply is None:
            return reply_error(404, 10015, "Unknown Webhook")
        message = reply.follow_up(*await body_of(request))
        return reply_json(message.payload())

    async def _get_message(self, request: web.Request) -> web.Response:
        return await self._on_message(request, lambda reply, message: None)

    async def _edit_message(self, request: web.Request) -> web.Response:
        data, files = await body_of(request)
        return await self._on_message(request, lambda reply, message: reply.edit(message, data, files))

    async def _delete_message(self, request: web.Request) -> web.Response:
        response = await self._on_message(request, lambda reply, message: reply.delete(message))
        return response if response.status == 404 else web.Response(status=204)

    async def _on_message(self, request: web.Request, do: Callable[..., None]) -> web.Response:
        reply = self._answered(request)
        message = reply.find(request.match_info["message"]) if reply else None
        if reply is None or message is None:
            return reply_error(404, 10008, "Unknown Message")
        do(reply, message)
        return reply_json(message.payload())

    def _answered(self, request: web.Request) -> Reply | None:
        """The interaction of this webhook, if it had its first answer."""
        reply = self.replies.get(request.match_info["token"])
        return reply if reply is not None and reply.kind is not None else None


def _guild_of(request: web.Request) -> int | None:
    guild = request.match_info.get("guild")
    return int(guild) if guild else None
