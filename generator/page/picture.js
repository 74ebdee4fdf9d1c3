/**
 * What is heard, scrolling by: a Mel spectrogram in the mood's colour, and above it the score, which runs ahead of the ear.
 *
 * A column is a frame. The line at NOW is what sounds; to its right lies what was told of the music to come. Where
 * motion is unwelcome nothing scrolls: the columns are drawn from left to right over the ones before.
 */

import { colourOf, rampOf } from "./colour.js";
import { BANDS, Mel } from "./mel.js";
import { nameOf } from "./names.js";

const NOW = 0.78; // of the width
const DRAW_MILLISECONDS = 30; // between two pictures: a phone at the table has to last the evening
const STRIP = 34; // CSS pixels above the spectrogram, for chords
const INK = "#f2efe9";
const FAINT = "#9d99a8";
const NIGHT = "#0d0d12";

export class Picture {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./score.js").Score} score
   */
  constructor(canvas, score) {
    this.canvas = canvas;
    this.score = score;
    this.mel = new Mel();
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)");
    this.tape = document.createElement("canvas"); // the columns, round and round
    this.tape.height = BANDS;
    /** @type {{column: number, text: string, colour: string | null}[]} bars and moods that went by */
    this.marks = [];
    this.columns = 0; // so far
    this.place = 0; // that is heard
    this.heardAt = 0;
    this.barHeard = null;
    this.landingHeard = null;
    new ResizeObserver(() => this.fit()).observe(canvas);
    this.fit();
    let drawn = 0;
    const draw = (time) => {
      if (time - drawn >= DRAW_MILLISECONDS) {
        drawn = time;
        this.draw();
      }
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  fit() {
    const scale = Math.min(2, window.devicePixelRatio || 1);
    this.width = this.canvas.clientWidth || 1;
    this.height = this.canvas.clientHeight || 1;
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    this.canvas.getContext("2d").setTransform(scale, 0, 0, scale, 0, 0);
    const reach = Math.max(1, Math.ceil(this.width));
    if (reach === this.tape.width) return;
    this.tape.width = reach;
    this.paint = this.tape.getContext("2d");
    this.paint.fillStyle = NIGHT;
    this.paint.fillRect(0, 0, reach, BANDS);
    this.columns = 0;
    this.marks = [];
  }

  /** @param {import("./sound.js").Heard} heard */
  hear({ heard, place }) {
    const levels = this.mel.hear(heard);
    const mood = this.score.moodAt(place);
    const ramp = rampOf(mood ?? { mood: "mysterious", blend: null });
    const column = this.paint.createImageData(1, BANDS);
    for (let band = 0; band < BANDS; band++) {
      const from = 3 * levels[BANDS - 1 - band];
      column.data.set([ramp[from], ramp[from + 1], ramp[from + 2], 255], 4 * band);
    }
    this.paint.putImageData(column, this.columns % this.tape.width, 0);
    this.mark(place, mood);
    this.columns++;
    this.place = place;
    this.heardAt = performance.now();
  }

  /** Notes what begins with the newest column. */
  mark(place, mood) {
    const bar = this.score.barAt(place);
    if (bar !== this.barHeard) this.marks.push({ column: this.columns, text: bar?.chord ?? "", colour: null });
    if (mood !== this.landingHeard && mood !== null) {
      this.marks.push({ column: this.columns, text: "", colour: colourOf(mood) });
    }
    this.barHeard = bar;
    this.landingHeard = mood;
    while (this.marks.length > 0 && this.marks[0].column < this.columns - this.tape.width) this.marks.shift();
  }

  draw() {
    const ink = this.canvas.getContext("2d");
    ink.fillStyle = NIGHT;
    ink.fillRect(0, 0, this.width, this.height);
    ink.imageSmoothingEnabled = true;
    ink.font = "600 13px system-ui, sans-serif";
    ink.textBaseline = "middle";
    if (this.still.matches) this.drawStill(ink);
    else this.drawScrolling(ink);
  }

  drawScrolling(ink) {
    const { width, height, tape, columns } = this;
    const now = Math.round(NOW * width);
    const part = this.columns === 0 ? 0 : Math.min(1, (performance.now() - this.heardAt) / 20);
    const shown = Math.min(columns, now, tape.width);
    // The tape lies in two pieces where it goes round.
    for (let done = 0; done < shown; ) {
      const from = (columns - shown + done) % tape.width;
      const length = Math.min(shown - done, tape.width - from);
      const left = now - shown + done - part;
      ink.drawImage(tape, from, 0, length, BANDS, left, STRIP, length, height - STRIP);
      done += length;
    }
    const ahead = ink.createLinearGradient(now, 0, width, 0);
    ahead.addColorStop(0, "#1b1a24");
    ahead.addColorStop(1, NIGHT);
    ink.fillStyle = ahead;
    ink.fillRect(now, STRIP, width - now, height - STRIP);
    for (const { column, text, colour } of this.marks) this.drawMark(ink, now - (columns - column) - part, text, colour);
    this.drawAhead(ink, now, part);
    ink.fillStyle = INK;
    ink.fillRect(now - 1, 0, 2, height);
  }

  /** What was told of the music to come. */
  drawAhead(ink, now, part) {
    for (const landing of this.score.landings) {
      const from = now + landing.frame - this.place - part;
      if (landing.frame <= this.place || from > this.width) continue;
      ink.globalAlpha = 0.35;
      ink.fillStyle = colourOf(landing);
      ink.fillRect(from, STRIP, this.width - from, this.height - STRIP);
      ink.globalAlpha = 1;
      this.drawMark(ink, from, "", colourOf(landing));
      ink.fillStyle = INK;
      ink.fillText(nameOf(landing), from + 8, STRIP + 18);
    }
    for (const bar of this.score.bars) {
      const from = now + bar.frame - this.place - part;
      if (bar.frame > this.place && from < this.width) this.drawMark(ink, from, bar.chord, null);
    }
  }

  drawStill(ink) {
    const { width, height, tape, columns } = this;
    ink.drawImage(tape, 0, 0, tape.width, BANDS, 0, STRIP, tape.width, height - STRIP);
    const turn = columns - (columns % tape.width);
    for (const { column, text, colour } of this.marks) {
      if (column >= turn) this.drawMark(ink, column - turn, text, colour);
    }
    ink.fillStyle = INK;
    ink.fillRect((columns % tape.width) - 1, 0, Math.min(2, width), height);
  }

  drawMark(ink, left, text, colour) {
    ink.fillStyle = colour ?? "rgb(255 255 255 / 0.16)";
    ink.fillRect(left, colour === null ? STRIP - 10 : 0, colour === null ? 1 : 3, this.height);
    if (text !== "") {
      ink.fillStyle = left < NOW * this.width ? FAINT : INK;
      ink.fillText(text, left + 6, STRIP / 2);
    }
  }
}
