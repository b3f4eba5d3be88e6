/** What each verdict means to somebody who watches: the one place that says it. */

import type { Verdict, VerdictKind } from "../delivery/liveness.ts";
import type { SenderState } from "../delivery/status.ts";

/** How something looks from afar; see `Condition`. */
export interface Look {
  readonly tone: "good" | "warning" | "bad";
  readonly headline: string;
}

interface Meaning {
  /** While the connection is up; undefined: it depends on what else is going on. */
  readonly connected: Look | undefined;
  /** Whether it says why packets do not get through: while it lasts, or by ending a connection. */
  readonly trouble: boolean;
}

export const NOT_DELIVERING = { tone: "bad", headline: "Not delivering" } as const;

const MEANINGS: Readonly<Record<VerdictKind, Meaning>> = {
  "healthy": { connected: undefined, trouble: false },
  "slow": { connected: { tone: "warning", headline: "Slow" }, trouble: false },
  "peer-stalled": {
    connected: { tone: "warning", headline: "Server does not read" },
    trouble: true,
  },
  "no-response": { connected: NOT_DELIVERING, trouble: true },
  "path-dead": { connected: NOT_DELIVERING, trouble: true },
  "local-fault": { connected: NOT_DELIVERING, trouble: true },
  "peer-closed": { connected: { tone: "good", headline: "Finishing" }, trouble: false },
  "closes-early": {
    connected: { tone: "warning", headline: "Server closes each connection" },
    trouble: true,
  },
  "wire-failed": { connected: NOT_DELIVERING, trouble: true },
  // The next one is on its way, or the lease says why there is none.
  "ended-here": { connected: undefined, trouble: false },
  "self-connected": { connected: NOT_DELIVERING, trouble: true },
  "session-refused": {
    connected: { tone: "bad", headline: "Server refuses the session" },
    trouble: true,
  },
  "packet-refused": {
    connected: { tone: "bad", headline: "Server refuses a packet" },
    trouble: true,
  },
  "wrong-answer": { connected: NOT_DELIVERING, trouble: true },
  "lookup-hangs": { connected: NOT_DELIVERING, trouble: true },
  // Packets get through; a restart would send them again.
  "removal-stuck": {
    connected: { tone: "warning", headline: "Queue cannot shrink" },
    trouble: false,
  },
  "reset": { connected: NOT_DELIVERING, trouble: true },
  "timed-out": { connected: NOT_DELIVERING, trouble: true },
};

/** Whether a verdict says why packets do not get through. */
export function isTrouble(kind: VerdictKind): boolean {
  return MEANINGS[kind].trouble;
}

/** How a connection with this verdict looks; undefined: it depends on what else is going on. */
export function lookOf(kind: VerdictKind): Look | undefined {
  return MEANINGS[kind].connected;
}

/**
 * The verdict, where it says something: what has ended the last connection, or kept the next one
 * from being made, and not that there was nothing wrong with it.
 */
export function verdictToTell(state: SenderState, verdict: Verdict): Verdict | undefined {
  if (state === "connected" || state === "ending") return verdict;
  return verdict.kind === "healthy" || verdict.kind === "slow" ? undefined : verdict;
}
