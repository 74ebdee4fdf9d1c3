"""Many clips in all moods, each looked at for what went wrong with the paper's model: blank, infinite, clipped."""

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import finish, note, parser, spread
from generator.checkpoint import load_checkpoint
from generator.engine import Engine, GenerationError, State, Window
from generator.loudness import lufs
from generator.moods import MOODS, Mood
from generator.protocol import Controls
from generator.sample import Order, Pcm, render
from generator.section import Section
from generator.stream import Player
from training.evaluation.defects import LEAST_MOVEMENT_DB, QUIET_DBFS, is_blank, level, movement, plants

FULL_SCALE = 32_767


class WatchedEngine(Engine):
    """An engine that counts what is not finite before anything rounds it to 16 bits."""

    not_finite = 0

    def window(self, state: State, section: Section, seed: int) -> Window:
        """As an engine makes it."""
        window = super().window(state, section, seed)
        self.not_finite += sum(int((~np.isfinite(values)).sum()) for values in (window.sound, window.mel))
        return window


@dataclass(frozen=True)
class Clip:
    """What was found in one."""

    mood: Mood
    seed: int
    rms_dbfs: float
    lufs: float
    movement_db: float
    clipped_samples: int
    not_finite: int
    blank: bool


def examine(pcm: Pcm, mood: Mood, seed: int, not_finite: int) -> Clip:
    """What there is to say of one clip's samples, [time, 2]."""
    sound = (pcm / np.float32(32_768)).astype(np.float32)
    rms, moves = level(sound), movement(sound)
    clipped = int((np.abs(pcm.astype(np.int32)) >= FULL_SCALE).sum())
    return Clip(mood, seed, rms, lufs(sound), moves, clipped, not_finite, is_blank(rms, moves))


def main(arguments: list[str] | None = None) -> None:
    """Make the clips, look at each, show what was found."""
    options = _parse(arguments)
    engine = WatchedEngine(load_checkpoint(options.model))
    clips: list[Clip] = []
    infinite = 0
    begun = time.perf_counter()
    for number in range(options.clips):
        mood = MOODS[number % len(MOODS)]
        seed = options.seed + number
        order = Order(Controls(mood), options.seconds, 1, seed, Path())
        engine.not_finite = 0
        try:
            pcm = render(Player(engine), order, 0, lambda _: None)
        except GenerationError:
            infinite += 1
            continue
        clips.append(examine(pcm, mood, seed, engine.not_finite))
        note(f"clip {number + 1} of {options.clips}: {clips[-1]}")
    if not clips:
        raise SystemExit("every clip was infinite")
    seconds = time.perf_counter() - begun
    by_mood: defaultdict[Mood, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_mood[clip.mood].append(clip)
    counts = {
        "clips": options.clips,
        "blank": sum(clip.blank for clip in clips),
        "not_finite": infinite + sum(clip.not_finite > 0 for clip in clips),
        "clipped": sum(clip.clipped_samples > 0 for clip in clips),
    }
    moves = spread([clip.movement_db for clip in clips])
    planted = {name: movement(s) for name, s in plants(options.seconds, np.random.default_rng(options.seed)).items()}
    rows = [
        ("clips", f"{options.clips} of {options.seconds:g} s, over {len(by_mood)} moods, in {seconds:.0f} s"),
        (
            "blank",
            f"{counts['blank']} (quieter than {QUIET_DBFS:g} dBFS, or moving by less than {LEAST_MOVEMENT_DB:g} dB)",
        ),
        ("with a non-finite value", str(counts["not_finite"])),
        ("with a clipped sample", str(counts["clipped"])),
        ("movement", f"least {moves['least']:.2f} dB, median {moves['median']:.2f} dB"),
        *((f"  of planted {name}", f"{value:.2f} dB") for name, value in planted.items()),
        *(
            (
                f"loudness, {mood}",
                f"{np.mean([c.rms_dbfs for c in some]):.1f} dBFS RMS, from {min(c.rms_dbfs for c in some):.1f} "
                f"to {max(c.rms_dbfs for c in some):.1f}; {np.mean([c.lufs for c in some]):.1f} LUFS",
            )
            for mood, some in by_mood.items()
        ),
    ]
    figures = {
        "counts": counts,
        "least_movement_db": LEAST_MOVEMENT_DB,
        "planted_db": planted,
        "movement_db": moves,
        "seconds": seconds,
        "clips": [vars(clip) for clip in clips],
    }
    finish("Clips", options, rows, figures)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0])
    made.add_argument("--clips", type=int, default=256, help="how many, the moods by turns")
    made.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    return made.parse_args(arguments)


if __name__ == "__main__":
    main()
