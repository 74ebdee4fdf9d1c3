"""What a person does (a slash command, a button) and what that person then sees."""

import time
from dataclasses import dataclass, field
from typing import Any, Final

from tests.discord_server.changes import Changes
from tests.discord_server.world import DM, Guild, Json, Member, Role, User, snowflake

#: Discord gives up on the first answer after this many seconds.
PATIENCE: Final = 3.0
EPHEMERAL: Final = 1 << 6

APPLICATION_COMMAND: Final = 2
MESSAGE_COMPONENT: Final = 3

#: Kinds of callback.
MESSAGE: Final = 4
DEFERRED_MESSAGE: Final = 5
DEFERRED_UPDATE: Final = 6
UPDATE: Final = 7

_OPTION_TYPES: Final[dict[int, type]] = {3: str, 4: int, 5: bool, 8: Role, 10: float}


class InteractionFailed(Exception):  # noqa: N818 - what the person reads
    """The application did not respond."""


@dataclass(eq=False, slots=True)
class Message:
    """A message as it stands now.

    Attributes:
        history: the text after each change, oldest first.
        files: attachments by name.
    """

    channel_id: int
    author: User
    content: str = ""
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    flags: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    id: int = field(default_factory=snowflake)
    type: int = 20

    def apply(self, data: Json, files: dict[str, bytes]) -> None:
        """Take over what ``data`` sets, as Discord does on create and edit."""
        if "attachments" in data:  # those that stay are listed in full, new ones by number and name
            kept = {item["filename"] for item in data["attachments"] if "url" in item}
            self.files = {name: body for name, body in self.files.items() if name in kept}
        self.content = data.get("content", self.content) or ""
        self.embeds = data.get("embeds", self.embeds) or []
        self.components = data.get("components", self.components) or []
        self.flags |= data.get("flags") or 0
        self.files.update(files)
        self.history.append(self.text)

    @property
    def ephemeral(self) -> bool:
        """Only the person who asked sees it."""
        return bool(self.flags & EPHEMERAL)

    @property
    def text(self) -> str:
        """All words in it: content, then the embeds' titles, descriptions, fields and footers."""
        words: list[str | None] = [self.content]
        for embed in self.embeds:
            words += [embed.get("title"), embed.get("description")]
            words += [f"{item['name']}: {item['value']}" for item in embed.get("fields", [])]
            words.append(embed.get("footer", {}).get("text"))
        return "\n".join(word for word in words if word)

    def payload(self) -> Json:
        return {
            "id": str(self.id),
            "channel_id": str(self.channel_id),
            "type": self.type,
            "author": self.author.payload(),
            "content": self.content,
            "embeds": self.embeds,
            "components": self.components,
            "flags": self.flags,
            "attachments": [
                {
                    "id": str(index),
                    "filename": name,
                    "size": len(body),
                    "url": f"https://cdn.invalid/{name}",
                    "proxy_url": f"https://cdn.invalid/{name}",
                }
                for index, (name, body) in enumerate(self.files.items())
            ],
            "timestamp": "2024-01-01T00:00:00+00:00",
            "edited_timestamp": None,
            "tts": False,
            "pinned": False,
            "mention_everyone": False,
            "mentions": [],
            "mention_roles": [],
        }


class Reply:
    """All that a person sees after one slash command or button.

    Attributes:
        kind: the type of the first answer, or None while there is none.
        deferred: the first answer was "thinking…" (or, for a button, a silent acknowledgement).
        ephemeral: the first answer was private.
        seconds: from the press to the first answer.
        messages: the answer and its follow-ups, in the order in which they appeared.
    """

    def __init__(self, kind: int, author: User, channel_id: int, changes: Changes, source: Message | None) -> None:
        self.id = snowflake()
        self.token = f"loopback-interaction-{self.id}"
        self.interaction_kind = kind
        self.kind: int | None = None
        self.ephemeral = False
        self.seconds = float("inf")
        self.messages: list[Message] = []
        self.original: Message | None = None
        self._asked = time.monotonic()
        self._author = author
        self._channel_id = channel_id
        self._changes = changes
        self._source = source

    @property
    def deferred(self) -> bool:
        return self.kind in (DEFERRED_MESSAGE, DEFERRED_UPDATE)

    @property
    def contents(self) -> list[str]:
        """The content of each message, as it stands now."""
        return [message.content for message in self.messages]

    @property
    def embeds(self) -> list[Json]:
        """The embeds of all messages, as they stand now."""
        return [embed for message in self.messages for embed in message.embeds]

    @property
    def text(self) -> str:
        """All words of all messages, as they stand now."""
        return "\n".join(message.text for message in self.messages if message.text)

    async def wait_for_text(self, part: str = "", *, timeout: float = 10.0) -> str:  # noqa: ASYNC109
        """The words shown, as soon as there are some that contain ``part`` (in any case)."""

        def shown() -> bool:
            return bool(self.text) and part.lower() in self.text.lower()

        await self._changes.until(shown, timeout=timeout, what=f"a reply with {part!r} in it, not {self.text!r}")
        return self.text

    async def wait_answered(self) -> None:
        """Return at the first answer.

        Raises:
            InteractionFailed: none came in time; the person reads "The application did not respond".
        """
        left = PATIENCE - (time.monotonic() - self._asked)
        try:
            await self._changes.until(lambda: self.kind is not None, timeout=left, what="the first answer")
        except TimeoutError:
            raise InteractionFailed("the application did not respond within 3 s") from None

    # What the REST side calls

    @property
    def expired(self) -> bool:
        """Too late for a first answer."""
        return time.monotonic() - self._asked > PATIENCE

    def answer(self, kind: int, data: Json, files: dict[str, bytes]) -> None:
        """The first answer, of one of the kinds 4 to 7."""
        self.seconds = time.monotonic() - self._asked
        self.kind = kind
        self.ephemeral = bool((data.get("flags") or 0) & EPHEMERAL)
        if kind in (MESSAGE, DEFERRED_MESSAGE):
            self.original = Message(self._channel_id, self._author, flags=EPHEMERAL if self.ephemeral else 0)
        else:
            self.original = self._source
        if self.original is not None and not self.deferred:
            self.edit(self.original, data, files)
        self._changes.notify()

    def follow_up(self, data: Json, files: dict[str, bytes]) -> Message:
        """One more message. The first after "thinking…" takes its place, and is as private as that was."""
        message = Message(self._channel_id, self._author)
        if self.kind == DEFERRED_MESSAGE and self.original is not None and not self.original.history:
            message = self.original
            data = {**data, "flags": (data.get("flags") or 0) & ~EPHEMERAL}
        self.edit(message, data, files)
        return message

    def find(self, message_id: str) -> Message | None:
        """The message with this id; ``@original`` is the first answer's."""
        if message_id == "@original":
            return self.original
        return next((message for message in self.messages if str(message.id) == message_id), None)

    def edit(self, message: Message, data: Json, files: dict[str, bytes]) -> None:
        """Change a message; one that was not shown before appears."""
        message.apply(data, files)
        if message is not self._source and message not in self.messages:
            self.messages.append(message)
        self._changes.notify()

    def delete(self, message: Message) -> None:
        if message in self.messages:
            self.messages.remove(message)
        self._changes.notify()

    def callback_payload(self) -> Json:
        """What POST …/callback?with_response=1 returns."""
        shown = self.original
        return {
            "interaction": {
                "id": str(self.id),
                "type": self.interaction_kind,
                "response_message_id": str(shown.id) if shown else None,
                "response_message_loading": self.kind == DEFERRED_MESSAGE,
                "response_message_ephemeral": self.ephemeral,
            },
            "resource": {
                "type": self.kind,
                **({"message": shown.payload()} if shown and self.kind in (MESSAGE, UPDATE) else {}),
            },
        }


def command_data(command: Json, options: dict[str, Any]) -> Json:
    """The ``data`` of a slash command, checked as Discord's own input box does.

    Raises:
        ValueError: an option that is unknown, missing, of another type, out of range or none of the choices.
    """
    known = {option["name"]: option for option in command.get("options", [])}
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"/{command['name']} has no option {', '.join(unknown)}; it has: {', '.join(known)}")
    for name, option in known.items():
        if option.get("required") and name not in options:
            raise ValueError(f"/{command['name']} needs {name}")
    data: Json = {
        "id": command["id"],
        "name": command["name"],
        "type": 1,
        "options": [
            {"name": name, "type": known[name]["type"], "value": _sent(_checked(known[name], value))}
            for name, value in options.items()
        ],
        "resolved": {
            "roles": {str(value.id): value.payload() for value in options.values() if isinstance(value, Role)}
        },
    }
    if "guild_id" in command:
        data["guild_id"] = command["guild_id"]  # without it discord.py does not find a guild's command
    return data


def _checked(option: Json, value: Any) -> Any:
    name = option["name"]
    expected = _OPTION_TYPES[option["type"]]
    if type(value) is not expected:
        raise ValueError(f"{name} takes {expected.__name__}, not {value!r}")
    choices = [choice["value"] for choice in option.get("choices") or []]
    if choices and value not in choices:
        raise ValueError(f"{name} is one of {choices}, not {value!r}")
    if expected in (int, float) and not option.get("min_value", value) <= value <= option.get("max_value", value):
        raise ValueError(f"{name} is from {option.get('min_value')} to {option.get('max_value')}, not {value!r}")
    return value


def _sent(value: Any) -> Any:
    """Who and what exists is sent by id, and described in ``resolved``."""
    return str(value.id) if isinstance(value, Role) else value


def interaction_payload(
    reply: Reply, member: Member, data: Json, *, application_id: int, in_guild: bool, message: Message | None
) -> Json:
    """The INTERACTION_CREATE for ``reply``, from ``member``, in the guild's text channel or in a DM."""
    payload: Json = {
        "id": str(reply.id),
        "application_id": str(application_id),
        "type": reply.interaction_kind,
        "token": reply.token,
        "version": 1,
        "data": data,
        "locale": member.user.locale,
        "entitlements": [],
        "attachment_size_limit": 10 * 1024 * 1024,
    }
    if message is not None:
        payload["message"] = message.payload()
    if in_guild:
        payload |= _in_guild(member.guild, member)
    else:
        channel_id = str(member.user.id + 1)
        payload |= {
            "user": member.user.payload(),
            "channel_id": channel_id,
            "channel": {"id": channel_id, "type": DM, "recipients": [member.user.payload()]},
            "context": 1,
            "authorizing_integration_owners": {"0": "0"},
        }
    return payload


def _in_guild(guild: Guild, member: Member) -> Json:
    return {
        "guild_id": str(guild.id),
        "guild": {"id": str(guild.id), "locale": guild.locale, "features": []},
        "guild_locale": guild.locale,
        "channel_id": str(guild.general.id),
        "channel": {**guild.general.payload(), "permissions": str(member.permissions)},
        "member": {**member.payload(), "permissions": str(member.permissions)},
        "app_permissions": str(guild.bot.permissions),
        "context": 0,
        "authorizing_integration_owners": {"0": str(guild.id)},
    }
