import type { Clock, Logger } from "../base/ports.ts";

/** Within this time so many are told, and of further ones how many they were. */
const WINDOW_MS = 60_000;
const TOLD_ONES = 10;

/**
 * The warnings that a client can cause without a packet of it being stored. Whoever reaches the
 * port can make any number of them, and the log is not theirs.
 */
export class JunkLog {
  readonly #logger: Logger;
  readonly #clock: Clock;
  #beganMs = -Infinity;
  #told = 0;
  #heldBack = 0;
  #cancel: (() => void) | undefined;

  constructor(logger: Logger, clock: Clock) {
    this.#logger = logger;
    this.#clock = clock;
  }

  warn(words: string): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#beganMs >= WINDOW_MS) {
      this.end();
      this.#beganMs = nowMs;
      this.#told = 0;
    }
    if (this.#told < TOLD_ONES) {
      this.#told++;
      this.#logger.warn(words);
      return;
    }
    this.#heldBack++;
    this.#cancel ??= this.#clock.setTimer(this.#beganMs + WINDOW_MS - nowMs, () => this.end());
  }

  /** Says how many were held back. */
  end(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#heldBack === 0) return;
    const more = this.#heldBack === 1 ? "1 more warning" : `${this.#heldBack} more warnings`;
    this.#logger.warn(`${more} like the last ones about clients`);
    this.#heldBack = 0;
  }
}
