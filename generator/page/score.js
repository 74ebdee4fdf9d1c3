/**
 * What was told of the music, by its place: bars, and where moods land.
 *
 * @typedef {import("./protocol.js").Bar} Bar
 * @typedef {import("./protocol.js").Landing} Landing
 */

const KEPT_FRAMES = 3_000; // a minute of what is over

export class Score {
  constructor() {
    /** @type {Bar[]} by place */
    this.bars = [];
    /** @type {Landing[]} by place */
    this.landings = [];
  }

  /** @param {Bar | Landing} event in place of all that was told of its place and later */
  add(event) {
    const told = event.type === "bar" ? this.bars : this.landings;
    const after = told.findIndex((each) => each.frame >= event.frame);
    if (after >= 0) told.length = after;
    told.push(event);
    while (told.length > 1 && told[1].frame < event.frame - KEPT_FRAMES) told.shift();
  }

  /** The bar that is heard at a place. */
  barAt(place) {
    return this.bars.findLast((bar) => bar.frame <= place) ?? null;
  }

  /** The mood that is heard at a place. */
  moodAt(place) {
    return this.landings.findLast((landing) => landing.frame <= place) ?? null;
  }

  /** The next change after a place. */
  nextAfter(place) {
    return this.landings.find((landing) => landing.frame > place) ?? null;
  }
}
