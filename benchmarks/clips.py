"""Many clips in all moods, each looked at for what went wrong with the paper's model: blank, infinite, clipped.

With ``--log`` what is found of each is kept at once, and the next call goes on from there; so thousands can be made at
times when the machine has nothing else to do.
"""

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.report import digest, finish, parser, spread
from generator.checkpoint import load_checkpoint
from generator.engine import Engine, GenerationError, State, Wanted, Window, always
from generator.loudness import FLOOR_LUFS, lufs
from generator.moods import MOODS, Mood, parse_mood
from generator.player import Player
from generator.protocol import Controls
from generator.sample import Order, Pcm, render
from generator.section import Section
from training.evaluation.defects import LEAST_MOVEMENT_DB, QUIET_DBFS, is_blank, level, movement, plants

FULL_SCALE = 32_767


class WatchedEngine(Engine):
    """An engine that counts what is not finite before anything rounds it to 16 bits."""

    not_finite = 0

    def window(self, state: State, section: Section, seed: int, wanted: Wanted = always) -> Window:
        """As an engine makes it."""
        window = super().window(state, section, seed, wanted)
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
    seconds: float  #: that it took to make and to look at


class Log:
    """The clips that were looked at, kept line by line."""

    def __init__(self, path: Path | None, model: str, length: float) -> None:
        """Read what an earlier call found.

        Args:
            path: the file; ``None`` keeps nothing.
            model: whose clips; those of another one are not counted.
            length: of a clip, seconds; likewise.
        """
        self._path, self._key = path, {"model": model, "length": length}
        self.clips: list[Clip] = []
        if path is not None and path.exists():
            kept = path.read_text(encoding="utf-8")
            whole = kept[: kept.rfind("\n") + 1]  # a kill may have cut the last line short: that clip is made again
            path.write_text(whole, encoding="utf-8")
            for line in whole.splitlines():
                found = json.loads(line)
                if found.pop("of") == self._key:
                    self.clips.append(Clip(**{**found, "mood": parse_mood(found["mood"])}))

    def add(self, clip: Clip) -> None:
        """Keep one more."""
        self.clips.append(clip)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"of": self._key, **asdict(clip)}) + "\n")


def make(engine: WatchedEngine, mood: Mood, seed: int, length: float) -> Clip:
    """Make a clip of ``length`` seconds and look at it. An infinite one is no sound, and so counts as blank, too."""
    begun = time.perf_counter()
    engine.not_finite = 0
    try:
        pcm = render(Player(engine), Order(Controls(mood), length, 1, seed, Path()), 0, lambda _: None)
    except GenerationError:
        return Clip(mood, seed, FLOOR_LUFS, FLOOR_LUFS, 0.0, 0, 1, True, time.perf_counter() - begun)
    return examine(pcm, mood, seed, engine.not_finite, time.perf_counter() - begun)


def examine(pcm: Pcm, mood: Mood, seed: int, not_finite: int, seconds: float) -> Clip:
    """What there is to say of one clip's samples, [time, 2]."""
    sound = (pcm / np.float32(32_768)).astype(np.float32)
    rms, moves = level(sound), movement(sound)
    clipped = int((np.abs(pcm.astype(np.int32)) >= FULL_SCALE).sum())
    return Clip(mood, seed, rms, lufs(sound), moves, clipped, not_finite, is_blank(rms, moves), seconds)


def main(arguments: list[str] | None = None) -> None:
    """Make the clips, look at each, show what was found."""
    options = _parse(arguments)
    engine = WatchedEngine(load_checkpoint(options.model))
    log = Log(options.log, digest(options.model), options.seconds)
    done = {clip.seed for clip in log.clips}
    ordered = range(options.seed, options.seed + options.clips)
    for seed in tqdm([seed for seed in ordered if seed not in done], desc="clips", unit="clip"):
        log.add(make(engine, MOODS[seed % len(MOODS)], seed, options.seconds))
    clips = [clip for clip in log.clips if clip.seed in ordered]
    seconds = sum(clip.seconds for clip in clips)
    by_mood: defaultdict[Mood, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_mood[clip.mood].append(clip)
    counts = {
        "clips": options.clips,
        "blank": sum(clip.blank for clip in clips),
        "not_finite": sum(clip.not_finite > 0 for clip in clips),
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
    made.add_argument(
        "--clips", type=int, default=256, help="how many, the moods by turns, each with a seed of its own"
    )
    made.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    made.add_argument("--log", type=Path, metavar="FILE", help="keep each clip's figures there, and go on from them")
    return made.parse_args(arguments)


if __name__ == "__main__":
    main()
