"""Parts of the page by themselves: what takes a minute at a table takes none here."""

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

LINE = """async steps => {
  const { Line } = await import('/room/line.js');
  const opened = [];
  window.WebSocket = class {
    static CONNECTING = 0;
    static OPEN = 1;
    constructor() { this.readyState = 1; this.sent = []; opened.push(this); }
    send(text) { this.sent.push(JSON.parse(text)); }
    close() {}
  };
  let time = 0;
  performance.now = () => 1000 * time;
  const controls = { mood: 'sad', intensity: 3, blend: null };
  const told = [];
  const listener = { begins: () => ({ start: 0, origin: null, home: null }), frame() {}, event() {}, connected() {},
    away: sentence => told.push(sentence) };
  window.fetch = async () => ({ ok: true, json: async () => [] });
  const line = new Line(() => '', listener, { controls, seed: 1, beside: false, take: 0 });
  line.open();
  opened[0].onopen();
  const frame = index => {
    const message = new ArrayBuffer(8 + 3840);
    new DataView(message).setUint32(0, index, true);
    opened.at(-1).onmessage({ data: message });
  };
  for (const [what, value] of steps) {
    if (what === 'frames') for (let at = value[0]; at < value[1]; at++) frame(at);
    else if (what === 'wait') time += value;
    else if (what === 'heard') line.advance(value);
    else if (what === 'nudge') line.nudge();
    else if (what === 'take') line.ask({ take: value }, 'sudden');
    else if (what === 'close') opened.at(-1).onclose();
  }
  await new Promise(done => setTimeout(done, 20));
  return { opened: opened.length, waiting: line.retryAt !== null, told };
}"""


def line(modules: Page, *steps: tuple[str, Any]) -> dict[str, Any]:
    """What becomes of a line to a service that does nothing but what the steps say."""
    modules.reload()
    found: dict[str, Any] = modules.evaluate(LINE, [list(step) for step in steps])
    return found


FULL = ("frames", [0, 400])  # all that the server may send ahead


@pytest.mark.parametrize("resumed", [("nudge", None), ("heard", 6)], ids=["by a press", "by the browser"])
def test_a_long_pause_is_no_silence_of_the_services(modules: Page, resumed: tuple[str, Any]) -> None:
    after = [("heard", 15), ("wait", 0.06), ("heard", 18)]
    found = line(modules, FULL, ("heard", 5), ("wait", 60.0), resumed, *after)
    assert (found["opened"], found["waiting"]) == (1, False)


def test_a_service_that_owes_frames_and_says_nothing_is_given_up(modules: Page) -> None:
    steps = [FULL, ("heard", 100), ("wait", 9.0), ("heard", 101)]
    assert not line(modules, *steps)["waiting"]
    found = line(modules, *steps, ("wait", 2.0), ("heard", 102))
    assert found["waiting"]
    assert "silent" in found["told"][0]


def test_where_the_network_is_doubted_two_seconds_are_enough_and_a_moment_is_not(modules: Page) -> None:
    steps = [FULL, ("heard", 100), ("wait", 5.0), ("nudge", None), ("heard", 101)]
    assert not line(modules, *steps)["waiting"]  # what came meanwhile may still have to be read
    assert line(modules, *steps, ("wait", 2.5), ("heard", 102))["waiting"]
    assert not line(modules, *steps, ("frames", [400, 401]), ("wait", 2.5), ("heard", 102))["waiting"]


def test_another_take_is_another_stream_be_it_of_the_same_model(modules: Page) -> None:
    assert line(modules, FULL, ("take", 1))["opened"] == 2
    assert line(modules, FULL, ("take", 0))["opened"] == 1


def test_who_is_never_let_in_is_told_of_proxies(modules: Page) -> None:
    modules.reload()
    told = modules.evaluate(LINE.replace("opened[0].onopen();", ""), [["close", None]])["told"]
    assert "--origin" in told[0]
    assert "--origin" not in line(modules, FULL, ("close", None))["told"][0]


@pytest.mark.parametrize("hertz", [110.0, 440.0, 2_500.0])
def test_a_tone_stands_where_its_pitch_is(modules: Page, hertz: float) -> None:
    modules.reload()
    column = modules.evaluate(
        """async hertz => {
          const { Mel } = await import('/room/mel.js');
          const mel = new Mel();
          let column;
          for (let frame = 0; frame < 4; frame++) {
            const sound = new Int16Array(1920);
            for (let at = 0; at < 960; at++) {
              const value = 9000 * Math.sin((2 * Math.PI * hertz * (960 * frame + at)) / 48000);
              sound[2 * at] = sound[2 * at + 1] = value;
            }
            column = mel.hear(sound);
          }
          return [...column];
        }""",
        hertz,
    )
    low, high = (2595 * np.log10(1 + edge / 700) for edge in (50, 14_000))
    expected = (2595 * np.log10(1 + hertz / 700) - low) / (high - low) * (len(column) + 1) - 1
    assert abs(int(np.argmax(column)) - expected) < 1.5
    assert np.mean(np.array(column) > 60) < 0.25  # a line, and no cloud


def test_a_screen_is_held_once_and_let_go(modules: Page) -> None:
    modules.reload()
    held = modules.evaluate(
        """async () => {
          const { Wakefulness } = await import('/room/awake.js');
          const locks = [];
          const request = async () => {
            await new Promise(done => setTimeout(done, 10));
            const lock = { released: false, release() { this.released = true; } };
            locks.push(lock);
            return lock;
          };
          Object.defineProperty(navigator, 'wakeLock', { value: { request } });
          const wakefulness = new Wakefulness();
          const held = () => locks.filter(({ released }) => !released).length;
          const found = [];
          const settled = () => new Promise(done => setTimeout(done, 40));
          wakefulness.want(true); wakefulness.want(true); await settled(); found.push(held());
          wakefulness.want(false); await settled(); found.push(held());
          wakefulness.want(true); wakefulness.want(false); await settled(); found.push(held());
          return found;
        }"""
    )
    assert held == [1, 0, 0]


def test_what_is_kept_is_the_last_two_minutes(modules: Page) -> None:
    modules.reload()
    size, first, last = modules.evaluate(
        """async () => {
          const { Keep } = await import('/room/keep.js');
          const keep = new Keep();
          for (let at = 0; at < 6007; at++) keep.hear(new Int16Array(1920).fill(at));
          const bytes = new DataView(await keep.file().arrayBuffer());
          return [bytes.byteLength, bytes.getInt16(44, true), bytes.getInt16(bytes.byteLength - 2, true)];
        }"""
    )
    assert (size, first, last) == (44 + 6_000 * 3_840, 7, 6_006)


def test_bars_of_another_stream_are_forgotten_and_what_goes_on_is_no_change(modules: Page) -> None:
    modules.reload()
    found = modules.evaluate(
        """async () => {
          const { Score } = await import('/room/score.js');
          const score = new Score();
          const bar = frame => ({ type: 'bar', frame, bridge: false });
          const landing = (frame, mood) => ({ type: 'lands', frame, mood, intensity: 3, blend: null });
          score.add(landing(0, 'sad'));
          for (const frame of [0, 100, 200, 300]) score.add(bar(frame));
          score.begin(150);
          score.add(landing(150, 'sad'));
          const gone = [score.barAt(120).frame, score.barAt(160), score.plainBarAt(250), score.nextAfter(120)];
          score.add(bar(150));
          score.add(landing(400, 'fight'));
          return [...gone, score.barAt(160).frame, score.nextAfter(120).mood];
        }"""
    )
    assert found == [100, None, None, None, 150, "fight"]
