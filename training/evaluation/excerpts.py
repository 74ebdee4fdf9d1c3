"""What the card listens to: excerpts of sound, each with its mood and the recording that it belongs to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.moods import Mood
from training.manifest import CLIP_SAMPLES, SAMPLE_RATE

Sound = NDArray[np.float32]

EXCERPT_SECONDS: Final = 40  #: four clips, so that likeness over 30 s can be measured


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A stretch of sound without a cut.

    Attributes:
        sound: float32 [samples], mono, full scale ±1, at 48 kHz; may hold what is not finite: that is a finding.
        mood: what it should be; ``None`` where nobody knows.
        track: the recording, or the generated stream, that it is part of; statistics resample whole tracks.
        start: seconds from the beginning of the track (silence that ``prepare`` dropped is not counted).
    """

    sound: Sound
    mood: Mood | None
    track: str
    start: float = 0.0

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.sound) / SAMPLE_RATE

    @property
    def label(self) -> str:
        """How a person finds it again."""
        minutes, seconds = divmod(round(self.start), 60)
        return f"{self.track} at {minutes}:{seconds:02d}"

    @property
    def heard(self) -> Sound:
        """Its sound, fit to be measured: silence where it is not finite, and nothing 18 dB beyond full scale."""
        return np.clip(np.nan_to_num(self.sound, nan=0.0, posinf=0.0, neginf=0.0), -8.0, 8.0)

    def clips(self) -> Iterator["Excerpt"]:
        """Its whole clips of 10 s, one after the other; none if it is shorter."""
        for first in range(0, len(self.sound) - CLIP_SAMPLES + 1, CLIP_SAMPLES):
            sound = self.sound[first : first + CLIP_SAMPLES]
            yield Excerpt(sound, self.mood, self.track, self.start + first / SAMPLE_RATE)


@dataclass(frozen=True)
class Music:
    """Excerpts that can be gone through again and again, without all of them lying in memory.

    Attributes:
        name: what they are.
        count: how many.
        again: begins anew.
    """

    name: str
    count: int
    again: Callable[[], Iterator[Excerpt]]

    def __iter__(self) -> Iterator[Excerpt]:
        return self.again()

    def __len__(self) -> int:
        return self.count
