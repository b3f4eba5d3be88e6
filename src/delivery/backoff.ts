/**
 * How long is waited before the next attempt: after what has failed, and after refusals, where a
 * wrong password tried often enough locks an account.
 */

import { ANSWER_OPTIONS, SESSION_OPTIONS } from "../base/option_table.ts";
import type { Dialer, Random, ServerChoice } from "../base/ports.ts";
import type { AnswerPlan } from "../session/answers.ts";
import type { SessionPlan } from "../session/session.ts";

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

  /** @param leastFraction What of the ceiling a delay is at least. */
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

  /** Failed attempts since the last `reset`. */
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

  /** Something was confirmed; a mere connect proves nothing. */
  reset(): void {
    this.#failures = 0;
  }
}

/**
 * A backoff after refusals. Of several servers only the one that has refused is left alone for so
 * long, each by its own refusals: the others are asked like after any failure.
 */
class RefusalBackoff extends Backoff {
  readonly #ofFailures: Backoff;
  readonly #choice: ServerChoice | undefined;

  /** @param ofFailures What is waited for before another server is asked. */
  constructor(random: Random, ofFailures: Backoff, choice: ServerChoice | undefined) {
    super(0, 0, random, 0.5);
    this.#ofFailures = ofFailures;
    this.#choice = choice;
  }

  override nextDelayMs(): number {
    if (this.#choice === undefined) return super.nextDelayMs();
    const inMs = this.#choice.refused((refusals) => this.delayMs(refusals));
    return Math.max(inMs, this.#ofFailures.nextDelayMs());
  }
}

/** What is waited for after refusals. */
export class RefusalPauses {
  /** After a session was refused. */
  readonly ofSessions: Backoff;
  /** After a packet was that is to be tried again. */
  readonly ofPackets: Backoff;

  constructor(
    ofFailures: Backoff,
    { random, dialer: { choice } }: { readonly random: Random; readonly dialer: Dialer },
  ) {
    this.ofSessions = new RefusalBackoff(random, ofFailures, choice);
    this.ofPackets = new RefusalBackoff(random, ofFailures, choice);
  }

  /**
   * Takes the ceilings of what is to be opened next. Who has no session may be refused as well, by
   * a proxy or a dialer of one's own.
   */
  bound(
    { session, answers }: {
      readonly session?: SessionPlan | undefined;
      readonly answers?: AnswerPlan | undefined;
    },
  ): void {
    this.ofSessions.bound(
      session?.refusedBackoffFirstMs ?? SESSION_OPTIONS.refusedBackoffFirstMs.default,
      session?.refusedBackoffCapMs ?? SESSION_OPTIONS.refusedBackoffCapMs.default,
    );
    this.ofPackets.bound(
      answers?.retryFirstMs ?? ANSWER_OPTIONS.retryFirstMs.default,
      answers?.retryCapMs ?? ANSWER_OPTIONS.retryCapMs.default,
    );
  }
}
