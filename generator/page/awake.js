/** What a phone at the table needs: a screen that stays on, and the music on its lock screen. */

import { SAMPLE_RATE } from "./protocol.js";
import { header } from "./keep.js";

const SILENT_SECONDS = 10; // what is shorter than five gets no place on a lock screen

/** Keeps the screen on while there is music. */
export class Wakefulness {
  constructor() {
    this.wanted = false;
    /** @type {WakeLockSentinel | null} */
    this.lock = null;
    // A browser lets go of it whenever the page is out of sight.
    document.addEventListener("visibilitychange", () => this.settle());
  }

  /** @param {boolean} wanted */
  want(wanted) {
    this.wanted = wanted;
    this.settle();
  }

  async settle() {
    if (!this.wanted) {
      this.lock?.release();
      this.lock = null;
    } else if (document.visibilityState === "visible" && (this.lock === null || this.lock.released)) {
      try {
        const lock = (await navigator.wakeLock?.request("screen")) ?? null;
        const needed = this.wanted && (this.lock === null || this.lock.released); // asked twice, or not wanted any more?
        if (needed) this.lock = lock;
        else lock?.release();
      } catch {
        // A phone that saves its battery says no.
      }
    }
  }
}

/**
 * The play and pause of lock screen, headset and keyboard. Browsers give them to media elements alone, so a silent one
 * plays along.
 */
export class LockScreen {
  /** @param {(playing: boolean) => void} onPress */
  constructor(onPress) {
    this.silence = null;
    if (!("mediaSession" in navigator)) return;
    navigator.mediaSession.setActionHandler("play", () => onPress(true));
    navigator.mediaSession.setActionHandler("pause", () => onPress(false));
  }

  /**
   * @param {boolean} playing
   * @param {string} mood as it is to be read
   */
  show(playing, mood) {
    if (!("mediaSession" in navigator)) return;
    if (this.silence === null) {
      const bytes = 4 * SAMPLE_RATE * SILENT_SECONDS;
      const file = new Blob([header(bytes), new Uint8Array(bytes)], { type: "audio/wav" });
      this.silence = new Audio(URL.createObjectURL(file));
      this.silence.loop = true;
    }
    if (playing) this.silence.play().catch(() => {});
    else this.silence.pause();
    navigator.mediaSession.metadata = new MediaMetadata({ title: mood, artist: "Bardcast" });
    navigator.mediaSession.playbackState = playing ? "playing" : "paused";
  }
}
