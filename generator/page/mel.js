/** The spectrum of what is heard, in bands as the ear has them: one column a frame. */

import { CHANNELS, FRAME_SAMPLES, SAMPLE_RATE } from "./protocol.js";

export const BANDS = 96;
const FFT = 2_048;
const LOWEST_HZ = 50;
const HIGHEST_HZ = 14_000;
const QUIETEST_DB = -78; // of full scale, in a band
const LOUDEST_DB = -22;

const toMel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
const toHertz = (mel) => 700 * (10 ** (mel / 2595) - 1);

const WINDOW = Float32Array.from({ length: FFT }, (_, at) => (1 - Math.cos((2 * Math.PI * at) / FFT)) / FFT);
const COSINES = Float32Array.from({ length: FFT / 2 }, (_, at) => Math.cos((2 * Math.PI * at) / FFT));
const SINES = Float32Array.from({ length: FFT / 2 }, (_, at) => -Math.sin((2 * Math.PI * at) / FFT));
/** @type {{first: number, weights: Float32Array}[]} triangles over the bins, lowest band first */
const FILTERS = Array.from({ length: BANDS }, (_, band) => {
  const [low, high] = [toMel(LOWEST_HZ), toMel(HIGHEST_HZ)];
  const edge = (number) => (toHertz(low + ((high - low) * number) / (BANDS + 1)) * FFT) / SAMPLE_RATE;
  const [from, middle, to] = [edge(band), edge(band + 1), edge(band + 2)];
  const first = Math.max(1, Math.ceil(Math.min(from, middle - 1)));
  const last = Math.max(first, Math.floor(Math.max(to, middle + 1)));
  const weights = Float32Array.from({ length: last - first + 1 }, (__, at) => {
    const bin = first + at;
    const side = bin < middle ? (bin - middle) / Math.max(1, middle - from) : (middle - bin) / Math.max(1, to - middle);
    return Math.max(0, 1 + side);
  });
  return { first, weights };
});

/** Hears frame after frame. */
export class Mel {
  constructor() {
    this.past = new Float32Array(FFT);
    this.real = new Float32Array(FFT);
    this.imaginary = new Float32Array(FFT);
  }

  /**
   * The column that a frame adds.
   *
   * @param {Int16Array} frame interleaved stereo
   * @returns {Uint8Array} BANDS levels, lowest band first, from silence to loud
   */
  hear(frame) {
    const { past, real, imaginary } = this;
    past.copyWithin(0, FRAME_SAMPLES);
    for (let at = 0; at < FRAME_SAMPLES; at++) {
      past[FFT - FRAME_SAMPLES + at] = (frame[CHANNELS * at] + frame[CHANNELS * at + 1]) / 65536;
    }
    for (let at = 0; at < FFT; at++) {
      real[at] = past[at] * WINDOW[at];
      imaginary[at] = 0;
    }
    transform(real, imaginary);
    return Uint8Array.from(FILTERS, ({ first, weights }) => {
      let power = 1e-12;
      for (let at = 0; at < weights.length; at++) {
        power += weights[at] * (real[first + at] ** 2 + imaginary[first + at] ** 2);
      }
      const level = (10 * Math.log10(power) - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB);
      return 255 * Math.max(0, Math.min(1, level));
    });
  }
}

/** The discrete Fourier transform in place (Cooley and Tukey 1965). */
function transform(real, imaginary) {
  for (let at = 1, mirrored = 0; at < FFT; at++) {
    let bit = FFT >> 1;
    for (; mirrored & bit; bit >>= 1) mirrored ^= bit;
    mirrored ^= bit;
    if (at < mirrored) {
      [real[at], real[mirrored]] = [real[mirrored], real[at]];
      [imaginary[at], imaginary[mirrored]] = [imaginary[mirrored], imaginary[at]];
    }
  }
  for (let size = 2; size <= FFT; size *= 2) {
    const half = size / 2;
    const stride = FFT / size;
    for (let begin = 0; begin < FFT; begin += size) {
      for (let at = begin, turn = 0; at < begin + half; at++, turn += stride) {
        const r = real[at + half] * COSINES[turn] - imaginary[at + half] * SINES[turn];
        const i = real[at + half] * SINES[turn] + imaginary[at + half] * COSINES[turn];
        real[at + half] = real[at] - r;
        imaginary[at + half] = imaginary[at] - i;
        real[at] += r;
        imaginary[at] += i;
      }
    }
  }
}
