"""Where excerpts come from: a model, a folder of sound, prepared recordings, and failures planted on purpose."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from generator.engine import Engine, GenerationError
from generator.moods import MOODS, Mood
from generator.protocol import CHANNELS, FRAME_SAMPLES, MAX_SEED, Controls
from generator.stream import Chunk, Stream
from training.data import TARGET_RMS
from training.decode import Decoder
from training.errors import DecodeError, EvaluationError
from training.evaluation.excerpts import EXCERPT_SECONDS, Excerpt, Sound
from training.manifest import CLIP_SAMPLES, CLIP_SECONDS, SAMPLE_RATE, Manifest, Split, Track
from training.source import SUFFIXES

EXCERPT_CLIPS: Final = EXCERPT_SECONDS // CLIP_SECONDS
EXCERPT_SAMPLES: Final = EXCERPT_SECONDS * SAMPLE_RATE
PLANTED_SAMPLES: Final = 2 * CLIP_SAMPLES  #: of noise and of silence one stretch is like another


@dataclass(frozen=True)
class LongStream:
    """A stream of many windows.

    Attributes:
        sound: float32 [samples], mono.
        splices: [windows − 1], samples at which a window takes over from the last.
    """

    sound: Sound
    splices: tuple[int, ...]


def generated(engine: Engine, moods: list[Mood], each: int, seed: int) -> Iterator[Excerpt]:
    """Streams of 40 s, ``each`` for every mood, each with a seed of its own, moods by turns.

    Where the model makes what is not finite the excerpt is all NaN, so that nobody can overlook it.
    """
    for number in range(each):
        for mood in moods:
            own = int(np.random.SeedSequence((seed, number, MOODS.index(mood))).generate_state(1)[0])
            sound = np.full(EXCERPT_SAMPLES, np.nan, np.float32)
            try:
                frames = _listen(Stream(engine, own % (MAX_SEED + 1), Controls(mood)), EXCERPT_SAMPLES)
                sound = frames.sound[:EXCERPT_SAMPLES]
            except GenerationError:
                pass
            yield Excerpt(sound, mood, f"{mood} {number + 1}")


def long_stream(engine: Engine, mood: Mood, minutes: float, seed: int) -> LongStream:
    """One stream in one mood.

    Raises:
        GenerationError: the model made what is not finite.
    """
    return _listen(Stream(engine, seed, Controls(mood)), round(minutes * 60 * SAMPLE_RATE))


def _listen(stream: Stream, samples: int) -> LongStream:
    sounds: list[Sound] = []
    splices: list[int] = []
    length = 0
    while length < samples:
        chunk = stream.advance()
        splices.append(chunk.start * FRAME_SAMPLES)
        sounds.append(_mono(chunk))
        length += len(sounds[-1])
    return LongStream(np.concatenate(sounds), tuple(splices[1:]))


def _mono(chunk: Chunk) -> Sound:
    pcm = np.frombuffer(b"".join(chunk.frames), "<i2").reshape(-1, CHANNELS)
    mono: Sound = (pcm.mean(axis=1) / 32_768).astype(np.float32)
    return mono


def recorded(manifest: Manifest, split: Split, most: int) -> Iterator[Excerpt]:
    """Excerpts of recordings, at the level that a model learns them at; at most ``most`` a track, spread over it."""
    for track in manifest.of(split):
        shard = manifest.shard(track)
        starts = range(0, max(1, track.clips - EXCERPT_CLIPS + 1), EXCERPT_CLIPS)
        chosen = np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(int))
        for number in chosen.tolist():
            clips = shard[starts[number] : starts[number] + EXCERPT_CLIPS].astype(np.float32)
            sound = clips.reshape(-1) / 32_768 * (TARGET_RMS / max(track.rms, 1e-4))
            yield Excerpt(sound.astype(np.float32), _mood(track), track.source, starts[number] * CLIP_SECONDS)


def excerpts_of(manifest: Manifest, split: Split, most: int) -> int:
    """How many :func:`recorded` yields."""
    return sum(min(most, max(1, track.clips // EXCERPT_CLIPS)) for track in manifest.of(split))


def _mood(track: Track) -> Mood | None:
    return track.mood if track.labelled else None


def files_in(folder: Path) -> list[Path]:
    """The sound files under a folder, in order.

    Raises:
        EvaluationError: there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise EvaluationError(f"{folder} holds no sound: put {', '.join(sorted(SUFFIXES))} into it, by mood if known")
    return found


def from_files(folder: Path, files: list[Path], too_short: Callable[[str], None]) -> Iterator[Excerpt]:
    """Every file cut into excerpts of at most 40 s; a rest below 10 s is left out.

    Its mood is named by the folder that it lies in, or by how its name begins, as ``fight-7-0.wav``.

    Args:
        folder: by which the excerpts are named.
        files: in it.
        too_short: called with the name of each file of less than 10 s.

    Raises:
        EvaluationError: a file can't be decoded.
    """
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            yield from _excerpts(path, name, too_short)
        except DecodeError as error:
            raise EvaluationError(f"{name}: {error}; mend it or take it out of the folder") from error


def _excerpts(path: Path, name: str, too_short: Callable[[str], None]) -> Iterator[Excerpt]:
    mood = next((mood for mood in MOODS if path.parent.name == mood or path.stem.split("-")[0] == mood), None)
    with Decoder(path) as pieces:
        rest, start = b"", 0
        for piece in pieces:
            rest += piece
            while len(rest) >= 2 * EXCERPT_SAMPLES:
                yield Excerpt(_sound(rest[: 2 * EXCERPT_SAMPLES]), mood, name, start / SAMPLE_RATE)
                rest, start = rest[2 * EXCERPT_SAMPLES :], start + EXCERPT_SAMPLES
    if len(rest) >= 2 * CLIP_SAMPLES:
        yield Excerpt(_sound(rest), mood, name, start / SAMPLE_RATE)
    elif start == 0:
        too_short(name)


def _sound(pcm: bytes) -> Sound:
    return (np.frombuffer(pcm, "<i2") / 32_768).astype(np.float32)


def noise(count: int, seed: int) -> Iterator[Excerpt]:
    """White noise at the recordings' level, moods by turns: what an untrained sampler makes."""
    random = np.random.default_rng(seed)
    for number in range(count):
        sound = (TARGET_RMS * random.standard_normal(PLANTED_SAMPLES)).astype(np.float32)
        yield Excerpt(sound, MOODS[number % len(MOODS)], f"noise {number + 1}")


def silence(count: int) -> Iterator[Excerpt]:
    """Nothing at all: what the paper's blank spectrograms sound like."""
    for number in range(count):
        yield Excerpt(np.zeros(PLANTED_SAMPLES, np.float32), MOODS[number % len(MOODS)], f"silence {number + 1}")
