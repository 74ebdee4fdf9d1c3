/**
 * The line to the generator: it reconnects, resumes, and always asks for the newest wish. As bot/client.py.
 *
 * The audio thread is its clock (`advance`), since a browser slows the timers of a page that nobody looks at.
 *
 * @typedef {import("./protocol.js").Controls} Controls
 * @typedef {{controls: Controls, seed: number, beside: boolean, take: number}} Wish another take is another stream
 * @typedef {object} Listener
 * @property {(changed: boolean) => {start: number, origin: number | null, home: number | null}} begins a stream is about
 *   to be opened, which plays something else than the last one did or not: where should it begin?
 * @property {(index: number, pcm: Int16Array) => void} frame
 * @property {(event: import("./protocol.js").ServerEvent) => void} event
 * @property {() => void} connected frames come (again)
 * @property {(sentence: string, code: string) => void} away the line is down, and will be tried again
 */

import { Backoff } from "./backoff.js";
import { AHEAD_FRAMES, sameControls, subprotocols, unpackFrame } from "./protocol.js";

export const LEAD_FRAMES = 15; // a stream that is reopened begins this far ahead: a first window takes so long at best
const PLAYHEAD_EVERY = 10; // frames
const STALLED_SECONDS = 10; // without a word from a server that owes us frames
const DOUBTFUL_SECONDS = 2; // likewise, where there is a reason to doubt the network
const HANDSHAKE_SECONDS = 10;
const STEADY_SECONDS = 5; // a connection that lived so long with music was no failed attempt
const FATAL_SECONDS = 5; // what a person has to mend is not mended by haste

/** @returns {number} seconds */
const now = () => performance.now() / 1000;

export class Line {
  /**
   * @param {() => string} token
   * @param {Listener} listener
   * @param {Wish} wish what to play first
   */
  constructor(token, listener, wish) {
    this.token = token;
    this.listener = listener;
    this.wish = wish;
    this.transition = "sudden";
    this.backoff = new Backoff(Math.random);
    /** @type {WebSocket | null} */
    this.socket = null;
    this.connected = false;
    this.opened = false; // whether the service let this socket in
    /** @type {Wish | null} what the server was last asked for */
    this.sent = null;
    /** @type {Controls | null} what the frames that came last are */
    this.landed = null;
    this.playhead = 0;
    this.sentPlayhead = 0;
    this.start = 0; // place of the stream's first frame
    this.newest = -1; // place of the last frame that came
    this.lastWord = 0; // when the server last said something
    this.begun = 0;
    /** @type {number | null} when to try again */
    this.retryAt = null;
  }

  /** Connects. */
  open() {
    this.retryAt = null;
    this.begun = this.lastWord = now();
    this.connected = this.opened = false;
    const address = new URL("v1/stream", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, subprotocols(this.token()));
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.begin();
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = () => this.lose(null);
  }

  /**
   * Asks for other music: now, or as soon as the line stands. The newest wins.
   *
   * @param {Partial<Wish>} wish
   * @param {string} transition
   */
  ask(wish, transition) {
    this.wish = { ...this.wish, ...wish };
    this.transition = transition;
    this.tell();
  }

  /**
   * The clock: the place of the next frame to be played, told as often as one was heard.
   *
   * @param {number} playhead
   */
  advance(playhead) {
    this.playhead = playhead;
    if (playhead - this.sentPlayhead >= PLAYHEAD_EVERY) this.tell();
    this.check();
  }

  /** The network may be back, or the page be awake again: waits no longer, and gives a silent line little time. */
  nudge() {
    if (this.retryAt !== null) this.open();
    else this.lastWord = now() - STALLED_SECONDS + DOUBTFUL_SECONDS; // what came while the page slept is still to be read
  }

  check() {
    if (this.retryAt !== null) {
      if (now() >= this.retryAt) this.open();
      return;
    }
    if (this.socket === null) return;
    // A server that has sent all that it may is silent by right.
    const owed = this.newest + 1 < this.playhead + AHEAD_FRAMES - PLAYHEAD_EVERY;
    if (!owed) this.lastWord = now(); // its silence counts from when it owes something: a pause may have been long
    const limit = this.socket.readyState === WebSocket.CONNECTING ? HANDSHAKE_SECONDS : STALLED_SECONDS;
    if (owed && now() - this.lastWord > limit) {
      this.drop();
      this.lose("The music service has gone silent.");
    }
  }

  begin() {
    const { controls, seed, beside, take } = this.wish;
    const otherTake = this.sent !== null && this.sent.take !== take;
    const { start, origin, home } = this.listener.begins(otherTake || !sameControls(controls, this.landed));
    this.opened = true;
    this.start = start;
    this.newest = start - 1;
    this.sent = this.wish;
    // A server takes the start for the playhead until it is told better.
    this.sentPlayhead = start === this.playhead ? start : -PLAYHEAD_EVERY;
    this.send({ type: "open", ...controls, seed, start, origin, home, beside, bars: true });
    this.tell();
  }

  /** Tells what is new, and only the newest of it. */
  tell() {
    const { wish, sent, playhead } = this;
    if (this.socket?.readyState !== WebSocket.OPEN || sent === null) return;
    const other = wish.take !== sent.take;
    const changed = !sameControls(wish.controls, sent.controls);
    // Neither can a stream become another take, nor can a server change what a stream before this one has sent.
    if (other || (changed && this.start > playhead + 2 * LEAD_FRAMES)) {
      this.drop();
      this.open();
      return;
    }
    this.sent = wish;
    if (changed) this.send({ type: "mood", ...wish.controls, playhead, transition: this.transition });
    if (playhead - this.sentPlayhead >= PLAYHEAD_EVERY) {
      this.sentPlayhead = playhead;
      this.send({ type: "playhead", frame: playhead });
    }
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  receive(data) {
    this.lastWord = now();
    if (data instanceof ArrayBuffer) {
      if (!this.connected) {
        this.connected = true;
        this.listener.connected();
      }
      const { index, pcm } = unpackFrame(data);
      this.newest = index;
      this.listener.frame(index, pcm);
      return;
    }
    const event = JSON.parse(data);
    if (event.type === "problem" && event.fatal) {
      this.drop();
      this.lose(sentence(event.message), event.code);
      return;
    }
    if (event.type === "lands") this.landed = { mood: event.mood, intensity: event.intensity, blend: event.blend };
    this.listener.event(event);
  }

  /** Lets the socket go without waiting for its farewell. */
  drop() {
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  /** @param {string | null} reason a sentence, or null where the browser would not say */
  async lose(reason, code = "away") {
    this.socket = null;
    if (this.connected && now() - this.begun >= STEADY_SECONDS) this.backoff.reset();
    this.connected = false;
    const fatal = reason !== null && code !== "away";
    const wait = this.backoff.next(fatal ? FATAL_SECONDS : 0);
    this.retryAt = now() + wait;
    setTimeout(() => this.retryAt !== null && this.check(), 1000 * wait + 10); // where nothing is heard that could tick
    const found = reason === null ? await this.why() : { reason, code };
    if (!this.connected) this.listener.away(found.reason, found.code); // it may be back before the reason is known
  }

  /** What a browser does not tell of a WebSocket that failed, it tells of a request. */
  async why() {
    const answer = await askFor("v1/models", this.token());
    if (answer.ok) {
      const hint = this.opened ? "" : " Behind a proxy, start the generator with --origin and this page's address.";
      return { reason: `The line to the music service broke.${hint}`, code: "away" };
    }
    return { reason: answer.sentence, code: answer.code };
  }
}

/**
 * A request to the service that shows the token.
 *
 * @param {string} path
 * @param {string} token
 * @returns {Promise<{ok: true, body: any} | {ok: false, code: string, sentence: string}>}
 */
export async function askFor(path, token) {
  try {
    const headers = token === "" ? {} : { Authorization: `Bearer ${token}` };
    const answer = await fetch(new URL(path, document.baseURI), { headers, cache: "no-store" });
    if (answer.ok) return { ok: true, body: await answer.json() };
    if (answer.status === 401) {
      const wrong = token === "" ? "The music service wants its token." : "The music service refuses that token.";
      return { ok: false, code: "token", sentence: `${wrong} Whoever started it knows it as BARDCAST_TOKEN.` };
    }
    return { ok: false, code: "refused", sentence: sentence((await answer.text()).trim()) };
  } catch {
    return { ok: false, code: "away", sentence: "The music service can't be reached. Is it running?" };
  }
}

/** A message of the service's as a sentence of the page's. */
function sentence(message) {
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}${/[.!?]$/.test(message) ? "" : "."}`;
}
