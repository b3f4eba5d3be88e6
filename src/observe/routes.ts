/**
 * One row for each of many senders: what a person looks for first.
 *
 * @module
 */

import type { Sender } from "../sender/sender.ts";
import type { Condition } from "../sender/condition.ts";

/** How one of several senders stands, as `/routes` has it. */
export interface RouteSummary extends Condition {
  /** Its name. */
  readonly route: string;
  /** Where it delivers to: `"tcp://legacy:4000"`; empty where it was not started. */
  readonly remote: string;
  /** Packets on disk. */
  readonly queuedPackets: number;
  /** How long the oldest of them has waited, in milliseconds; `null` where there is none. */
  readonly oldestAgeMs: number | null;
  /** Packets acknowledged in full a second, over the last three seconds. */
  readonly drainedPerSecond: number;
  /** Dead letters in the queue's file. */
  readonly deadPackets: number;
}

/** A sender's row. */
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

/** The row of a sender that could not be opened. */
export function notStarted(route: string, { message }: Error): RouteSummary {
  return {
    route,
    tone: "bad",
    headline: "Not started",
    detail: message,
    remote: "",
    queuedPackets: 0,
    oldestAgeMs: null,
    drainedPerSecond: 0,
    deadPackets: 0,
  };
}
