/** What a forwarder says about itself. */

import { sentence } from "../base/errors.ts";
import type { QueueStats } from "../base/queue_stats.ts";
import type { Outage, SenderStatus } from "../delivery/status.ts";
import type { OutboundQueue } from "../queue/queue.ts";
import type { Condition } from "../sender/condition.ts";

/**
 * What a forwarder is doing:
 *
 * - `"connecting"`: it asks the cluster what it has of this edge
 * - `"forwarding"`: the cluster takes packets, or would
 * - `"full"`: the cluster's queue has no room; packets wait in the edge's file
 * - `"backing-off"`: the cluster could not be reached, or would not take packets; the next
 *   attempt comes by itself
 * - `"closed"`: the end; what was not forwarded is in the edge's file
 *
 * @category Status
 */
export type ForwarderState = "connecting" | "forwarding" | "full" | "backing-off" | "closed";

/**
 * Where a forwarder stands; counters run since it was opened.
 *
 * @category Status
 */
export interface ForwarderStats {
  /**
   * Every packet of the edge's file up to this id that was to be forwarded is in the cluster;
   * `undefined` until the cluster was asked.
   */
  readonly through: number | undefined;
  /** Packets that the cluster has taken. */
  readonly forwardedPackets: number;
  /** Their bytes. */
  readonly forwardedBytes: number;
  /** How often it began anew, the first time among them: after each break it does. */
  readonly beginnings: number;
  /** Attempts that failed, and connections that broke. */
  readonly failures: number;
  /** When the cluster last answered, in milliseconds since 1970; `undefined`: it never did. */
  readonly answeredAtMs: number | undefined;
  /** What lies in the edge's file. */
  readonly queue: QueueStats;
}

/**
 * What of a forwarder there is to see: a status page needs no client of the database.
 *
 * @category Status
 */
export interface ReadableForwarder {
  /** The edge's file. */
  readonly queue: OutboundQueue;
  /** What people call the edge. */
  readonly edge: string;
  /** Where its packets go. */
  readonly to: string;
  /** What it is doing. */
  readonly state: ForwarderState;
  /** The same in words, for a person. */
  readonly condition: Condition;
  /** The present outage; undefined while packets get through, or there are none. */
  readonly outage: Outage | undefined;
  /** Why the queue was taken away, in words; undefined: it was not. */
  readonly queueFailure: string | undefined;
  /** How things stand. */
  stats(): ForwarderStats;
}

/**
 * One change in a forwarder's life.
 *
 * @category Status
 */
export interface ForwarderStatus extends Omit<SenderStatus, "state" | "verdict" | "stats"> {
  /** What it is doing. */
  readonly state: ForwarderState;
  /** How things stood then. */
  readonly stats: ForwarderStats;
}

/** What a forwarder writes into the file's lock file, for other processes. */
export interface ForwarderNotice {
  /** When it was opened, in milliseconds since 1970. */
  readonly startedAtMs: number;
  readonly edge: string;
  readonly to: string;
  readonly state: string;
  readonly condition: Condition;
  /** The highest id that the cluster has; `null`: it is not known yet. */
  readonly through: number | null;
  /** Packets that the cluster has taken since then. */
  readonly forwardedPackets: number;
}

/** Says which shape the text has. */
const FORMAT = "forwarder 1";
const TONES: ReadonlySet<unknown> = new Set(["good", "idle", "busy", "warning", "bad"]);

/** The text of a notice. */
export function forwarderNoticeText(notice: ForwarderNotice): string {
  return JSON.stringify({ format: FORMAT, ...notice });
}

/** `undefined`: the text is no notice that this version knows. */
export function parseForwarderNotice(text: string): ForwarderNotice | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  // Whoever may write the lock file may write anything into it.
  const { format, startedAtMs, edge, to, state, condition, through, forwardedPackets } = {
    ...Object(value),
  };
  const { tone, headline, detail } = { ...Object(condition) };
  const texts = [edge, to, state, headline, detail];
  const counts = [startedAtMs, forwardedPackets, ...(through === null ? [] : [through])];
  const isNotice = format === FORMAT && TONES.has(tone) &&
    texts.every((text) => typeof text === "string") &&
    counts.every((count) => Number.isSafeInteger(count) && count >= 0);
  return isNotice
    ? {
      ...{ startedAtMs, edge, to, state, through, forwardedPackets },
      condition: { tone, headline, detail },
    }
    : undefined;
}

/** Says where a forwarder stands. */
export function forwarderCondition(
  { state, outage, to }: Pick<ReadableForwarder, "state" | "outage" | "to">,
  queuedPackets: number,
): Condition {
  switch (state) {
    case "closed":
      return queuedPackets === 0
        ? { tone: "idle", headline: "Closed", detail: "It has ended; everything is forwarded." }
        : {
          tone: "bad",
          headline: "Closed",
          detail: "It has ended; what is queued waits for the next start.",
        };
    case "full":
      return {
        tone: "warning",
        headline: "The cluster's queue is full",
        detail: "Packets wait in the edge's file until there is room.",
      };
    case "forwarding":
      return queuedPackets === 0
        ? { tone: "good", headline: "Connected", detail: "Everything is forwarded." }
        : { tone: "good", headline: "Forwarding", detail: "The cluster takes packets." };
    case "connecting":
    case "backing-off":
      return outage === undefined
        ? { tone: "busy", headline: "Connecting", detail: `On the way to ${to}.` }
        : {
          tone: "bad",
          headline: "Not forwarding",
          detail: `${sentence(outage.latest)} Packets wait in the edge's file. Trying again.`,
        };
    default:
      throw new TypeError(`Unknown state ${JSON.stringify(state satisfies never)}`);
  }
}
