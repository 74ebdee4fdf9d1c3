"""The clips benchmark counts what it should, and goes on where it was stopped."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import clips
from generator.checkpoint import save_checkpoint
from generator.moods import MOODS, Mood
from generator.protocol import SAMPLE_RATE
from generator.sample import Pcm
from tests.generator.tiny import tiny_checkpoint

LENGTH = 1.0


def music() -> Pcm:
    time = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    sound = 6_000 * np.sin(2 * np.pi * 220 * 2 ** np.floor(time) * time) * (0.2 + np.abs(np.sin(2 * time)))
    return np.stack([sound, sound], axis=1).astype(np.int16)


@pytest.mark.parametrize(("gain", "blank", "clipped"), [(1.0, False, False), (1e-3, True, False), (20.0, False, True)])
def test_a_clip_is_called_what_it_is(gain: float, blank: bool, clipped: bool) -> None:
    pcm = np.clip(gain * music().astype(np.float64), -32_768, 32_767).astype(np.int16)
    clip = clips.examine(pcm, MOODS[0], 0, 0, 1.0)
    assert (clip.blank, clip.clipped_samples > 0) == (blank, clipped)


def test_a_second_call_goes_on_from_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, log, out = tmp_path / "tiny.safetensors", tmp_path / "log.jsonl", tmp_path / "out.json"
    save_checkpoint(model, tiny_checkpoint())
    made: list[int] = []
    make = clips.make

    def watched(engine: clips.WatchedEngine, mood: Mood, seed: int, length: float) -> clips.Clip:
        made.append(seed)
        return make(engine, mood, seed, length)

    monkeypatch.setattr(clips, "make", watched)

    def call(count: int) -> dict[str, int]:
        clips.main(
            [
                "--model",
                str(model),
                "--clips",
                str(count),
                "--seconds",
                str(LENGTH),
                "--log",
                str(log),
                "--out",
                str(out),
            ]
        )
        counts: dict[str, int] = json.loads(out.read_text())["figures"]["counts"]
        return counts

    assert call(3)["clips"] == 3
    with log.open("a") as file:
        file.write('{"of": {"mod')  # a kill in the middle of a line
    assert call(5)["clips"] == 5
    assert len(log.read_text().splitlines()) == 5
    assert made == [0, 1, 2, 3, 4]
    save_checkpoint(model, tiny_checkpoint(seed=1))  # another model: its clips are others
    assert call(2)["clips"] == 2
    assert made == [0, 1, 2, 3, 4, 0, 1]
