/**
 * Time as a connection has watched it. A process that was stopped, or whose loop was blocked,
 * must not take its own pause for somebody else's, and a clock that jumps must end nothing.
 *
 * @module
 */

import { MAX_COUNTED_GAP_MS } from "./liveness.ts";

/**
 * A clock that stands still while nobody looks: one gap between two looks counts for at most
 * {@linkcode MAX_COUNTED_GAP_MS}.
 */
export class WatchedTime {
  #clockMs: number;
  #watchedMs = 0;

  /** @param clockMs Now, by the clock. */
  constructor(clockMs: number) {
    this.#clockMs = clockMs;
  }

  /**
   * Somebody looks.
   *
   * @param clockMs Now, by the clock.
   * @returns Now, in watched time.
   */
  look(clockMs: number): number {
    this.#watchedMs = this.at(clockMs);
    this.#clockMs = clockMs;
    return this.#watchedMs;
  }

  /** A moment since the last look, in watched time. */
  at(clockMs: number): number {
    const gapMs = clockMs - this.#clockMs;
    return this.#watchedMs + Math.min(Math.max(gapMs, 0), MAX_COUNTED_GAP_MS);
  }
}
