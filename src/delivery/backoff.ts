import type { Random } from "../base/ports.ts";

/**
 * Exponential backoff with full jitter: each delay is uniform between 0 and a
 * ceiling that doubles up to a cap, so that a fleet whose server returns does
 * not arrive in one wave.
 */
export class Backoff {
  readonly #firstMs: number;
  readonly #capMs: number;
  readonly #random: Random;
  #failures = 0;

  /**
   * @param firstMs The first ceiling.
   * @param capMs The highest ceiling.
   * @param random Chance.
   */
  constructor(firstMs: number, capMs: number, random: Random) {
    this.#firstMs = firstMs;
    this.#capMs = capMs;
    this.#random = random;
  }

  /** Failed attempts since the last {@linkcode reset}. */
  get failures(): number {
    return this.#failures;
  }

  /** Counts one failure and says how long to wait after it. */
  nextDelayMs(): number {
    const ceilingMs = Math.min(this.#capMs, this.#firstMs * 2 ** Math.min(this.#failures, 52));
    this.#failures++;
    return this.#random() * ceilingMs;
  }

  /** To be called on confirmed progress; a mere connect proves nothing. */
  reset(): void {
    this.#failures = 0;
  }
}
