/**
 * The audio thread: plays what the jitter buffer gives, and tells the page what was heard.
 *
 * Told: {frame: {index, pcm}}, {stream: start}, {play: boolean}.
 * Tells: {heard: Int16Array, place, started, held, ready} a frame, and {silent: true} once a pause has faded out.
 */

import { JitterBuffer } from "./jitter-buffer.js";
import { FRAME_SAMPLES, FRAME_VALUES } from "./protocol.js";

const FADE_STEP = 1 / 4_800; // a pause fades over 0.1 s: a cut would click

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new JitterBuffer();
    this.frame = null;
    this.offset = FRAME_SAMPLES;
    this.gain = 0;
    this.playing = false;
    this.port.onmessage = ({ data }) => this.obey(data);
  }

  obey(data) {
    if (data.frame !== undefined) this.buffer.put(data.frame.index, data.frame.pcm);
    if (data.stream !== undefined) this.buffer.beginStream(data.stream);
    if (data.play !== undefined) this.playing = data.play;
  }

  process(_, [[left, right]]) {
    for (let at = 0; at < left.length; at++) {
      const quiet = this.gain === 0;
      this.gain = Math.min(1, Math.max(0, this.gain + (this.playing ? FADE_STEP : -FADE_STEP)));
      if (this.gain === 0) {
        if (!quiet) this.port.postMessage({ silent: true });
        left[at] = right[at] = 0;
        continue;
      }
      if (this.offset === FRAME_SAMPLES) this.begin();
      left[at] = this.gain * this.frame[2 * this.offset];
      right[at] = this.gain * this.frame[2 * this.offset + 1];
      this.offset++;
    }
    return true;
  }

  /** Has the next frame ready, and tells of it. */
  begin() {
    const { buffer } = this;
    const played = buffer.played;
    this.frame = buffer.next();
    this.offset = 0;
    const heard = new Int16Array(FRAME_VALUES);
    for (let at = 0; at < FRAME_VALUES; at++) {
      heard[at] = Math.max(-32768, Math.min(32767, Math.round(32768 * this.frame[at])));
    }
    const taken = buffer.played > played;
    this.port.postMessage(
      {
        heard,
        place: buffer.playhead - (taken ? 1 : 0),
        started: buffer.started,
        held: !taken && buffer.started,
        ready: buffer.ready,
      },
      [heard.buffer],
    );
  }
}

registerProcessor("bardcast-player", Player);
