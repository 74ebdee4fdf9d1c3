"""An engine whose sound is known in closed form, for proofs about streams: a tone a mood, by absolute time."""

from dataclasses import dataclass, replace

import numpy as np

from generator.engine import BLIND_OVERLAP, CONTINUED_OVERLAP, Engine, Sound, State, Wanted, Window, always
from generator.moods import MOODS
from generator.protocol import FRAME_SAMPLES, SAMPLE_RATE
from generator.section import Section
from tests.generator.tiny import TINY, TINY_PAPER

LEVEL = 0.3


@dataclass(frozen=True)
class Call:
    """What a stream asked for."""

    state: State
    section: Section
    seed: int


class ToneEngine(Engine):
    """``level`` 0 frequency for a constant; ``now`` is a clock that each window moves by ``cost`` seconds."""

    def __init__(
        self, blind: bool = False, steady: bool = False, level: float = LEVEL, cost: float = 0.1, prefix: int = 16
    ) -> None:
        self.config = TINY_PAPER if blind else replace(TINY, prefix=2 * prefix)
        self.name, self.steady, self.level, self.cost, self.now = "tones", steady, level, cost, 0.0
        self.digest = "of tones"
        self.window_frames = 100 if blind else 64
        self.overlap = BLIND_OVERLAP if blind else CONTINUED_OVERLAP
        self.prefix_frames, self.mels_a_frame = (0, 0) if blind else (prefix, 2)
        self.lead = max(0, self.prefix_frames - self.overlap)
        self.calls: list[Call] = []

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def tone(self, section: Section, begin: int, frames: int) -> Sound:
        """What a section sounds like from wire frame ``begin`` on."""
        if self.steady:
            return np.full(frames * FRAME_SAMPLES, self.level, np.float32)
        hertz = 200 + 50 * MOODS.index(section.controls.mood)  # whole periods in 20 ms
        time = np.arange(frames * FRAME_SAMPLES) / SAMPLE_RATE
        return (self.level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)

    def window(self, state: State, section: Section, seed: int, wanted: Wanted = always) -> Window:
        """The section's tone; its mood's number as a Mel; what was heard kept, as the vocoder does."""
        self.calls.append(Call(state, section, seed))
        self.now += self.cost
        begin = state.position - len(state.sound) // FRAME_SAMPLES
        sound = self.tone(section, begin, self.window_frames)
        sound[: len(state.sound)] = state.sound
        shape = (self.config.mel.bands, self.window_frames * self.mels_a_frame)
        mel = np.full(shape, MOODS.index(section.controls.mood), np.float32)
        mel[:, : state.mel.shape[1]] = state.mel
        return Window(begin, sound, mel)
