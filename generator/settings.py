"""What the service is told at start, and the one place that reads the environment. Torch-free."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

from generator.errors import GeneratorError

TOKEN_VARIABLE: Final = "BARDCAST_TOKEN"  # noqa: S105 - the variable's name, not a token
DEFAULT_PORT: Final = 8765


class SettingsError(GeneratorError):
    """The command was asked for something that it must not or can't do."""

    status: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """How the service behaves.

    Attributes:
        host: address to listen on.
        port: 0 asks the system for a free one.
        token: shared secret that every client must show; ``None`` is allowed on loopback only.
        max_streams: how many tables are played to at once; ``None`` for as many as the machine carries.
        origins: of web pages that may use the service beside its own, such as ``https://music.example``.
        cards: folder of evaluations, in which a model's score card is looked for.
        certificate: file with the TLS certificate chain and key by which the service speaks HTTPS; ``None`` for HTTP.
        open_seconds: how long a client may take over its first message.
        idle_seconds: a client that has neither spoken nor taken a frame for so long is let go.
        max_problems: how many bad messages a client may send before it is let go.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str | None = None
    max_streams: int | None = None
    origins: tuple[str, ...] = ()
    cards: Path = Path("runs/evaluations")
    certificate: Path | None = None
    open_seconds: float = 10.0
    idle_seconds: float = 60.0
    max_problems: int = 100

    def __post_init__(self) -> None:
        if not self.host:
            raise SettingsError("--host '' is no address: give 0.0.0.0 for all of this machine's, or 127.0.0.1")
        if self.token is None and not is_loopback(self.host):
            raise SettingsError(
                f"listening on {self.host} lets others in: set {TOKEN_VARIABLE} or --token-file to a shared "
                "secret, or listen on 127.0.0.1"
            )


def load_settings(
    env: Mapping[str, str],
    *,
    host: str,
    port: int,
    token_file: Path | None = None,
    max_streams: int | None = None,
    origins: Sequence[str] = (),
    certificate: Path | None = None,
) -> Settings:
    """Settings from the command line's values and the environment; a token file goes before the variable.

    Raises:
        SettingsError: the token file or an origin can't be used, or there is no token where one is needed.
    """
    token = env.get(TOKEN_VARIABLE, "").strip()
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(f"can't read the token file {token_file}: {reason}") from None
        if not token:
            raise SettingsError(f"the token file {token_file} is empty: put a shared secret in it")
    if not (token.isascii() and token.isprintable()):
        raise SettingsError("the token must be printable ASCII, because it travels in an HTTP header")
    return Settings(
        host=host,
        port=port,
        token=token or None,
        max_streams=max_streams,
        origins=tuple(_origin(origin) for origin in origins),
        certificate=certificate,
    )


def _origin(text: str) -> str:
    """As a browser writes it: scheme and host in small letters, a port where it isn't the scheme's own."""
    try:
        parts = urlsplit(text.strip())  # which writes scheme and host in small letters
        own = {"http": 80, "https": 443}[parts.scheme]
        port = "" if parts.port in (None, own) else f":{parts.port}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        if not host or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
            raise ValueError
    except (KeyError, ValueError):
        raise SettingsError(
            f"--origin {text!r} is no page's origin: give scheme and host, such as https://music.example"
        ) from None
    return f"{parts.scheme}://{host}{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``; of names, only localhost is sure to mean that."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
