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

const FAULT: Meaning = { connected: NOT_DELIVERING, trouble: true };

function meaning(tone: Look["tone"], headline: string, trouble: boolean): Meaning {
  return { connected: { tone, headline }, trouble };
}

const MEANINGS: Readonly<Record<VerdictKind, Meaning>> = {
  "healthy": { connected: undefined, trouble: false },
  "slow": meaning("warning", "Slow", false),
  "peer-stalled": meaning("warning", "Server does not read", true),
  "no-response": FAULT,
  "path-dead": FAULT,
  "local-fault": FAULT,
  "peer-closed": meaning("good", "Finishing", false),
  "closes-early": meaning("warning", "Server closes each connection", true),
  "wire-failed": FAULT,
  // The next one is on its way, or the lease says why there is none.
  "ended-here": { connected: undefined, trouble: false },
  "self-connected": FAULT,
  "session-refused": meaning("bad", "Server refuses the session", true),
  "packet-refused": meaning("bad", "Server refuses a packet", true),
  "wrong-answer": FAULT,
  "lookup-hangs": FAULT,
  // Packets get through; a restart would send them again.
  "removal-stuck": meaning("warning", "Queue cannot shrink", false),
  "reset": FAULT,
  "timed-out": FAULT,
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
