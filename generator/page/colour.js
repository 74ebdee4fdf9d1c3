/** Moods as colours. */

import { COLOURS } from "./moods.js";

const NIGHT = [13, 13, 18];
const LIGHT = [255, 250, 240];
/** @type {Map<string, Uint8ClampedArray>} */
const ramps = new Map();

/** @returns {number[]} red, green and blue, 0 to 255 */
function parse(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function between(one, other, way) {
  return one.map((value, at) => value + way * (other[at] - value));
}

/**
 * The colour of a mood, or of two.
 *
 * @param {{mood: string, blend: string | null}} controls
 */
export function colourOf({ mood, blend }) {
  const first = parse(COLOURS[mood]);
  const both = blend === null ? first : between(first, parse(COLOURS[blend]), 0.5);
  return `rgb(${both.map(Math.round).join(" ")})`;
}

/**
 * From silence to loud, by way of a mood's colour.
 *
 * @param {{mood: string, blend: string | null}} controls
 * @returns {Uint8ClampedArray} 256 × red, green, blue
 */
export function rampOf(controls) {
  const colour = colourOf(controls);
  if (!ramps.has(colour)) {
    const middle = colour.match(/\d+/g).map(Number);
    const ramp = new Uint8ClampedArray(3 * 256);
    for (let level = 0; level < 256; level++) {
      const way = level / 255;
      // Dark colours are lifted on their way: a quiet fight should be as visible as a quiet festival.
      const lifted = between(middle, LIGHT, 0.12);
      ramp.set(way < 0.62 ? between(NIGHT, lifted, way / 0.62) : between(lifted, LIGHT, (way - 0.62) / 0.38), 3 * level);
    }
    ramps.set(colour, ramp);
  }
  return ramps.get(colour);
}
