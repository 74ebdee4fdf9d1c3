"""What the admin decides, read once from the environment and ``.env``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from bot.errors import SettingsError

DEFAULT_VOLUME: Final = 60  #: percent; a bot that is too loud on join is the commonest complaint of all

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Settings:
    """All of the bot's settings.

    Attributes:
        discord_token: the bot's token, or None where no Discord is wanted (the demo).
        generator_url: base URL of a generator elsewhere, without a slash at its end; None: one is started here.
        generator_token: the secret shared with that generator.
        model: name or path of the checkpoint that a generator started here plays; None: the one that ships.
        volume: percent, 0 to 100, at which a table begins.
    """

    discord_token: str | None = None
    generator_url: str | None = None
    generator_token: str | None = None
    model: str | None = None
    volume: int = DEFAULT_VOLUME

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

    return Settings(
        discord_token=text("DISCORD_TOKEN"),
        generator_url=_base_url(text("BARDCAST_GENERATOR_URL")),
        generator_token=text("BARDCAST_TOKEN"),
        model=text("BARDCAST_MODEL"),
        volume=_percent("BARDCAST_VOLUME", text("BARDCAST_VOLUME"), DEFAULT_VOLUME),
    )


def _base_url(value: str | None) -> str | None:
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(
            f"BARDCAST_GENERATOR_URL is {value!r}, which is no address of a generator; "
            "write it as http://host:port, or leave it out to have the bot start its own"
        )
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}"


def _percent(name: str, value: str | None, default: int) -> int:
    if value is None:
        return default
    if not value.isascii() or not value.isdigit() or int(value) > 100:
        raise SettingsError(f"{name} is {value!r}; write a whole number from 0 to 100")
    return int(value)
