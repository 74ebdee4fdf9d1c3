/**
 * Frames by their place in the stream; always has one to give. As bot/jitter_buffer.py, which says why.
 *
 * Pure logic, without clock, thread or network. The playhead counts frames of the stream: while nothing new is there,
 * the buffer holds (it extends what was heard) and the playhead waits.
 */

import { Extension, FADE_SAMPLES, HISTORY_SECONDS, STRIDE, Search, equalPower } from "./hold.js";
import { AHEAD_FRAMES, CHANNELS, FRAMES_PER_SECOND, FRAME_SAMPLES, FRAME_VALUES } from "./protocol.js";

const FADE_FRAMES = FADE_SAMPLES / FRAME_SAMPLES;
const RESUME_FRAMES = FADE_FRAMES; // so much must be there before it is played: a fade is not begun to be broken off
const FURTHEST_FRAMES = 3 * AHEAD_FRAMES; // no honest server is further ahead
const HISTORY_FRAMES = HISTORY_SECONDS * FRAMES_PER_SECOND;
const LOW_FRAMES = FRAMES_PER_SECOND; // with so little left, a way to hold is looked for
const COARSE_VALUES = FRAME_SAMPLES / STRIDE; // of a frame
const [OUT, INTO] = equalPower(FADE_SAMPLES);

/** @typedef {{strand: number, pcm: Int16Array}} Kept */

export class JitterBuffer {
  constructor() {
    this.playhead = 0;
    this.played = 0; // frames of the generator's that were handed out
    this.held = 0; // frames that had to be made from what was heard
    /** @type {Map<number, Kept>} */
    this.frames = new Map();
    this.newest = -1;
    this.strand = 0; // frames of one strand continue one another; where it changes there is a seam to be faded
    this.strandHeard = 0;
    this.otherStream = false;
    this.lastLate = -2;
    /** @type {Float32Array[]} the last frames that were heard, oldest first */
    this.heard = [];
    /** @type {Extension | null} */
    this.extension = null;
    this.faded = -1; // frames of the fade from the extension that are done; −1: only the extension is heard
    /** @type {{end: number, search: Search, extension: Extension | null} | null} */
    this.plan = null; // how to go on from a place where the frames may end
    this.scratch = new Float32Array(FRAME_VALUES);
  }

  /** Whether music was ever handed out. */
  get started() {
    return this.played > 0;
  }

  /** Whether what is heard now is nothing but an extension of what was heard before. */
  get holding() {
    return this.started && this.extension !== null && this.faded < 0;
  }

  /** How many frames lie ready without a gap. */
  get ready() {
    let place = this.playhead;
    while (this.frames.has(place)) place++;
    return place - this.playhead;
  }

  /**
   * The frames that come from now on belong to another stream, and its first does not continue the old.
   *
   * @param {number} start place of its first frame, where nothing was played yet
   */
  beginStream(start) {
    this.strand++;
    this.otherStream = true;
    if (!this.started) this.playhead = start;
  }

  /**
   * Takes a frame in; one whose place is taken replaces what is there and all that comes after.
   *
   * @param {number} index
   * @param {Int16Array} pcm interleaved stereo
   */
  put(index, pcm) {
    if (index < this.playhead) {
      this.lastLate = index;
      return;
    }
    if (index > this.playhead + FURTHEST_FRAMES) return;
    // A change whose beginning came too late, and with it the server's own cross-fade.
    if (index === this.lastLate + 1) this.strand++;
    if (this.frames.has(index) || this.otherStream) this.forgetFrom(index);
    this.otherStream = false;
    this.frames.set(index, { strand: this.strand, pcm });
    this.newest = Math.max(this.newest, index);
  }

  /**
   * The frame that is due now. Silence until the first music has come, and never again after that.
   *
   * @returns {Float32Array} interleaved stereo, full scale ±1
   */
  next() {
    const frame = new Float32Array(FRAME_VALUES);
    if (!this.started && this.extension === null) {
      if (this.resumePlace() === null) return frame;
      this.beginExtension();
    }
    const due = this.frames.get(this.playhead);
    if ((this.extension === null || this.faded >= 0) && due?.strand !== this.strandHeard) {
      this.beginExtension();
      this.faded = -1;
    }
    if (this.extension !== null && this.faded < 0) {
      const place = this.resumePlace();
      if (place !== null) {
        this.skipTo(place);
        this.faded = 0;
      }
    }
    this.fill(frame);
    this.heard.push(frame);
    if (this.heard.length > HISTORY_FRAMES) this.heard.shift();
    this.lookAhead();
    return frame;
  }

  fill(frame) {
    if (this.extension === null) {
      this.take(frame);
      return;
    }
    if (this.faded < 0) {
      this.extension.take(frame);
      this.held++;
      return;
    }
    const old = this.scratch;
    this.extension.take(old);
    this.take(frame);
    const first = this.faded * FRAME_SAMPLES;
    for (let at = 0; at < FRAME_VALUES; at++) {
      const step = first + (at >> 1);
      frame[at] = OUT[step] * old[at] + INTO[step] * frame[at];
    }
    this.faded++;
    if (this.faded === FADE_FRAMES) {
      this.extension = null;
      this.faded = -1;
    }
  }

  take(frame) {
    const { strand, pcm } = this.frames.get(this.playhead);
    this.frames.delete(this.playhead);
    this.strandHeard = strand;
    toFloat(pcm, frame);
    this.playhead++;
    this.played++;
  }

  /** Where the frames that continue what is heard end. */
  strandEnd() {
    let place = this.playhead;
    while (this.frames.get(place)?.strand === this.strandHeard) place++;
    return place;
  }

  /** With little left, looks for a way to hold, a step a frame. */
  lookAhead() {
    if (this.extension !== null || !this.started) return;
    if (this.frames.get(this.playhead + LOW_FRAMES)?.strand === this.strandHeard) {
      this.plan = null;
      return;
    }
    const end = this.strandEnd();
    if (this.plan?.end !== end) this.plan = { end, search: new Search(this.coarse(end)), extension: null };
    const { plan } = this;
    if (!plan.search.done) plan.search.step();
    else plan.extension ??= new Extension(this.past(end), plan.search.lag);
  }

  beginExtension() {
    const { plan } = this;
    this.plan = null;
    if (plan?.end === this.playhead) {
      this.extension = plan.extension ?? new Extension(this.past(plan.end), plan.search.lag);
    } else {
      const past = this.past(this.playhead);
      this.extension = new Extension(past, past.length / CHANNELS);
    }
  }

  /** The frames up to a place: heard, and still to be. */
  *upTo(end) {
    const ahead = end - this.playhead;
    yield* this.heard.slice(Math.max(0, this.heard.length + ahead - HISTORY_FRAMES));
    for (let place = this.playhead; place < end; place++) {
      yield toFloat(this.frames.get(place).pcm, new Float32Array(FRAME_VALUES));
    }
  }

  past(end) {
    const frames = [...this.upTo(end)];
    const all = new Float32Array(frames.length * FRAME_VALUES);
    frames.forEach((frame, number) => all.set(frame, number * FRAME_VALUES));
    return all;
  }

  coarse(end) {
    const frames = [...this.upTo(end)];
    const all = new Float32Array(frames.length * COARSE_VALUES);
    frames.forEach((frame, number) => {
      for (let value = 0; value < COARSE_VALUES; value++) {
        let sum = 0;
        for (let at = 0; at < CHANNELS * STRIDE; at++) sum += frame[value * CHANNELS * STRIDE + at];
        all[number * COARSE_VALUES + value] = sum;
      }
    });
    return all;
  }

  /** The first place, the playhead or past a gap, from which a whole fade's frames lie ready. */
  resumePlace() {
    for (let place = this.playhead, run = 0; place <= this.newest; place++) {
      run = this.frames.has(place) ? run + 1 : 0;
      if (run === RESUME_FRAMES) return place - RESUME_FRAMES + 1;
    }
    return null;
  }

  skipTo(place) {
    for (let skipped = this.playhead; skipped < place; skipped++) this.frames.delete(skipped);
    this.playhead = place;
  }

  forgetFrom(index) {
    for (let place = index; place <= this.newest; place++) this.frames.delete(place);
    this.newest = index;
  }
}

/** Sixteen bits to full scale ±1. */
function toFloat(pcm, frame) {
  for (let at = 0; at < FRAME_VALUES; at++) frame[at] = pcm[at] / 32768;
  return frame;
}
