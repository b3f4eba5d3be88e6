/**
 * Whether anybody has written into a queue's log. Whoever commits does, and a `stat` costs a
 * third of asking SQLite, which is what an idle sender would do all day.
 *
 * @module
 */

import type { Clock } from "../base/ports.ts";

/**
 * For so long after a write that was seen there may be another one with the same time: some
 * filesystems keep it in steps of two seconds.
 */
const SETTLED_AFTER_MS = 3000;
/** A commit shows when its sync is over, and that may be long after its writes. */
const ASK_AFTER_MS = 10_000;

/** Looks at one log. */
export class LogLook {
  readonly #path: string;
  readonly #clock: Clock;
  #writtenAtMs = -Infinity;
  #sizeBytes = -1;
  #seenAtMs = -Infinity;
  #askedAtMs = -Infinity;

  /**
   * @param path The log, which this process may look at.
   * @param clock Time.
   */
  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  /** Whether SQLite has to be asked: whoever gets true does so. */
  mayHaveNews(): boolean {
    const nowMs = this.#clock.nowMs();
    const { writtenAtMs, sizeBytes } = this.#look();
    if (writtenAtMs !== this.#writtenAtMs || sizeBytes !== this.#sizeBytes) {
      this.#writtenAtMs = writtenAtMs;
      this.#sizeBytes = sizeBytes;
      this.#seenAtMs = nowMs;
    }
    const asks = nowMs - this.#seenAtMs < SETTLED_AFTER_MS ||
      nowMs - this.#askedAtMs >= ASK_AFTER_MS;
    if (asks) this.#askedAtMs = nowMs;
    return asks;
  }

  /** Where nobody can look at the moment, nothing is known: NaN is never what it was. */
  #look(): { readonly writtenAtMs: number; readonly sizeBytes: number } {
    try {
      const { mtime, size } = Deno.statSync(this.#path);
      return { writtenAtMs: mtime?.getTime() ?? NaN, sizeBytes: size };
    } catch {
      return { writtenAtMs: NaN, sizeBytes: NaN };
    }
  }
}
