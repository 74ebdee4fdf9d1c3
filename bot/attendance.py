"""Who listens at a table, and what follows when nobody does."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import discord


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """It will not be."""


class Clock(Protocol):
    """The time; the event loop has it."""

    def time(self) -> float:
        """Seconds, of which only differences mean something."""

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Calls back then."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds without a listener until the music pauses, and until the bot leaves."""

    pause_after: float
    leave_after: float


class Presence(Enum):
    """Whether it is worth while to play."""

    HERE = "somebody listens, or did a moment ago"
    AWAY = "nobody has listened for a while"
    GONE = "nobody will come back"


class Attendance:
    """Follows the number of listeners at one table."""

    def __init__(
        self, patience: Patience, changed: Callable[[], None], clock: Clock, presence: Presence = Presence.HERE
    ) -> None:
        """An attendance that has counted nobody yet.

        Args:
            patience: how long an empty table is kept.
            changed: called whenever :attr:`presence` is another.
            clock: the time.
            presence: what it is before the first count.
        """
        self.presence = presence
        self._patience = patience
        self._changed = changed
        self._clock = clock
        self._empty_since: float | None = None
        self._timers: tuple[Timer, ...] = ()

    def count(self, listeners: int) -> None:
        """So many listen now."""
        if listeners:
            self.close()
            self._empty_since = None
            self._turn(Presence.HERE)
        elif self._empty_since is None:
            self._empty_since = self._clock.time()
            self._schedule()

    def set_patience(self, patience: Patience) -> None:
        """Keeps an empty table so long, counted from when it became empty."""
        self._patience = patience
        self._schedule()

    def close(self) -> None:
        """Nothing follows any more."""
        for timer in self._timers:
            timer.cancel()
        self._timers = ()

    def _schedule(self) -> None:
        self.close()
        if self._empty_since is not None and self.presence is not Presence.GONE:
            ends = self._empty_since + self._patience.leave_after
            pauses = min(ends, self._empty_since + self._patience.pause_after)
            self._timers = (
                self._clock.call_at(pauses, self._turn, Presence.AWAY),
                self._clock.call_at(ends, self._turn, Presence.GONE),
            )

    def _turn(self, presence: Presence) -> None:
        if presence is Presence.GONE:
            self.close()
        if presence is not self.presence:
            self.presence = presence
            self._changed()


def listeners(channel: discord.VoiceChannel | discord.StageChannel) -> int:
    """How many people in the channel hear it: bots don't listen, and the deafened hear nothing."""
    # Not channel.members: a person whom discord.py has no name of listens as well as any.
    count = 0
    for user_id, state in channel.voice_states.items():
        member = channel.guild.get_member(user_id)
        if user_id != channel.guild.me.id and not (member is not None and member.bot):
            count += not (state.deaf or state.self_deaf)
    return count
