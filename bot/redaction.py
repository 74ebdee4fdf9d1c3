"""Secrets are not written down: what is known to be one, and what looks like one, is replaced in every text."""

import json
import re
from typing import Final
from urllib.parse import quote

HIDDEN: Final = "[hidden]"

#: Each with what is kept of it. A secret may come as text, as Python or JSON shows it, in a header or in an address.
_SHAPES: Final = (
    # The addresses through which an interaction is answered: who has one can speak in the bot's name for 15 minutes.
    (re.compile(r"(/(?:webhooks|interactions)/\d+/)[^/\s?#'\"<>()]+"), r"\1"),
    (re.compile(r"()\baW50ZXJhY3Rpb24[\w+/=:.-]+"), r"\1"),  # "interaction" in Base64: so such tokens begin
    # A bot's token: its id in Base64, a time, a signature.
    (re.compile(r"()(?<![\w-])[\w-]{23,28}\.[\w-]{6,7}\.[\w-]{27,}"), r"\1"),
    (re.compile(r"(?i)(\bauthorization\b['\"]?\s*[:=,]\s*b?['\"]?(?:(?:bot|bearer|basic)\s+)?)[^\s'\",;]+"), r"\1"),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{6,}"), r"\1"),
    # An assignment, or an entry of a mapping. With a bare colon it would be a sentence.
    (
        re.compile(
            r"(?i)((?:token|secret|secret_key|password)(?:\s*=\s*|['\"]\s*:\s*))"
            r"(?:b?\"(?:\\.|[^\"\\])*\"|b?'(?:\\.|[^'\\])*'|\[[^\]]*\]|[^\s,;&)}\]…]+)"
        ),
        r"\1",
    ),
    (re.compile(r"(://)[^/\s@'\"]+(?=@)"), r"\1"),  # name and password in an address
)


class Redactor:
    """Called with a text, returns it without secrets."""

    def __init__(self, *secrets: str | None) -> None:
        """Hides these from the beginning; ``None`` is no secret."""
        self._known: list[str] = []
        for secret in secrets:
            self.hide(secret)

    def hide(self, secret: str | None) -> None:
        """Hides this as well, from now on, however it is written."""
        if secret:
            written = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe=""), quote(secret)}
            # The longest first: of two that begin alike nothing is left over.
            self._known = sorted({*self._known, *written}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text as it may be written down."""
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        for shape, kept in _SHAPES:
            text = shape.sub(kept + HIDDEN, text)
        return text
