"""What the admin decides, read once from the environment and ``.env``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from bot.errors import SettingsError
from bot.logs import Style

DEFAULT_VOLUME: Final = 60  #: percent; a bot that is too loud on join is the commonest complaint of all

DEFAULT_PAUSE_AFTER: Final = 60  #: seconds
DEFAULT_LEAVE_AFTER: Final = 600  #: seconds
MAX_PATIENCE: Final = 86_400  #: seconds; a bot that never leaves is the next complaint
MAX_SHARDS: Final = 1_000
#: Below the folder for what programs keep of their past (XDG Base Directory Specification).
_STORE: Final = "bardcast/bardcast.sqlite3"
DEFAULT_STORE: Final = Path("~/.local/state", _STORE)

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Settings:
    """All of the bot's settings.

    Attributes:
        discord_token: the bot's token, or None where no Discord is wanted (the demo).
        generator_urls: base URLs of generators elsewhere, without a slash at the end; none: one is started here.
        generator_token: the secret shared with those generators.
        model: name or path of the checkpoint that a generator started here plays; None: the one that ships.
        volume: percent, 0 to 100, at which a table begins.
        store: the file that keeps what outlives a restart; a ``~`` at its beginning is the home folder.
        pause_after: seconds without a listener until the music pauses.
        leave_after: seconds without a listener until the bot leaves.
        shards: gateway sessions over which the guilds are spread; None: as many as Discord advises.
        log: how the log is written; None: as text on a terminal, else as JSON.
        metrics_port: on which metrics and health are told on loopback; None: not at all.
    """

    discord_token: str | None = None
    generator_urls: tuple[str, ...] = ()
    generator_token: str | None = None
    model: str | None = None
    volume: int = DEFAULT_VOLUME
    store: Path = DEFAULT_STORE
    pause_after: int = DEFAULT_PAUSE_AFTER
    leave_after: int = DEFAULT_LEAVE_AFTER
    shards: int | None = 1
    log: Style | None = None
    metrics_port: int | None = None

    def require_discord_token(self) -> str:
        """The token.

        Raises:
            SettingsError: there is none; the message says where to get one.
        """
        if self.discord_token is None:
            raise SettingsError(
                "DISCORD_TOKEN is not set. Create an application at https://discord.com/developers/applications, "
                "open its Bot page, press Reset Token, and put the token into the file .env as DISCORD_TOKEN=…"
            )
        return self.discord_token


def load_settings(env: Mapping[str, str | None]) -> Settings:
    """The settings in ``env``; an empty value counts as unset.

    Raises:
        SettingsError: a value can't be used.
    """

    def text(name: str) -> str | None:
        return (env.get(name) or "").strip() or None

    def number(name: str, default: int, least: int, most: int) -> int:
        value = text(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            raise SettingsError(f"{name} is {value!r}; write a whole number from {least} to {most}")
        return int(value)

    return Settings(
        discord_token=text("DISCORD_TOKEN"),
        generator_urls=_base_urls(text("BARDCAST_GENERATOR_URL")),
        generator_token=text("BARDCAST_TOKEN"),
        model=text("BARDCAST_MODEL"),
        volume=number("BARDCAST_VOLUME", DEFAULT_VOLUME, 0, 100),
        store=_store(text("BARDCAST_STORE"), text("XDG_STATE_HOME")),
        pause_after=number("BARDCAST_PAUSE_AFTER", DEFAULT_PAUSE_AFTER, 0, MAX_PATIENCE),
        leave_after=number("BARDCAST_LEAVE_AFTER", DEFAULT_LEAVE_AFTER, 0, MAX_PATIENCE),
        shards=None if text("BARDCAST_SHARDS") == "auto" else number("BARDCAST_SHARDS", 1, 1, MAX_SHARDS),
        log=_style(text("BARDCAST_LOG")),
        metrics_port=number("BARDCAST_METRICS_PORT", 0, 1, 65_535) or None,
    )


def _style(value: str | None) -> Style | None:
    match value:
        case None | "text" | "json":
            return value
    raise SettingsError(f"BARDCAST_LOG is {value!r}; write text or json, or leave it out")


def _store(value: str | None, state_home: str | None) -> Path:
    if value is not None:
        return Path(value)
    # A relative folder is to be ignored, says the specification.
    return Path(state_home, _STORE) if state_home is not None and Path(state_home).is_absolute() else DEFAULT_STORE


def _base_urls(value: str | None) -> tuple[str, ...]:
    """Each once: an address that was given twice would be tried twice."""
    return () if value is None else tuple(dict.fromkeys(_base_url(each.strip()) for each in value.split(",")))


def _base_url(value: str) -> str:
    parts = _split(value)
    if parts is None or parts.scheme not in _SCHEMES or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(
            f"BARDCAST_GENERATOR_URL names {value!r}, which is no address of a generator; write it as "
            "http://host:port, several with commas between them, or leave it out to have the bot start its own"
        )
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}"


def _split(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:  # half an IPv6 address, or a port that is none
        return None
    return parts
