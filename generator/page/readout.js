/** What is heard, in words: the mood, the change to come, and the bar. */

import { colourOf } from "./colour.js";
import { nameOf } from "./names.js";
import { FRAMES_PER_SECOND } from "./protocol.js";

const BARS_A_PHRASE = 4;

/** @param {string} id */
const find = (id) => document.getElementById(id);

/** Writes only what is new: a screen reader need not be told the same twice, nor a page be laid out again. */
function write(id, text) {
  const place = find(id);
  if (place.textContent !== text) place.textContent = text;
}

export class Readout {
  /** @param {import("./score.js").Score} score */
  constructor(score) {
    this.score = score;
    this.mood = null;
  }

  /** @param {number} place that is heard */
  hear(place) {
    const mood = this.score.moodAt(place);
    if (mood !== this.mood && mood !== null) {
      write("now", nameOf(mood));
      document.documentElement.style.setProperty("--mood", colourOf(mood));
    }
    this.mood = mood;
    const next = this.score.nextAfter(place);
    const seconds = next === null ? 0 : (next.frame - place) / FRAMES_PER_SECOND;
    write("next", next === null ? "" : `${nameOf(next)} in ${seconds.toFixed(1)} s`);
    this.showBar(this.score.barAt(place), place);
  }

  showBar(bar, place) {
    write("key", bar?.key ?? "–");
    write("tempo", bar === null ? "–" : String(Math.round(bar.tempo)));
    write("chord", bar?.chord ?? "–");
    write("bar", bar === null ? "–" : String((((bar.number % BARS_A_PHRASE) + BARS_A_PHRASE) % BARS_A_PHRASE) + 1));
    const beat = bar === null ? -1 : Math.floor(((place - bar.downbeat) * bar.tempo) / (60 * FRAMES_PER_SECOND));
    write("beats", bar === null ? "" : Array.from({ length: bar.metre }, (_, at) => (at === beat ? "●" : "○")).join(""));
  }
}
