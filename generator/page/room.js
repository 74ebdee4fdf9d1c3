/**
 * The listening room. What a person asks goes one way: desk → line → service; what comes back goes the other:
 * line → audio thread → ear, and from what is heard to picture, readout and keep.
 */

import { LockScreen, Wakefulness } from "./awake.js";
import { Desk, MOODS } from "./desk.js";
import { Keep } from "./keep.js";
import { LEAD_FRAMES, Line, askFor } from "./line.js";
import { recall, remember } from "./memory.js";
import { Models } from "./models.js";
import { fromFragment, toFragment } from "./moment.js";
import { nameOf } from "./names.js";
import { Picture } from "./picture.js";
import { MAX_SEED, sameControls } from "./protocol.js";
import { Readout } from "./readout.js";
import { Score } from "./score.js";
import { Sound } from "./sound.js";

const TOKEN_KEY = "bardcast-token";
const VOLUME_KEY = "bardcast-volume";

/** @param {string} id */
const find = (id) => document.getElementById(id);

class Room {
  constructor() {
    this.token = recall(TOKEN_KEY) ?? "";
    this.moment = fromFragment(location.hash);
    this.seed = this.moment?.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] % (MAX_SEED + 1);
    this.playing = false;
    /** @type {import("./sound.js").Heard | null} */
    this.last = null;
    this.model = "";
    this.score = new Score();
    this.keep = new Keep();
    this.picture = new Picture(find("picture"), this.score);
    this.readout = new Readout(this.score);
    this.sound = new Sound((heard) => this.hear(heard));
    this.wakefulness = new Wakefulness();
    this.lockScreen = new LockScreen((playing) => this.play(playing));
    this.take = 0;
    this.models = new Models((beside) => this.line?.ask({ beside, take: ++this.take }, "sudden"));
    this.desk = new Desk(() => this.ask());
    /** @type {Line | null} from the first press on */
    this.line = null;
    this.listen();
    if (this.moment !== null) {
      this.desk.preset(this.moment);
      this.say("A moment is linked here: press Play to hear it.");
      find("pause").textContent = "Play";
      find("pause").disabled = false;
    }
    this.meet();
  }

  listen() {
    find("pause").onclick = () => (this.line === null ? this.ask() : this.play(!this.playing));
    find("volume").value = recall(VOLUME_KEY) ?? find("volume").value;
    find("volume").oninput = () => this.setVolume();
    find("keep").onclick = () => this.save();
    find("link").onclick = () => this.share();
    find("door-form").onsubmit = (event) => {
      event.preventDefault();
      this.enter(find("token").value);
    };
    document.addEventListener("keydown", (event) => {
      if (event.target.matches("input:not([type=range]), select, dialog *")) return;
      if (event.key === " " && event.target.matches("button, summary")) return; // it presses what was gone to by keys
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      const button = { " ": "pause", k: "keep", K: "keep" }[event.key];
      if (button === undefined) return;
      event.preventDefault();
      find(button).click();
    });
    // What was pressed by a finger or a mouse does not keep the keys for itself.
    document.addEventListener("click", (event) => event.detail > 0 && event.target.closest("button")?.blur());
    // Whoever was asleep, or out of reach, does not wait for a timer.
    const nudge = () => {
      this.sound.wake();
      this.line?.nudge();
    };
    window.addEventListener("online", nudge);
    window.addEventListener("pageshow", nudge);
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && nudge());
    window.addEventListener("hashchange", () => location.reload());
  }

  /** Who plays here, and may we come in? */
  async meet() {
    const answer = await askFor("v1/models", this.token);
    if (answer.ok) this.models.learn(answer.body);
    else this.trouble(answer.sentence, answer.code);
    return answer.ok;
  }

  /** @param {string} token */
  async enter(token) {
    this.token = token.trim();
    remember(TOKEN_KEY, this.token);
    find("door").close();
    if (!(await this.meet())) return;
    this.say(this.line === null ? "Press a mood, and the music begins." : "");
    this.line?.nudge();
  }

  // What a person asks

  async ask() {
    const { controls } = this.desk;
    if (this.line !== null) {
      this.line.ask({ controls }, this.desk.choice.transition);
      this.desk.showTurning(controls.mood);
      this.play(true);
      return;
    }
    this.line = new Line(() => this.token, this, {
      controls,
      seed: this.seed,
      beside: this.models.beside,
      take: this.take,
    });
    this.desk.showTurning(controls.mood);
    this.say("The music is being made …");
    try {
      await this.sound.begin();
    } catch (error) {
      this.line = null;
      this.play(false);
      this.sound.close();
      this.trouble(error.message, "sound");
      return;
    }
    this.setVolume();
    this.play(true);
    this.line.open();
  }

  /** @param {boolean} playing */
  play(playing) {
    const resumed = playing && !this.playing;
    this.playing = playing;
    this.sound.play(playing);
    this.wakefulness.want(playing);
    this.lockScreen.show(playing, nameOf(this.desk.controls));
    find("pause").disabled = false;
    find("pause").textContent = playing ? "Pause" : "Play";
    if (resumed) this.line?.nudge();
  }

  setVolume() {
    const { value } = find("volume");
    remember(VOLUME_KEY, value);
    this.sound.setVolume((Number(value) / 100) ** 2); // as the ear has it
  }

  save() {
    this.keep.save(this.readout.mood?.mood ?? MOODS[0], new Date());
    this.say(`The last ${Math.round(this.keep.seconds)} seconds are saved as a file.`);
  }

  /** The bar that is heard, as a link. Of a bridge, the music that it leads to has none yet: the bar before it has. */
  async share() {
    const bar = this.score.plainBarAt(this.last.place);
    if (bar === null) {
      this.say("This model plays without a score, so a moment of it can't be found again.");
      return;
    }
    const { origin, home, mood, intensity, blend, downbeat: start } = bar;
    const model = this.models.blind ? null : this.model; // an address would tell
    const fragment = toFragment({ seed: this.seed, start, origin, home, mood, intensity, blend, model });
    history.replaceState(null, "", fragment);
    try {
      await navigator.clipboard.writeText(location.href);
      this.say("The link is copied: it plays this piece again from this bar.");
    } catch {
      this.say("The link is in the address bar: it plays this piece again from this bar.");
    }
  }

  // What comes from the line

  /** Where a stream should begin, and in which piece. */
  begins(changed) {
    const { controls } = this.line.wish;
    if (this.last === null || !this.last.started) {
      const { start, origin, home } = this.moment ?? { start: 0, origin: null, home: null };
      const same = this.moment === null || sameControls(controls, this.moment);
      this.line.playhead = start;
      this.sound.beginStream(start);
      this.score.begin(start);
      return same ? { start, origin, home } : { start, origin: null, home: null };
    }
    const playhead = this.line.playhead;
    const end = Math.max(playhead, this.line.newest + 1);
    const start = changed ? Math.min(end, playhead + LEAD_FRAMES) : end;
    this.sound.beginStream(start);
    const bar = this.score.barAt(start);
    this.score.begin(start);
    // The same music goes on in its own bar; other music begins with its first.
    const goesOn = bar !== null && !bar.bridge && sameControls(controls, bar) && bar.origin <= start;
    return { start, origin: goesOn ? bar.origin : null, home: bar?.home ?? null };
  }

  frame(index, pcm) {
    this.sound.put(index, pcm);
  }

  event(event) {
    if (event.type === "opened") this.model = event.model;
    else if (event.type === "bar" || event.type === "lands") this.score.add(event);
    else if (event.type === "problem") this.say(event.message);
  }

  connected() {
    find("status").classList.remove("trouble");
    const linked = this.last?.started ? "" : (this.moment?.model ?? "");
    const other = linked !== "" && linked !== this.model;
    this.say(other ? `The link is to the model ${linked}; here plays ${this.model}.` : "");
  }

  away(sentence, code) {
    const held = this.last?.started ? " What was heard goes on meanwhile, and the music comes back by itself." : "";
    this.trouble(sentence + (code === "token" ? "" : held), code);
  }

  // What is heard

  /** @param {import("./sound.js").Heard} heard */
  hear(heard) {
    this.last = heard;
    this.line.advance(heard.place + (heard.started && !heard.held ? 1 : 0));
    if (!heard.started) return;
    this.keep.hear(heard.heard);
    this.picture.hear(heard);
    this.readout.hear(heard.place);
    const landed = this.readout.mood !== null && sameControls(this.desk.controls, this.readout.mood);
    if (landed) this.desk.showTurning(null);
    find("keep").disabled = find("link").disabled = false;
  }

  // What is said

  say(sentence) {
    find("status").textContent = sentence;
  }

  trouble(sentence, code) {
    find("status").classList.add("trouble");
    this.say(sentence);
    if (code === "token" && !find("door").open) {
      find("door-why").textContent = sentence;
      find("door").showModal();
    }
  }
}

new Room();
