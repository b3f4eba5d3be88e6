import type { Dialer, Random, ServerChoice } from "../base/ports.ts";
import type { ConnectionLimits } from "./connection.ts";

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

/**
 * The same after refusals. Of several servers only the one that has refused is left alone for so
 * long, each by its own refusals: the others are asked like after any failure.
 */
class RefusalBackoff extends Backoff {
  readonly #ofFailures: Backoff;
  readonly #choice: ServerChoice | undefined;

  /**
   * @param firstMs The first ceiling; a delay is half of it at least.
   * @param capMs The highest ceiling.
   * @param random Chance.
   * @param ofFailures What is waited for before another server is asked.
   * @param choice Chooses among several servers, where there are.
   */
  constructor(
    firstMs: number,
    capMs: number,
    random: Random,
    ofFailures: Backoff,
    choice: ServerChoice | undefined,
  ) {
    super(firstMs, capMs, random, 0.5);
    this.#ofFailures = ofFailures;
    this.#choice = choice;
  }

  override nextDelayMs(): number {
    if (this.#choice === undefined) return super.nextDelayMs();
    const inMs = this.#choice.refused((refusals) => this.delayMs(refusals));
    return Math.max(inMs, this.#ofFailures.nextDelayMs());
  }
}

/**
 * What is waited for after refusals.
 *
 * @param limits Of the sender.
 * @param ofFailures What it waits for after what has failed.
 * @param ports Chance, and who may choose among servers.
 */
export function refusalBackoffs(
  { session, answers }: Pick<ConnectionLimits, "session" | "answers">,
  ofFailures: Backoff,
  { random, dialer: { choice } }: { readonly random: Random; readonly dialer: Dialer },
): { readonly ofSessions: Backoff; readonly ofPackets: Backoff } {
  const { refusedBackoffFirstMs = 0, refusedBackoffCapMs = 0 } = session ?? {};
  const { retryFirstMs = 0, retryCapMs = 0 } = answers ?? {};
  const common = [random, ofFailures, choice] as const;
  return {
    ofSessions: new RefusalBackoff(refusedBackoffFirstMs, refusedBackoffCapMs, ...common),
    ofPackets: new RefusalBackoff(retryFirstMs, retryCapMs, ...common),
  };
}
