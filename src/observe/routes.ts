/** One row for each of many senders: what a person looks for first. */

import type { Sender } from "../sender/sender.ts";
import type { Condition } from "../sender/condition.ts";

/** How one of several senders stands, as `/routes` has it. */
export interface RouteSummary extends Condition {
  /** Its name. */
  readonly route: string;
  /** Where it delivers to: `"tcp://legacy:4000"`; empty where no sender is open. */
  readonly remote: string;
  /** Packets on disk; 0 where no sender is open. */
  readonly queuedPackets: number;
  /** How long the oldest of them has waited, in milliseconds; `null` where there is none. */
  readonly oldestAgeMs: number | null;
  /** Packets acknowledged in full a second, over the last three seconds. */
  readonly drainedPerSecond: number;
  /** Dead letters in the queue's file. */
  readonly deadPackets: number;
}

export function summaryOf(route: string, sender: Sender, wallMs: number): RouteSummary {
  const { packets, oldestEnqueuedAtMs, deadPackets } = sender.queue.stats();
  return {
    route,
    ...sender.condition,
    remote: sender.remote,
    queuedPackets: packets,
    oldestAgeMs: oldestEnqueuedAtMs === undefined ? null : Math.max(0, wallMs - oldestEnqueuedAtMs),
    drainedPerSecond: sender.rates.drainedPacketsPerSecond,
    deadPackets,
  };
}

/** How one stands that has no sender: it could not be opened, or waits. */
export function conditionOfNoSender(shown: Error | Condition): Condition {
  return shown instanceof Error
    ? { tone: "bad", headline: "Not started", detail: shown.message }
    : shown;
}

export function withoutSender(route: string, shown: Error | Condition): RouteSummary {
  return {
    route,
    ...conditionOfNoSender(shown),
    remote: "",
    queuedPackets: 0,
    oldestAgeMs: null,
    drainedPerSecond: 0,
    deadPackets: 0,
  };
}
