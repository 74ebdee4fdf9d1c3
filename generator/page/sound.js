/**
 * From the page to the audio thread and on to the ear.
 *
 * @typedef {{heard: Int16Array, place: number, started: boolean, held: boolean, ready: number}} Heard
 */

import { SAMPLE_RATE } from "./protocol.js";

/** Why there can be no sound in this browser; a sentence that says what to do. */
export class SoundError extends Error {}

export class Sound {
  /** @param {(heard: Heard) => void} onHeard told of each frame that is heard */
  constructor(onHeard) {
    this.onHeard = onHeard;
    /** @type {AudioContext | null} */
    this.context = null;
    /** @type {AudioWorkletNode | null} */
    this.node = null;
    /** @type {GainNode | null} */
    this.volume = null;
    this.playing = false;
  }

  /**
   * Opens the way to the ear. Called while a person presses something: a browser plays nothing unasked.
   *
   * @throws {SoundError}
   */
  async begin() {
    if (!window.isSecureContext) {
      throw new SoundError(
        "Browsers make music like this only at a safe address: open the page as https://…, or on this machine as " +
          "http://localhost. docs/operating.md says how to serve it by https.",
      );
    }
    if (!("AudioWorkletNode" in window)) {
      throw new SoundError("This browser is too old for the listening room (it lacks AudioWorklet): please update it.");
    }
    this.context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "playback" });
    if (this.context.sampleRate !== SAMPLE_RATE) {
      throw new SoundError("This browser does not play 48 kHz: please try another, such as Firefox or Chromium.");
    }
    this.context.onstatechange = () => this.wake();
    const resumed = this.context.resume();
    await this.context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    this.node = new AudioWorkletNode(this.context, "bardcast-player", { numberOfInputs: 0, outputChannelCount: [2] });
    this.node.port.onmessage = ({ data }) => (data.silent ? this.rest() : this.onHeard(data));
    this.volume = new GainNode(this.context);
    this.node.connect(this.volume).connect(this.context.destination);
    await Promise.race([resumed, new Promise((done) => setTimeout(done, 3_000))]);
    if (this.context.state !== "running") {
      throw new SoundError("The browser has blocked the sound: allow it for this page, beside the address, and reload.");
    }
  }

  /** Gives up, to begin anew. */
  close() {
    this.context?.close();
    this.context = this.node = this.volume = null;
  }

  /** @param {boolean} playing */
  play(playing) {
    this.playing = playing;
    this.node?.port.postMessage({ play: playing }); // pressed again before the sound has begun: it will be told then
    this.wake();
  }

  /** A laptop that slept, or a call that came, may have stopped what should sound. */
  wake() {
    if (this.playing && this.context?.state !== "running") this.context?.resume().catch(() => {});
  }

  /** The pause has faded out: nothing need be computed any more. */
  rest() {
    if (!this.playing) this.context?.suspend();
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.volume?.gain.setTargetAtTime(volume, this.context.currentTime, 0.03);
  }

  /** @param {number} start */
  beginStream(start) {
    this.node.port.postMessage({ stream: start });
  }

  /**
   * @param {number} index
   * @param {Int16Array} pcm given away
   */
  put(index, pcm) {
    this.node.port.postMessage({ frame: { index, pcm } }, [pcm.buffer]);
  }
}
