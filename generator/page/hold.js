/**
 * Going on when nothing new comes: an endless, seamless continuation of what was last heard.
 *
 * As bot/hold.py does it, but on the audio thread, where nothing may take long: the search for a place to loop to begins
 * a second before it may be needed, and takes a small step a frame.
 */

import { CHANNELS, FRAME_SAMPLES, SAMPLE_RATE } from "./protocol.js";

export const HISTORY_SECONDS = 8;
export const FADE_SAMPLES = SAMPLE_RATE / 2; // where the loop closes
export const STRIDE = 32; // the search runs at 1.5 kHz, enough for beat and chord
const ENTRY_SAMPLES = SAMPLE_RATE / 50; // backwards is heard for no longer than this
const MIN_LOOP_SAMPLES = 2 * SAMPLE_RATE;
const MATCH_SAMPLES = 1.2 * SAMPLE_RATE; // two beats of slow music
const FINE_SAMPLES = SAMPLE_RATE / 4; // by which the phase is settled at the full rate
const LAGS_A_STEP = 250;

/**
 * Gains out of one sound and into another under which the power stays even, from exactly 1 and 0 to 0 and 1.
 *
 * @param {number} samples
 * @returns {[Float32Array, Float32Array]}
 */
export function equalPower(samples) {
  const out = new Float32Array(samples);
  const into = new Float32Array(samples);
  for (let at = 0; at < samples; at++) {
    const angle = (Math.PI / 2) * (samples > 1 ? at / (samples - 1) : 1);
    out[at] = Math.cos(angle);
    into[at] = Math.sin(angle);
  }
  return [out, into];
}

const FADE = equalPower(FADE_SAMPLES);
const ENTRY = equalPower(ENTRY_SAMPLES);

/** How far back lies what the end of a sound is most like? Asked in small steps. */
export class Search {
  /** @param {Float32Array} coarse the sound in mono, a value for every STRIDE samples; its end is what is sought */
  constructor(coarse) {
    this.coarse = coarse;
    this.match = Math.min(MATCH_SAMPLES / STRIDE, coarse.length >> 3);
    this.longest = coarse.length - Math.max(FADE_SAMPLES / STRIDE, this.match);
    this.shortest = Math.min(MIN_LOOP_SAMPLES / STRIDE, this.longest >> 1);
    this.next = this.longest; // from the longest loop down: where time is short, those count
    this.scores = new Float32Array(Math.max(1, this.longest + 1));
  }

  get done() {
    return this.match < 4 || this.next < this.shortest;
  }

  /** Looks at some lags more. */
  step() {
    const { coarse, match } = this;
    const end = coarse.length - match;
    for (let count = 0; count < LAGS_A_STEP && !this.done; count++, this.next--) {
      const begin = end - this.next;
      let product = 0;
      let energy = 1e-9;
      for (let at = 0; at < match; at++) {
        const value = coarse[begin + at];
        product += value * coarse[end + at];
        energy += value * value;
      }
      this.scores[this.next] = product / Math.sqrt(energy);
    }
  }

  /** The longest of the nearly best lags among those that were looked at, in samples. */
  get lag() {
    const looked = Math.max(this.shortest, this.next + 1);
    let best = 0;
    for (let lag = looked; lag <= this.longest; lag++) best = Math.max(best, this.scores[lag]);
    let lag = this.longest;
    while (lag > looked && (best <= 0 || this.scores[lag] < 0.95 * best)) lag--;
    return (best > 0 ? lag : this.longest) * STRIDE;
  }
}

/** What was heard, going on for ever. */
export class Extension {
  /**
   * Begins right after the last sample of `past`.
   *
   * @param {Float32Array} past interleaved stereo
   * @param {number} lag how many samples back the loop begins, as near as a search knows
   */
  constructor(past, lag) {
    const length = past.length / CHANNELS;
    const fade = Math.min(FADE_SAMPLES, length >> 2);
    this.position = 0;
    if (fade < STRIDE) {
      this.loop = new Float32Array(CHANNELS * FRAME_SAMPLES);
      return;
    }
    // Longer than its fade, and so that there is something before it to fade from.
    const exact = settle(past, Math.max(fade + STRIDE, Math.min(lag, length - fade - STRIDE)));
    this.loop = past.slice(CHANNELS * (length - exact));
    // The loop's end turns into what led up to its beginning.
    const [out, into] = fade === FADE_SAMPLES ? FADE : equalPower(fade);
    mix(this.loop, exact - fade, past, length - exact - fade, 1, out, into);
    // Nothing comes after the end to be faded from, but the end played backwards begins at the very same value.
    const entry = Math.min(ENTRY_SAMPLES, exact - fade);
    this.entry = this.loop.slice(0, CHANNELS * entry);
    const [leave, enter] = entry === ENTRY_SAMPLES ? ENTRY : equalPower(entry);
    mix(this.entry, 0, past, length - 1, -1, enter, leave);
  }

  /**
   * The next frame of it.
   *
   * @param {Float32Array} into interleaved stereo
   */
  take(into) {
    const fresh = this.entry === undefined ? 0 : this.entry.length;
    for (let at = 0; at < into.length; at++, this.position++) {
      into[at] = this.position < fresh ? this.entry[this.position] : this.loop[this.position % this.loop.length];
    }
  }
}

/**
 * `target`, from a sample on, mixed with `source`, from a sample on in steps of ±1, by the gains given. Alike sounds add
 * in amplitude, not in power, and would swell by up to 3 dB in the middle: they are held back by their correlation.
 */
function mix(target, begin, source, from, step, keep, take) {
  let product = 0;
  let mine = 1e-9;
  let its = 1e-9;
  for (let at = 0; at < keep.length; at++) {
    const one = target[CHANNELS * (begin + at)];
    const other = source[CHANNELS * (from + step * at)];
    product += one * other;
    mine += one * one;
    its += other * other;
  }
  const correlation = Math.max(0, product / Math.sqrt(mine * its));
  for (let at = 0; at < keep.length; at++) {
    const swell = Math.sqrt(1 + 2 * correlation * keep[at] * take[at]);
    for (let channel = 0; channel < CHANNELS; channel++) {
      const place = CHANNELS * (begin + at) + channel;
      const other = source[CHANNELS * (from + step * at) + channel];
      target[place] = (keep[at] * target[place] + take[at] * other) / swell;
    }
  }
}

/** The lag near one that a search found at which the waves themselves meet. */
function settle(past, lag) {
  const length = past.length / CHANNELS;
  const fine = Math.min(FINE_SAMPLES, length - lag - STRIDE);
  if (fine < STRIDE) return lag;
  const meets = (shift) => {
    let product = 0;
    for (let at = length - fine; at < length; at++) {
      product += past[CHANNELS * at] * past[CHANNELS * (at - shift)];
    }
    return product;
  };
  let [best, found] = [-Infinity, lag];
  for (let shift = Math.max(1, lag - STRIDE); shift <= lag + STRIDE; shift++) {
    const product = meets(shift);
    if (product > best) [best, found] = [product, shift];
  }
  return found;
}
