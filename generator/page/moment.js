/**
 * A moment of the music as a link: in the fragment, which a browser sends to nobody.
 *
 * The score is a function of seed, mood, intensity, blend, origin and home, so from a link's place on the same notes are
 * played again. The sound is the same to the last sample where the link leads to a stream's beginning and the model is
 * the same; elsewhere the model did not hear what it had played before, and performs those notes anew.
 *
 * @typedef {{seed: number, start: number, origin: number, home: number | null, mood: string, intensity: number,
 *   blend: string | null, model: string | null}} Moment
 */

import { COLOURS } from "./moods.js";
import { INTENSITIES, MAX_SEED } from "./protocol.js";

const MAX_PLACE = 2 ** 47; // half of what the wire can name: there is room to play on

/**
 * @param {Moment} moment
 * @returns {string} beginning with #
 */
export function toFragment(moment) {
  const parts = Object.entries(moment).filter(([, value]) => value !== null);
  return `#${new URLSearchParams(parts.map(([name, value]) => [name, String(value)]))}`;
}

/**
 * The moment that a fragment names; null for one that names none, or that was cut off or made up.
 *
 * @param {string} fragment
 * @returns {Moment | null}
 */
export function fromFragment(fragment) {
  const parts = new URLSearchParams(fragment.slice(1));
  const whole = (name, low, high) => {
    const text = parts.get(name) ?? "";
    const value = /^\d{1,15}$/.test(text) ? Number(text) : -1;
    return value >= low && value <= high ? value : null;
  };
  const mood = parts.get("mood");
  const blend = parts.get("blend");
  const known = (name) => name !== null && Object.hasOwn(COLOURS, name);
  const start = whole("start", 0, MAX_PLACE);
  const moment = {
    seed: whole("seed", 0, MAX_SEED),
    start,
    origin: whole("origin", 0, start ?? 0),
    home: whole("home", 0, 11),
    mood: known(mood) ? mood : null,
    intensity: whole("intensity", INTENSITIES[0], INTENSITIES.at(-1)),
    blend: known(blend) ? blend : null,
    model: parts.get("model") ?? "",
  };
  const complete = [moment.seed, start, moment.origin, moment.mood, moment.intensity].every((part) => part !== null);
  return complete && (blend === null || known(blend)) ? moment : null;
}
