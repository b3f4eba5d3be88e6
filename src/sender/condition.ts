/** A sender's condition in words, for a person who did not write it. */

import type { ClusterStats } from "../base/cluster_stats.ts";
import { QueueFileError, sentence } from "../base/errors.ts";
import type { StoreFailure } from "../base/queue_stats.ts";
import { describeVerdict, type Verdict } from "../delivery/liveness.ts";
import type { Outage, SenderState } from "../delivery/status.ts";
import { clusterTrouble } from "./cluster_words.ts";
import type { Rates } from "./rate_meter.ts";
import { isTrouble, lookOf, NOT_DELIVERING } from "./verdict_meaning.ts";

/**
 * State and verdict in words.
 *
 * @category Status
 */
export interface Condition {
  /**
   * - `"good"`: packets arrive, or would
   * - `"idle"`: nothing to do, or closed
   * - `"busy"`: on its way to good, nothing is wrong yet
   * - `"warning"`: delivers, but not as it should
   * - `"bad"`: does not deliver
   */
  readonly tone: "good" | "idle" | "busy" | "warning" | "bad";
  /** A few words, for example `"Not delivering"`. */
  readonly headline: string;
  /** One sentence that says why. */
  readonly detail: string;
}

/** Lossy links have gaps. */
const STUCK_AFTER_MS = 10_000;

export interface ConditionFacts {
  readonly state: SenderState;
  readonly verdict: Verdict;
  readonly outage: Outage | undefined;
  /** Where the server is to connect to us; undefined: we connect to it. */
  readonly waitsOn?: string | undefined;
  /** Who has connected there last, and may not. */
  readonly turnedAway?: string | undefined;
  readonly queuedPackets: number;
  readonly rates: Rates;
  /** Why the sender has no right to the queue any more. */
  readonly ousted?: Error | undefined;
  /** Why the queue's file cannot be read. */
  readonly queueFailure?: string | undefined;
  readonly storeFailure?: StoreFailure | undefined;
  readonly cluster?: ClusterStats | undefined;
}

export function conditionOf(facts: ConditionFacts): Condition {
  const { state, queueFailure } = facts;
  const lost = conditionWithoutQueue(state, facts.ousted);
  if (lost !== undefined) return lost;
  // What is in the file nobody knows then, so that nothing else that is said can be true.
  if (queueFailure !== undefined) {
    return { tone: "bad", headline: "Cannot read its queue", detail: queueFailure };
  }
  const trouble = state === "closed" ? undefined : clusterTrouble(facts.cluster);
  if (trouble?.tone === "bad") return trouble;
  const delivery = ofDelivery(facts);
  const condition = state === "closed" ? delivery : withStoring(facts.storeFailure, delivery);
  return trouble !== undefined && (condition.tone === "good" || condition.tone === "idle")
    ? trouble
    : condition;
}

/**
 * Of who has lost its queue's files, as opposed to a lease: it delivers what it holds of them, and
 * ends.
 */
export function conditionWithoutQueue(
  state: string,
  ousted: Error | undefined,
): Condition | undefined {
  if (!(ousted instanceof QueueFileError)) return undefined;
  const headline = state === "closed" ? "Closed" : "Its queue was taken away";
  return { tone: "bad", headline, detail: ousted.message };
}

/** Of who cannot store: what comes in is held back, or refused, however well the rest goes. */
export function withStoring(failure: StoreFailure | undefined, condition: Condition): Condition {
  if (failure === undefined) return condition;
  const isBetter = condition.tone !== "bad" && condition.tone !== "warning";
  const more = isBetter ? "" : ` Besides: ${inOneLine(condition)}`;
  return { tone: "bad", headline: "Cannot store", detail: `${failure.words}${more}` };
}

function ofDelivery(facts: ConditionFacts): Condition {
  const { state, outage, queuedPackets } = facts;
  switch (state) {
    case "idle":
      return { tone: "idle", headline: "Idle", detail: "Nothing to send, no connection needed." };
    case "closed":
      return {
        tone: queuedPackets === 0 ? "idle" : "bad",
        headline: "Closed",
        detail: queuedPackets === 0
          ? "The sender has ended; the queue is empty."
          : "The sender has ended; what is queued waits for the next start.",
      };
    case "connecting":
    case "backing-off":
      if (facts.waitsOn !== undefined) return waiting(facts.waitsOn, facts);
      return outage === undefined
        ? { tone: "busy", headline: "Connecting", detail: "On the way to the server." }
        : withoutConnection(outage);
    case "connected":
    case "ending":
      return outage === undefined || isTrouble(facts.verdict.kind)
        ? connected(state, facts)
        : connectedInOutage(outage);
    default:
      throw new TypeError(`Unknown state ${JSON.stringify(state satisfies never)}`);
  }
}

/** Nothing can be done here; whether it is bad depends on what waits. */
function waiting(
  waitsOn: string,
  { outage, queuedPackets, turnedAway }: ConditionFacts,
): Condition {
  const may = turnedAway && ` ${turnedAway} has tried, and is not in ?from=.`;
  const before = outage === undefined ? "" : ` The last connection: ${outage.latest}.`;
  return {
    tone: queuedPackets === 0 ? "busy" : "warning",
    headline: "Waiting for the server",
    detail: `Nobody is connected to ${waitsOn}.${may ?? ""}${before}`,
  };
}

function withoutConnection({ cause, latest }: Outage): Condition {
  const more = latest === cause ? "" : ` Last: ${latest}.`;
  return { ...NOT_DELIVERING, detail: `${sentence(cause)} Trying to connect again.${more}` };
}

/** A connection alone is no end: some are made and broken again and again. */
function connectedInOutage({ cause, brokenConnections, confirms }: Outage): Condition {
  if (confirms) {
    return {
      tone: "warning",
      headline: "Unsteady",
      detail: `Packets get through, but it breaks again and again: ${cause}.`,
    };
  }
  return brokenConnections > 1
    ? {
      ...NOT_DELIVERING,
      detail: `Connections are made, and break before a packet is confirmed: ${cause}.`,
    }
    : {
      tone: "busy",
      headline: "Recovering",
      detail: "There is a connection again, and no packet is confirmed yet.",
    };
}

function connected(
  state: "connected" | "ending",
  { verdict, rates }: ConditionFacts,
): Condition {
  // The peer is heard; what it is sent is lost.
  const stuck = verdict.kind === "slow" && rates.ackedBytesPerSecond === 0 &&
    verdict.oldestUnackedMs > STUCK_AFTER_MS;
  const known = stuck ? NOT_DELIVERING : lookOf(verdict.kind);
  // That it is slow is the headline.
  const words = describeVerdict(verdict).replace(/^slow: /, "");
  if (known !== undefined) return { ...known, detail: sentence(words) };
  if (state === "ending") {
    return { tone: "good", headline: "Finishing", detail: "The connection is ended in order." };
  }
  return rates.drainedPacketsPerSecond > 0
    ? { tone: "good", headline: "Delivering", detail: "The server acknowledges what it is sent." }
    : { tone: "good", headline: "Connected", detail: "Everything is acknowledged." };
}

/** In one line: the reason only where something is wrong. */
export function inOneLine({ tone, headline, detail }: Condition): string {
  return tone === "warning" || tone === "bad" ? `${headline}: ${detail}` : headline;
}
