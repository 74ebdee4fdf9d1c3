/**
 * What was told of the music, by its place: bars, and where moods land.
 *
 * @typedef {import("./protocol.js").Bar} Bar
 * @typedef {import("./protocol.js").Landing} Landing
 */

import { sameControls } from "./protocol.js";

const KEPT_FRAMES = 3_000; // a minute of what is over

export class Score {
  constructor() {
    /** @type {Bar[]} by place */
    this.bars = [];
    /** @type {Landing[]} by place */
    this.landings = [];
    this.begun = 0; // place at which the newest stream begins
  }

  /** @param {number} place from which on another stream plays, whatever the last one would have played there */
  begin(place) {
    this.bars = this.bars.filter(({ frame }) => frame < place);
    this.landings = this.landings.filter(({ frame }) => frame < place);
    this.begun = place;
  }

  /** @param {Bar | Landing} event in place of all that was told of its place and later */
  add(event) {
    const told = event.type === "bar" ? this.bars : this.landings;
    const after = told.findIndex((each) => each.frame >= event.frame);
    if (after >= 0) told.length = after;
    told.push(event);
    while (told.length > 1 && told[1].frame < event.frame - KEPT_FRAMES) told.shift();
  }

  /** The bar that is heard at a place; null where a model plays that has no score. */
  barAt(place) {
    const bar = this.bars.findLast(({ frame }) => frame <= place) ?? null;
    return bar !== null && (bar.frame >= this.begun || place < this.begun) ? bar : null;
  }

  /** The same, or the bar before the bridge that is heard. */
  plainBarAt(place) {
    if (this.barAt(place) === null) return null;
    return this.bars.findLast(({ frame, bridge }) => frame <= place && !bridge) ?? null;
  }

  /** The mood that is heard at a place. */
  moodAt(place) {
    return this.landings.findLast((landing) => landing.frame <= place) ?? null;
  }

  /** The next change after a place. A stream that goes on with the same music lands too, and changes nothing. */
  nextAfter(place) {
    const now = this.moodAt(place);
    return this.landings.find((landing) => landing.frame > place && !sameControls(landing, now)) ?? null;
  }
}
