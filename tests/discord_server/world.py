"""Who and what exists: guilds, channels, roles, members, voice states, and their JSON as Discord words it."""

import itertools
import time
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, Final

Json = dict[str, Any]

TOKEN: Final = "loopback-token"  #: any token but the next one is accepted; this is one to use
REFUSED_TOKEN: Final = "loopback-refused"  #: answered with 401 and close code 4004

#: Permission bits (discord.com/developers/docs/topics/permissions).
ADMINISTRATOR: Final = 1 << 3
MANAGE_GUILD: Final = 1 << 5
VIEW_CHANNEL: Final = 1 << 10
SEND_MESSAGES: Final = 1 << 11
EMBED_LINKS: Final = 1 << 14
ATTACH_FILES: Final = 1 << 15
CONNECT: Final = 1 << 20
SPEAK: Final = 1 << 21
USE_COMMANDS: Final = 1 << 31
MUTE_MEMBERS: Final = 1 << 22
MOVE_MEMBERS: Final = 1 << 24
REQUEST_TO_SPEAK: Final = 1 << 32
EVERYONE: Final = VIEW_CHANNEL | SEND_MESSAGES | EMBED_LINKS | ATTACH_FILES | CONNECT | SPEAK | USE_COMMANDS
ALL: Final = (1 << 53) - 1

TEXT: Final = 0
DM: Final = 1
VOICE: Final = 2
STAGE: Final = 13

_EPOCH_MS: Final = 1_420_070_400_000
_JOINED: Final = "2024-01-01T00:00:00+00:00"
_counter = itertools.count()


def snowflake() -> int:
    """A fresh id. It holds the present time, from which discord.py tells when an interaction expires."""
    return (int(time.time() * 1000) - _EPOCH_MS) << 22 | (next(_counter) & 0x3FFFFF)


@dataclass(eq=False, slots=True)
class User:
    """A person or a bot."""

    name: str
    bot: bool = False
    locale: str = "en-US"
    id: int = field(default_factory=snowflake)

    def payload(self) -> Json:
        return {
            "id": str(self.id),
            "username": self.name,
            "discriminator": "0",
            "global_name": None,
            "avatar": None,
            "bot": self.bot,
            "public_flags": 0,
        }


@dataclass(eq=False, slots=True)
class Role:
    """A role; ``permissions`` are bits."""

    name: str
    permissions: int = 0
    position: int = 1
    id: int = field(default_factory=snowflake)

    def payload(self) -> Json:
        return {
            "id": str(self.id),
            "name": self.name,
            "permissions": str(self.permissions),
            "position": self.position,
            "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
            "hoist": False,
            "managed": False,
            "mentionable": False,
            "flags": 0,
        }


@dataclass(eq=False, slots=True)
class Channel:
    """A channel of a guild; ``overwrites`` are Discord's own permission overwrite objects."""

    guild: "Guild"
    name: str
    type: int = VOICE
    user_limit: int = 0
    bitrate: int = 64_000
    overwrites: list[Json] = field(default_factory=list)
    id: int = field(default_factory=snowflake)

    def payload(self) -> Json:
        return {
            "id": str(self.id),
            "guild_id": str(self.guild.id),
            "type": self.type,
            "name": self.name,
            "position": self.guild.channels.index(self),
            "permission_overwrites": self.overwrites,
            "parent_id": None,
            "nsfw": False,
            "flags": 0,
            "rate_limit_per_user": 0,
            "last_message_id": None,
            **({"user_limit": self.user_limit, "bitrate": self.bitrate} if self.type != TEXT else {"topic": None}),
        }

    @property
    def members(self) -> "list[Member]":
        """Those who are in this voice channel now."""
        return [state.member for state in self.guild.voice_states.values() if state.channel is self]


@dataclass(eq=False, slots=True)
class Member:
    """A user in one guild."""

    guild: "Guild"
    user: User
    roles: list[Role] = field(default_factory=list)

    @property
    def permissions(self) -> int:
        """The guild-wide bits: the union of all roles."""
        bits = reduce(or_, (role.permissions for role in [self.guild.everyone, *self.roles]))
        return ALL if bits & ADMINISTRATOR or self.guild.owner is self else bits

    @property
    def voice(self) -> "VoiceState | None":
        """Where the member is heard, if anywhere."""
        return self.guild.voice_states.get(self.user.id)

    def payload(self) -> Json:
        return {
            "user": self.user.payload(),
            "roles": [str(role.id) for role in self.roles],
            "nick": None,
            "avatar": None,
            "joined_at": _JOINED,
            "deaf": False,
            "mute": False,
            "flags": 0,
        }


@dataclass(eq=False, slots=True)
class VoiceState:
    """Where a member is, and whether it hears and speaks. A state without a channel is the news of a leave.

    On a stage, ``suppress`` is who may not speak, and ``requested_at`` since when somebody asks to.
    """

    member: Member
    channel: Channel | None
    session_id: str
    self_mute: bool = False
    self_deaf: bool = False
    suppress: bool = False
    requested_at: str | None = None

    def payload(self) -> Json:
        return {
            "guild_id": str(self.member.guild.id),
            "channel_id": str(self.channel.id) if self.channel else None,
            "user_id": str(self.member.user.id),
            "member": self.member.payload(),
            "session_id": self.session_id,
            "deaf": False,
            "mute": False,
            "self_deaf": self.self_deaf,
            "self_mute": self.self_mute,
            "self_video": False,
            "suppress": self.suppress,
            "request_to_speak_timestamp": self.requested_at,
        }


class Guild:
    """A server: a text channel and two voice channels to begin with, the bot among its members.

    Attributes:
        general: the text channel in which commands are typed.
        voice, other_voice: the first two voice channels.
        bot: the bot's member.
        owner: the person who may do everything; set to a member to make it so.
    """

    def __init__(self, name: str, bot: User) -> None:
        self.id = snowflake()
        self.name = name
        self.everyone = Role("@everyone", EVERYONE, position=0, id=self.id)
        self.roles = [self.everyone]
        self.channels: list[Channel] = []
        self.voice_states: dict[int, VoiceState] = {}
        self.bot = Member(self, bot)
        self.members = [self.bot]
        self.owner: Member | None = None
        self.locale = "en-US"
        self.general = self.add_channel("general", type=TEXT)
        self.voice = self.add_channel("table")
        self.other_voice = self.add_channel("tavern room")

    def add_channel(self, name: str, *, type: int = VOICE, **options: Any) -> Channel:  # noqa: A002
        """A new channel (before the bot connects; no event announces it). ``options`` are :class:`Channel`'s."""
        channel = Channel(self, name, type, **options)
        self.channels.append(channel)
        return channel

    def add_role(self, name: str, permissions: int = 0) -> Role:
        """A new role (before the bot connects; no event announces it)."""
        role = Role(name, permissions, position=len(self.roles))
        self.roles.append(role)
        return role

    def payload(self) -> Json:
        """What GUILD_CREATE carries."""
        return {
            "id": str(self.id),
            "name": self.name,
            "unavailable": False,
            "owner_id": str(self.owner.user.id if self.owner else 1),
            "roles": [role.payload() for role in self.roles],
            "channels": [channel.payload() for channel in self.channels],
            "members": [member.payload() for member in self.members],
            "voice_states": [state.payload() for state in self.voice_states.values()],
            "member_count": len(self.members),
            "joined_at": _JOINED,
            "large": False,
            "emojis": [],
            "stickers": [],
            "features": [],
            "threads": [],
            "presences": [],
            "stage_instances": [],
            "guild_scheduled_events": [],
            "soundboard_sounds": [],
            "afk_timeout": 300,
            "afk_channel_id": None,
            "verification_level": 0,
            "default_message_notifications": 1,
            "explicit_content_filter": 0,
            "mfa_level": 0,
            "nsfw_level": 0,
            "premium_tier": 0,
            "preferred_locale": self.locale,
            "system_channel_id": None,
            "system_channel_flags": 0,
        }
