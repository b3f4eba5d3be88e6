/**
 * How long is waited after refusals: a wrong password tried often enough locks an account.
 *
 * @module
 */

import { ANSWER_OPTIONS, SESSION_OPTIONS } from "../base/option_table.ts";
import type { AnswerPlan } from "../session/answers.ts";
import type { SessionPlan } from "../session/session.ts";
import type { Backoff } from "./backoff.ts";

/** What may say how long. */
interface Plans {
  readonly session?: SessionPlan | undefined;
  readonly answers?: AnswerPlan | undefined;
}

/**
 * Gives two backoffs the ceilings of what is to be opened next. Who has no session may be
 * refused as well, by a proxy or a dialer of one's own.
 *
 * @param plans Those of the next attempt.
 * @param ofSessions What is waited for after a session was refused.
 * @param ofPackets What is waited for after a packet was that is to be tried again.
 */
export function boundRefusals(
  { session, answers }: Plans,
  ofSessions: Backoff,
  ofPackets: Backoff,
): void {
  ofSessions.bound(
    session?.refusedBackoffFirstMs ?? SESSION_OPTIONS.refusedBackoffFirstMs.default,
    session?.refusedBackoffCapMs ?? SESSION_OPTIONS.refusedBackoffCapMs.default,
  );
  ofPackets.bound(
    answers?.retryFirstMs ?? ANSWER_OPTIONS.retryFirstMs.default,
    answers?.retryCapMs ?? ANSWER_OPTIONS.retryCapMs.default,
  );
}
