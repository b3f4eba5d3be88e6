/**
 * A clock that a test sets going.
 *
 * @module
 */

import type { Clock } from "../../src/base/ports.ts";

/** Time that stands still unless told; what is due now happens in real time. */
export class ManualClock implements Clock {
  #nowMs = 0;
  /** The wall clock, by itself: it may be set. */
  wall = Date.UTC(2026, 0, 1);
  readonly timers: Set<{ readonly dueMs: number; readonly callback: () => void }> = new Set();

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.wall;
  }

  setTimer(delayMs: number, callback: () => void): () => void {
    const timer = { dueMs: this.#nowMs + delayMs, callback };
    this.timers.add(timer);
    return () => void this.timers.delete(timer);
  }

  defer(callback: () => void): void {
    setImmediate(callback);
  }

  /** When the next timer goes off, from now on; `undefined`: there is none. */
  get nextInMs(): number | undefined {
    const due = [...this.timers].map(({ dueMs }) => dueMs - this.#nowMs);
    return due.length === 0 ? undefined : Math.min(...due);
  }

  /** Time passes, and the process does nothing in it: what is due goes off when it goes on. */
  standStill(ms: number): void {
    this.#nowMs += ms;
    this.wall += ms;
  }

  /** Lets time pass, for both clocks; timers go off in their order. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const next = [...this.timers].filter(({ dueMs }) => dueMs <= untilMs)
        .sort((a, b) => a.dueMs - b.dueMs)[0];
      if (next === undefined) break;
      this.timers.delete(next);
      // One may be late: the process stood still.
      const atMs = Math.max(next.dueMs, this.#nowMs);
      this.wall += atMs - this.#nowMs;
      this.#nowMs = atMs;
      next.callback();
    }
    this.wall += untilMs - this.#nowMs;
    this.#nowMs = untilMs;
  }
}
