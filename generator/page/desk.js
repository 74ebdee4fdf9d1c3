/**
 * The controls by which a person says what to play: mood pads, the two-dimensional pad, and how to turn.
 *
 * @typedef {import("./protocol.js").Controls} Controls
 * @typedef {{first: string | null, second: string | null, mix: number, intensity: number, transition: string}} Choice
 *   mix: 0 is the first mood, 1 both, 2 the second
 */

import { COLOURS } from "./moods.js";
import { nameOf, title } from "./names.js";

export const MOODS = Object.keys(COLOURS);
const FIRST_INTENSITY = 1;
const LAST_INTENSITY = 5;

/** @param {string} id */
const find = (id) => document.getElementById(id);

export class Desk {
  /** @param {() => void} onChoice told of each choice, while the person presses */
  constructor(onChoice) {
    this.onChoice = onChoice;
    /** @type {Choice} */
    this.choice = { first: null, second: null, mix: 0, intensity: 3, transition: "sudden" };
    this.pads = new Map(MOODS.map((mood, number) => [mood, this.makePad(mood, number)]));
    find("moods").append(...this.pads.values());
    find("second").append(new Option("nothing", ""), ...MOODS.map((mood) => new Option(title(mood), mood)));
    find("second").onchange = ({ target }) => {
      const second = target.value || null;
      this.choose({ second, mix: second === null ? 0 : 1 });
    };
    find("transition").onchange = ({ target }) => {
      this.choice = { ...this.choice, transition: target.value };
    };
    find("intensity").oninput = ({ target }) => this.choose({ intensity: Number(target.value) });
    find("blend").oninput = ({ target }) => this.choose({ mix: Number(target.value) });
    this.listenToPad(find("pad"));
    document.addEventListener("keydown", (event) => this.press(event));
    this.show();
  }

  /** @returns {Controls} */
  get controls() {
    const { first, second, mix, intensity } = this.choice;
    const blended = second !== null && second !== first;
    const mood = blended && mix === 2 ? second : first;
    return { mood, intensity, blend: blended && mix === 1 ? second : null };
  }

  /** @param {Partial<Choice>} choice */
  choose(choice) {
    this.choice = { ...this.choice, ...choice };
    this.show();
    if (this.choice.first !== null) this.onChoice();
  }

  /**
   * Shows a choice that is not to be played yet.
   *
   * @param {Controls} controls
   */
  preset({ mood, intensity, blend }) {
    this.choice = { ...this.choice, first: mood, second: blend, mix: blend === null ? 0 : 1, intensity };
    find("second").value = blend ?? "";
    this.show();
  }

  makePad(mood, number) {
    const pad = document.createElement("button");
    pad.type = "button";
    pad.className = "mood";
    pad.style.setProperty("--own", COLOURS[mood]);
    pad.setAttribute("aria-keyshortcuts", String(number + 1));
    const key = document.createElement("kbd");
    key.textContent = String(number + 1);
    key.setAttribute("aria-hidden", "true");
    pad.append(title(mood), key);
    pad.onclick = () => this.choose({ first: mood, mix: this.choice.mix === 2 ? 0 : this.choice.mix });
    return pad;
  }

  press(event) {
    const busy = event.target.matches("input:not([type=range]), select, dialog *");
    if (busy || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const mood = MOODS[Number(event.key) - 1];
    if (mood !== undefined) this.pads.get(mood).click();
  }

  listenToPad(pad) {
    const follow = (event) => {
      const box = pad.getBoundingClientRect();
      const across = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
      const up = Math.max(0, Math.min(1, (box.bottom - event.clientY) / box.height));
      const intensity = FIRST_INTENSITY + Math.round(up * (LAST_INTENSITY - FIRST_INTENSITY));
      const mix = this.choice.second === null ? 0 : Math.round(2 * across);
      if (intensity !== this.choice.intensity || mix !== this.choice.mix) this.choose({ intensity, mix });
    };
    pad.onpointerdown = (event) => {
      pad.setPointerCapture(event.pointerId);
      find("intensity").focus({ preventScroll: true });
      event.preventDefault();
      follow(event);
    };
    pad.onpointermove = (event) => pad.hasPointerCapture(event.pointerId) && follow(event);
  }

  show() {
    const { first, second, mix, intensity } = this.choice;
    const { mood, blend } = this.controls;
    for (const [name, pad] of this.pads) {
      pad.setAttribute("aria-pressed", String(name === mood || name === blend));
      pad.classList.toggle("second", name === second && name !== mood && name !== blend);
    }
    const blended = second !== null && second !== first;
    find("intensity").value = String(intensity);
    find("intensity").setAttribute("aria-valuetext", `${intensity} of ${LAST_INTENSITY}`);
    find("blend").disabled = !blended;
    find("blend").value = String(mix);
    find("blend").setAttribute("aria-valuetext", mood === null ? "no mood yet" : nameOf({ mood, blend }));
    find("left").textContent = first === null ? "" : title(first);
    find("right").textContent = blended ? title(second) : "";
    find("pad").style.setProperty("--first", first === null ? "#2a2833" : COLOURS[first]);
    find("pad").style.setProperty("--second", blended ? COLOURS[second] : first === null ? "#2a2833" : COLOURS[first]);
    const up = (intensity - FIRST_INTENSITY) / (LAST_INTENSITY - FIRST_INTENSITY);
    find("thumb").style.left = `${blended ? 10 + 40 * mix : 50}%`;
    find("thumb").style.bottom = `${14 + 72 * up}%`;
  }

  /** @param {string | null} mood that was asked for, and is not heard yet */
  showTurning(mood) {
    for (const [name, pad] of this.pads) pad.classList.toggle("turning", name === mood);
  }
}
