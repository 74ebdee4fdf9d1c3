/**
 * What crosses the wire, as generator/protocol.py has it.
 *
 * @typedef {{mood: string, intensity: number, blend: string | null}} Controls
 * @typedef {{type: "lands", mood: string, intensity: number, blend: string | null, frame: number}} Landing
 * @typedef {{type: "bar", frame: number, downbeat: number, number: number, metre: number, tempo: number, key: string,
 *   chord: string, mood: string, intensity: number, blend: string | null, bridge: boolean, origin: number,
 *   home: number}} Bar
 * @typedef {{type: "opened", model: string}} Opened
 * @typedef {{type: "pace", audio_seconds: number, compute_seconds: number}} Pace
 * @typedef {{type: "problem", code: string, message: string, fatal: boolean}} Problem
 * @typedef {Landing | Bar | Opened | Pace | Problem} ServerEvent
 */

export const SAMPLE_RATE = 48_000; // Hz
export const CHANNELS = 2;
export const FRAME_SAMPLES = 960; // per channel: 20 ms
export const FRAME_VALUES = FRAME_SAMPLES * CHANNELS;
export const FRAMES_PER_SECOND = 50;
export const AHEAD_FRAMES = 8 * FRAMES_PER_SECOND; // how far past the playhead the server may run
export const MAX_SEED = 2 ** 32 - 1;
export const INTENSITIES = [1, 2, 3, 4, 5];
export const SUBPROTOCOL = "bardcast";
const TOKEN_SUBPROTOCOL = "bardcast.token.";
const HEADER_BYTES = 8;

/**
 * The place of a frame and its sound, out of a binary message.
 *
 * @param {ArrayBuffer} message
 * @returns {{index: number, pcm: Int16Array}} interleaved stereo
 */
export function unpackFrame(message) {
  const view = new DataView(message);
  const index = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32; // below 2^48: exact in a double
  const pcm = new Int16Array(FRAME_VALUES);
  for (let at = 0; at < FRAME_VALUES; at++) pcm[at] = view.getInt16(HEADER_BYTES + 2 * at, true);
  return { index, pcm };
}

/**
 * The subprotocols that a page offers: a browser can set no header on a WebSocket, and an address would be logged.
 *
 * @param {string} token empty for none
 * @returns {string[]}
 */
export function subprotocols(token) {
  if (token === "") return [SUBPROTOCOL];
  const text = btoa(String.fromCharCode(...new TextEncoder().encode(token)));
  return [SUBPROTOCOL, TOKEN_SUBPROTOCOL + text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")];
}

/**
 * @param {Controls} one
 * @param {Controls | null} other
 */
export function sameControls(one, other) {
  return other !== null && one.mood === other.mood && one.intensity === other.intensity && one.blend === other.blend;
}
