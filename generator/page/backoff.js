/** Exponential, with full jitter: pages that fell together don't return together. As bot/client.py. */
export class Backoff {
  /**
   * @param {() => number} random from 0 to 1
   * @param {number} first seconds
   * @param {number} most seconds
   */
  constructor(random, first = 0.25, most = 10) {
    this.random = random;
    this.first = first;
    this.most = most;
    this.attempts = 0;
  }

  /** The last attempt was a success. */
  reset() {
    this.attempts = 0;
  }

  /** Seconds to wait before the next attempt, and never less than `least`. */
  next(least = 0) {
    const ceiling = Math.min(this.most, this.first * 2 ** Math.min(this.attempts, 20));
    this.attempts++;
    return Math.max(least, this.first / 2 + this.random() * (ceiling - this.first / 2));
  }
}
