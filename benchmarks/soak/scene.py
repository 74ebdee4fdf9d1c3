"""What should be so at one table, and how what people do changes it. Pure: no clock, no network, no bot.

It says again, in as few words as possible, what ``bot.engagement`` and ``bot.attendance`` bring about by timers, locks
and tasks. Where the outcome hangs on a fraction of a second there is more than one scene that may be so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from generator.protocol import INTENSITIES, Controls

EARLY: Final = 0.5  #: seconds by which a timer of the bot's may seem to ring too soon
LATE: Final = 6.0  #: seconds after which it has rung, and what follows is done
INF: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Music:
    """What plays.

    Attributes:
        channel: id of the voice channel.
        asleep: remembered by a bot that has come back to an empty channel; it is not there.
    """

    channel: int
    controls: Controls
    paused: bool = False
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """One table.

    Attributes:
        music: what plays, if anything.
        empty: between which two moments (seconds) the bot saw the last listener go.
        drowsy: whether it may have fallen silent for want of listeners under an earlier setting.
        gm_only: whether a GM role was chosen.
        pause_after, leave_after: seconds without a listener.
    """

    volume: int
    pause_after: float
    leave_after: float
    music: Music | None = None
    empty: tuple[float, float] | None = None
    drowsy: bool = False
    gm_only: bool = False
    language: str = "en"

    @property
    def gain(self) -> float:
        """As the generator is asked for it."""
        return (self.volume / 100) ** 2

    # What people ask

    def played(self, channel: int, controls: Controls) -> "Scene":
        """Somebody in ``channel`` asked for this."""
        return replace(self, music=Music(channel, controls), empty=None, drowsy=False)

    def turned(self, controls: Controls) -> "Scene":
        """Somebody elsewhere did: only the music changes."""
        return self._but(controls=controls)

    def stepped(self, step: int) -> "Scene":
        """The buttons for intensity."""
        if self.music is None:
            return self
        controls = self.music.controls
        wanted = max(INTENSITIES.start, min(INTENSITIES.stop - 1, controls.intensity + step))
        return self.turned(replace(controls, intensity=wanted))

    def paused(self) -> "Scene":
        """By the GM."""
        return self._but(paused=True)

    def resumed(self) -> "Scene":
        """By the GM, who is not to find it asleep."""
        return replace(self._but(paused=False, asleep=False), empty=None, drowsy=False)

    def ended(self) -> "Scene":
        """Nothing plays, and nothing is remembered."""
        return replace(self, music=None, empty=None, drowsy=False)

    def patient(self, pause_after: float, leave_after: float) -> "Scene":
        """Empty tables are kept for another time; what has fallen silent stays so."""
        return replace(self, pause_after=pause_after, leave_after=leave_after, drowsy=self.empty is not None)

    # What happens

    def dragged(self, channel: int) -> "Scene":
        """Somebody moved the bot."""
        return self._but(channel=channel)

    def restarted(self) -> "Scene":
        """The bot was: it comes back as soon as somebody is there."""
        return replace(self._but(asleep=True), empty=None, drowsy=False)

    def counted(self, listeners: int, now: float) -> "Scene":
        """So many listen."""
        if self.music is None:
            return replace(self, empty=None, drowsy=False)
        if listeners:
            return replace(self._but(asleep=False), empty=None, drowsy=False)
        return self if self.empty is not None else replace(self, empty=(now, INF))

    def seen(self, now: float) -> "Scene":
        """All that happened so far has reached the bot by now."""
        if self.empty is None:
            return self
        first, last = self.empty
        return replace(self, empty=(first, min(last, now)))

    def pass_by(self, now: float) -> set["Scene"]:
        """What may have become of it by ``now``."""
        if self.music is None or self.empty is None:
            return {self}
        first, last = self.empty
        if now - first < self.leave_after - EARLY:
            return {self}
        if now - last > self.leave_after + LATE:
            return {self.ended()}
        return {self, self.ended()}

    # What follows

    @property
    def place(self) -> int | None:
        """In which channel the bot is."""
        return None if self.music is None or self.music.asleep else self.music.channel

    def may_sound(self, now: float) -> bool:
        """Whether there may be music."""
        if self.place is None or self.music is None or self.music.paused or self.volume == 0:
            return False
        return self.empty is None or now - self.empty[1] < min(self.pause_after, self.leave_after) + LATE

    def may_be_silent(self, now: float) -> bool:
        """Whether there may be none."""
        if not self.may_sound(now) or self.drowsy:
            return True
        return self.empty is not None and now - self.empty[0] > min(self.pause_after, self.leave_after) - EARLY

    def _but(self, **changes: Any) -> "Scene":
        """The same, but for something about the music, if there is any."""
        return self if self.music is None else replace(self, music=replace(self.music, **changes))


def by_now(scenes: Iterable[Scene], now: float) -> set[Scene]:
    """What may have become of them."""
    return {later for scene in scenes for later in scene.pass_by(now)}
