import type { Random } from "../base/ports.ts";

/**
 * Exponential backoff with jitter: each delay is uniform between 0, or a fraction of the
 * ceiling, and a ceiling that doubles up to a cap, so that a fleet whose server returns
 * does not arrive in one wave.
 */
export class Backoff {
  #firstMs: number;
  #capMs: number;
  readonly #random: Random;
  readonly #leastFraction: number;
  #failures = 0;

  /**
   * @param firstMs The first ceiling.
   * @param capMs The highest ceiling.
   * @param random Chance.
   * @param leastFraction What of the ceiling a delay is at least.
   */
  constructor(firstMs: number, capMs: number, random: Random, leastFraction = 0) {
    this.#firstMs = firstMs;
    this.#capMs = capMs;
    this.#random = random;
    this.#leastFraction = leastFraction;
  }

  /** Changes the ceilings; what was counted stays. */
  bound(firstMs: number, capMs: number): void {
    this.#firstMs = firstMs;
    this.#capMs = capMs;
  }

  /** Failed attempts since the last {@linkcode reset}. */
  get failures(): number {
    return this.#failures;
  }

  /** Counts one failure and says how long to wait after it. */
  nextDelayMs(): number {
    return this.delayMs(this.#failures++);
  }

  /** How long to wait after so many failures before this one. */
  delayMs(failures: number): number {
    const ceilingMs = Math.min(this.#capMs, this.#firstMs * 2 ** Math.min(failures, 52));
    return ceilingMs * (this.#leastFraction + this.#random() * (1 - this.#leastFraction));
  }

  /** To be called on confirmed progress; a mere connect proves nothing. */
  reset(): void {
    this.#failures = 0;
  }
}
