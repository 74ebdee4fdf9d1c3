"""What is really so at one table, seen and heard from Discord's side."""

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.fake import AMPLITUDE, PITCHES
from generator.moods import Mood
from generator.protocol import SAMPLE_RATE, Controls
from tests.discord_server import DiscordServer, Guild

WINDOW: Final = 0.4  #: seconds by which a mood is told
LAG: Final = 0.15  #: seconds until what was sent is surely heard
SILENT: Final = 0.002  #: of full volume
LOUDNESS_TOLERANCE: Final = 0.25  #: of what is due: 2 dB
_KEPT_PACKETS: Final = 400  #: of each connection; what is older was heard and judged


@dataclass(frozen=True, slots=True)
class Heard:
    """What the people of one guild have.

    Attributes:
        place: id of the channel in which they see the bot.
        connections: open voice connections.
        gains: how loud each mood's sine is, against full volume.
    """

    place: int | None
    connections: int
    gains: dict[Mood, float]

    @property
    def silent(self) -> bool:
        """Whether there is no sound at all."""
        return max(self.gains.values()) < SILENT

    def plays(self, controls: Controls, gain: float) -> bool:
        """Whether it is this music so loud, and no other."""
        due = dict.fromkeys(PITCHES, 0.0) | dict.fromkeys(controls.moods, gain / len(controls.moods))
        return all(
            abs(self.gains[mood] - wanted) < LOUDNESS_TOLERANCE * wanted + 0.03 * gain + SILENT / 2
            for mood, wanted in due.items()
        )

    def __str__(self) -> str:
        sound = ", ".join(f"{mood} {gain:.3f}" for mood, gain in self.gains.items() if gain >= SILENT) or "silence"
        return f"channel {self.place}, {self.connections} connections, {sound}"


def listen(server: DiscordServer, guild: Guild) -> Heard:
    """The last moments."""
    end = time.monotonic() - LAG
    sound = np.zeros((round(WINDOW * SAMPLE_RATE), 2), np.float32)
    count = 0
    for connection in server.voice.connections:
        if connection.grant.guild is guild:
            count += connection.open
            del connection.listener.packets[:-_KEPT_PACKETS]
            if connection.listener.packets and connection.listener.packets[-1].arrival > end - 2 * WINDOW:
                sound += connection.listener.heard(end - WINDOW, end)[: len(sound)]
    state = server.voice_state_of_bot(guild)
    return Heard(state.channel.id if state is not None and state.channel is not None else None, count, gains(sound))


def gains(sound: NDArray[np.float32]) -> dict[Mood, float]:
    """How loud each mood's sine is in ``sound`` (samples, 2), against full volume."""
    mono = sound.mean(axis=1)
    window = np.hanning(len(mono))
    time_axis = np.arange(len(mono)) / SAMPLE_RATE
    full = AMPLITUDE / 32_768 * window.sum() / 2
    return {
        mood: float(abs(np.sum(mono * window * np.exp(-2j * np.pi * pitch * time_axis)))) / full
        for mood, pitch in PITCHES.items()
    }
