/**
 * How long is waited after refusals: a wrong password tried often enough locks an account.
 *
 * @module
 */

import { ANSWER_OPTIONS, SESSION_OPTIONS } from "../base/option_table.ts";
import type { Dialer, Random, ServerChoice } from "../base/ports.ts";
import type { AnswerPlan } from "../session/answers.ts";
import type { SessionPlan } from "../session/session.ts";
import { Backoff } from "./backoff.ts";

/** What may say how long. */
interface Plans {
  readonly session?: SessionPlan | undefined;
  readonly answers?: AnswerPlan | undefined;
}

/**
 * A backoff after refusals. Of several servers only the one that has refused is left alone for so
 * long, each by its own refusals: the others are asked like after any failure.
 */
class RefusalBackoff extends Backoff {
  readonly #ofFailures: Backoff;
  readonly #choice: ServerChoice | undefined;

  /**
   * @param random Chance; a delay is half of its ceiling at least.
   * @param ofFailures What is waited for before another server is asked.
   * @param choice Chooses among several servers, where there are.
   */
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

  /**
   * @param ofFailures What is waited for after what has failed.
   * @param ports Chance, and who may choose among servers.
   */
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
  bound({ session, answers }: Plans): void {
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
