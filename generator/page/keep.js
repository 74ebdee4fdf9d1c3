/**
 * The last two minutes of what was heard, as a file.
 *
 * WAV: it holds exactly what was heard, every player knows it, and it takes a header and no library.
 */

import { CHANNELS, FRAMES_PER_SECOND, FRAME_VALUES, SAMPLE_RATE } from "./protocol.js";

const KEPT_FRAMES = 120 * FRAMES_PER_SECOND;

export class Keep {
  constructor() {
    /** @type {Int16Array[]} */
    this.frames = [];
    this.oldest = 0;
  }

  /** @param {Int16Array} frame */
  hear(frame) {
    if (this.frames.length < KEPT_FRAMES) this.frames.push(frame);
    else {
      this.frames[this.oldest] = frame;
      this.oldest = (this.oldest + 1) % KEPT_FRAMES;
    }
  }

  get seconds() {
    return this.frames.length / FRAMES_PER_SECOND;
  }

  /** @returns {Blob} */
  file() {
    const frames = [...this.frames.slice(this.oldest), ...this.frames.slice(0, this.oldest)];
    return new Blob([header(2 * FRAME_VALUES * frames.length), ...frames], { type: "audio/wav" });
  }

  /**
   * Hands the file to the browser as a download.
   *
   * @param {string} mood for its name
   * @param {Date} date likewise
   */
  save(mood, date) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(this.file());
    link.download = `bardcast-${mood}-${date.toISOString().slice(0, 19).replaceAll(":", "-")}.wav`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser reads it after this has returned
  }
}

/** RIFF's header for so many bytes of 16-bit PCM. */
export function header(bytes) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, place) => view.setUint8(at + place, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, CHANNELS, true);
  view.setUint32(24, SAMPLE_RATE, true);
  view.setUint32(28, 2 * CHANNELS * SAMPLE_RATE, true);
  view.setUint16(32, 2 * CHANNELS, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, bytes, true);
  return view;
}
