"""What the bot tells of itself and its tables, in Prometheus' text format.

Nothing is kept here: each page is made from what the tables say of themselves at that moment, so a table that has
stopped is not on the next one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from bot.table import Status

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Metric(NamedTuple):
    """One name, and what of a table stands behind it: values with their labels, beside the guild's.

    A name in ``samples`` may be followed by a suffix, as in a summary's ``_count``.
    """

    name: str
    kind: Literal["counter", "gauge", "summary"]
    help: str
    samples: Callable[[Status], Sequence[tuple[str, Mapping[str, str], float | None]]]


def _one(
    value: Callable[[Status], float | None],
) -> Callable[[Status], Sequence[tuple[str, dict[str, str], float | None]]]:
    return lambda status: [("", {}, value(status))]


def _frames(status: Status) -> list[tuple[str, dict[str, str], float]]:
    frames = status.frames
    counts = {
        "expected": frames.expected,
        "sent": frames.sent,
        "held": frames.held,
        "silent": frames.silent,
        "late": frames.late,
    }
    return [("", {"kind": kind}, count) for kind, count in counts.items()]


_OF_TABLES: Final = (
    _Metric("bardcast_table_frames_total", "counter", "Frames of 20 ms, by what became of them", _frames),
    _Metric("bardcast_table_buffer_seconds", "gauge", "Music that lies ready", _one(lambda status: status.buffered)),
    _Metric(
        "bardcast_table_reconnects_total",
        "counter",
        "Lost voice connections that were replaced",
        _one(lambda status: status.reconnects),
    ),
    _Metric(
        "bardcast_table_change_seconds",
        "summary",
        "Time from a wish for other music to its first sound",
        lambda status: [("_sum", {}, status.latency.seconds), ("_count", {}, status.latency.changes)],
    ),
    _Metric(
        "bardcast_table_window_seconds",
        "gauge",
        "Time that the generator took over the last window",
        _one(lambda status: status.window_seconds),
    ),
    _Metric(
        "bardcast_table_real_time_factor",
        "gauge",
        "The last window's length over the time that it took",
        _one(lambda status: status.realtime_factor),
    ),
    _Metric(
        "bardcast_table_audible",
        "gauge",
        "1 if the people in the channel can hear what is sent",
        _one(lambda status: status.audible),
    ),
    _Metric("bardcast_table_paused", "gauge", "1 if it is silent by wish", _one(lambda status: status.paused)),
    _Metric(
        "bardcast_table_holding",
        "gauge",
        "1 if what is heard is an extension of what was heard before",
        _one(lambda status: status.holding),
    ),
    _Metric(
        "bardcast_table_generator_connected",
        "gauge",
        "1 if the generator answers",
        _one(lambda status: status.connected),
    ),
)


def page(tables: Mapping[int, Status], guilds: int, ready: bool) -> str:
    """Everything.

    Args:
        tables: by the id of their guild.
        guilds: in how many the bot is.
        ready: whether it is at Discord's gateway.
    """
    lines: list[str] = []
    for name, text, value in (
        ("bardcast_bot_ready", "1 if the bot is connected to Discord", int(ready)),
        ("bardcast_bot_guilds", "Guilds that the bot is in", guilds),
        ("bardcast_bot_tables", "Tables at which the bot is", len(tables)),
    ):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value}"]
    for metric in _OF_TABLES:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        for guild, status in tables.items():
            for suffix, labels, sample in metric.samples(status):
                if sample is not None:
                    shown = ",".join(f'{key}="{label}"' for key, label in {"guild": str(guild), **labels}.items())
                    lines.append(f"{metric.name}{suffix}{{{shown}}} {float(sample)!r}")
    return "\n".join(lines) + "\n"
