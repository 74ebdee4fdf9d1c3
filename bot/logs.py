"""The log: what happened, to which guild and table, in lines for people or as JSON; and never with a secret in it."""

import contextlib
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal

Style = Literal["text", "json"]

log = logging.getLogger(__name__)

#: What the present task is about. Tasks and timers take along what held where they were made.
_about: ContextVar[Mapping[str, int]] = ContextVar("about", default={})  # noqa: B039 - never written to

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@contextlib.contextmanager
def about(*, guild: int | None = None, table: int | None = None) -> Iterator[None]:
    """What is logged inside, also by tasks that are begun there, is about this guild and this table."""
    known = {name: value for name, value in (("guild", guild), ("table", table)) if value is not None}
    token = _about.set({**_about.get(), **known})
    try:
        yield
    finally:
        _about.reset(token)


class _Formatter(logging.Formatter):
    """Takes a record apart; everything in it passes through ``redact`` before it is put together again."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def _message(self, record: logging.LogRecord) -> str:
        try:
            message = record.getMessage()
        except Exception:  # logging would print the arguments as they are, past any redaction
            message = f"{record.msg!s} (its arguments do not fit: {record.args!r})"
        return self._redact(message)

    def _trace(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
        if record.stack_info:
            parts.append(record.stack_info)
        return self._redact("\n".join(parts))


class TextFormatter(_Formatter):
    """A line an event, for people; a traceback follows below."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as lines."""
        where = " ".join(f"{name} {value}" for name, value in _about.get().items())
        head = f"{self.formatTime(record)} {record.levelname} {record.name}{f' [{where}]' if where else ''}"
        # Names of channels and the like are other people's: none is to look like a line of its own, or to colour one.
        message = _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], self._message(record))
        return "\n".join(part for part in (f"{head}: {message}", self._trace(record)) if part)


class JsonFormatter(_Formatter):
    """A JSON object a line, for machines: time, level, logger, guild, table, message, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_about.get(),
            "message": self._message(record),
        }
        if trace := self._trace(record):
            line["exception"] = trace
        return json.dumps(line)


def configure(level: int, style: Style | None, redact: Callable[[str], str]) -> None:
    """Logs to stderr from now on, unless somebody else has set up logging already.

    Args:
        level: what is less grave is not logged.
        style: of the lines; None: text on a terminal, else JSON.
        redact: takes secrets out of a text.
    """
    if style is None:
        style = "text" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler()
    handler.setFormatter((TextFormatter if style == "text" else JsonFormatter)(redact))
    logging.basicConfig(level=level, handlers=[handler])


def catch_the_rest() -> None:
    """Has what nobody caught go to the log too; Python would print it, secrets and all, to stderr."""

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("ended by what nobody foresaw", exc_info=(kind, error, trace))

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            log.error("a thread ended by what nobody foresaw", exc_info=args.exc_value)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
