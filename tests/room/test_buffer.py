"""The page's jitter buffer and hold, beside the bot's: the same decisions, and no click."""

import random
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from bot.jitter_buffer import RESUME_FRAMES, JitterBuffer
from generator.protocol import FRAME_BYTES, FRAME_SAMPLES, SAMPLE_RATE

RUN = """async steps => {
  const { JitterBuffer } = await import('/room/jitter-buffer.js');
  const buffer = new JitterBuffer();
  const decided = [];
  const sound = [];
  for (const [what, place, values] of steps) {
    if (what === 'stream') buffer.beginStream(place);
    else if (what === 'put') buffer.put(place, Int16Array.from(values ?? new Array(1920).fill(0)));
    else {
      const frame = buffer.next();
      decided.push([buffer.playhead, buffer.holding, buffer.held]);
      if (place) for (let at = 0; at < frame.length; at += 2) sound.push(frame[at]);
    }
  }
  return { decided, sound };
}"""


def script(rng: random.Random) -> list[list[Any]]:
    """A generator's life: windows, changes that replace, outages, other streams, frames that come too late."""
    steps: list[list[Any]] = [["stream", 0]]
    place = playhead = 0
    for _ in range(60):
        kind = rng.choice(("window", "window", "change", "outage", "late", "stream"))
        if kind == "change":
            place = max(0, min(place, playhead + rng.randrange(30)))
        elif kind == "late":
            place = max(0, playhead - rng.randrange(5))
        elif kind == "stream":
            place = max(place, playhead)
            steps.append(["stream", place])
        if kind != "outage":
            length = rng.randrange(10, 80)
            steps += [["put", index] for index in range(place, place + length)]
            place += length
        due = rng.randrange(60)
        steps += [["next", 0]] * due
        playhead += due
    return steps


def decided_by_the_bots(steps: list[list[Any]]) -> tuple[list[list[Any]], JitterBuffer]:
    buffer = JitterBuffer()
    decided = []
    for what, place in steps:
        if what == "stream":
            buffer.begin_stream()
        elif what == "put":
            buffer.put(place, bytes(FRAME_BYTES))
        else:
            buffer.next()
            decided.append([buffer.playhead, buffer.holding, buffer.counts.held])
    return decided, buffer


@pytest.mark.parametrize("seed", range(8))
def test_it_decides_as_the_bots_does(modules: Page, seed: int) -> None:
    steps = script(random.Random(seed))  # noqa: S311 - what happens when
    decided, buffer = decided_by_the_bots(steps)
    assert modules.evaluate(RUN, steps)["decided"] == decided
    assert buffer.counts.held > 0


@pytest.mark.parametrize("came", [5, 15, *range(24, 37), 60])
def test_an_outage_may_come_as_soon_as_it_likes(modules: Page, came: int) -> None:
    """When little was heard there is little to extend."""
    steps: list[list[Any]] = [["stream", 0], *(["put", place] for place in range(came)), *([["next", 0]] * 200)]
    steps += [["put", place] for place in range(came, came + 50)]
    steps += [["next", 0]] * 40
    decided, buffer = decided_by_the_bots(steps)
    assert modules.evaluate(RUN, steps)["decided"] == decided
    assert buffer.playhead == (came if came >= RESUME_FRAMES else 0) + 40


def test_an_outage_is_neither_a_click_nor_a_hole(modules: Page) -> None:
    hertz, level = 200, 8_000

    def frame(place: int) -> list[int]:
        time = (np.arange(FRAME_SAMPLES) + place * FRAME_SAMPLES) / SAMPLE_RATE
        mono = np.rint(level * np.sin(2 * np.pi * hertz * time)).astype(int)
        return [int(value) for value in np.repeat(mono, 2)]

    steps: list[list[Any]] = [["stream", 0], *([["put", place, frame(place)] for place in range(250)])]
    steps += [["next", 1]] * 400  # three seconds of them made up
    steps += [["put", place, frame(place)] for place in range(250, 350)]
    steps += [["next", 1]] * 60
    sound = np.array(modules.evaluate(RUN, steps)["sound"])[SAMPLE_RATE:]
    step = 2 * np.pi * hertz / SAMPLE_RATE * level / 32_768
    assert np.abs(np.diff(sound)).max() < 2 * step
    loudness = np.sqrt((sound.reshape(-1, FRAME_SAMPLES) ** 2).mean(axis=1))
    usual = np.median(loudness)  # where the music comes back the two may be in step, or out of it
    assert 0.5 * usual < loudness.min() <= loudness.max() < 1.5 * usual
    held = loudness[201:350]  # after the 20 ms in which the end is heard backwards
    assert np.abs(held / usual - 1).max() < 0.1  # while it holds nothing swells or sinks
