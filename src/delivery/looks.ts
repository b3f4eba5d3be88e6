/**
 * When a connection is looked at again. Looking costs the same whether or not there is anything
 * to see, and a process may have a thousand connections on which nothing happens.
 */

const MIN_LOOK_MS = 1;
const MAX_LOOK_MS = 50;
/** Where nothing is under way, but something is waited for. */
const WAITING_LOOK_MS = 1000;
/** At the latest, where nothing is left to be seen. */
const IDLE_LOOK_MS = 60_000;
/** Silence that is read at its limit, or a jiffy before it, would have to be looked at again. */
const GRAIN_MS = 20;

export interface Open {
  readonly nowMs: number;
  /** The smoothed round-trip time. */
  readonly rttMs: number;
  /** How long ago the peer was last heard of. */
  readonly lastAckMs: number;
  /** Since when an acknowledgement is due, of bytes or of our FIN; undefined: none is. */
  readonly waitingSinceMs: number | undefined;
  /** Whether anything else is waited for: an answer, a sign of life, room for a write. */
  readonly waits: boolean;
  /** Silence of an idle connection that is death; undefined: keepalive is off. */
  readonly keepAliveTimeoutMs: number | undefined;
}

/**
 * A fraction of the round trip while an acknowledgement is due, coarser the longer it is
 * overdue. Where nothing is waited for, a connection ends by what its reader is told at once: a
 * FIN, a reset, the kernel's own timeout. What is left to be seen is that the peer does not
 * answer keepalive, and that cannot be before its time.
 */
export function lookInMs(open: Open): number {
  const { nowMs, rttMs, lastAckMs, waitingSinceMs, keepAliveTimeoutMs = Infinity } = open;
  if (waitingSinceMs !== undefined) {
    const overdueMs = nowMs - waitingSinceMs - rttMs;
    return Math.min(MAX_LOOK_MS, Math.max(MIN_LOOK_MS, rttMs / 32, overdueMs / 8));
  }
  if (open.waits) return WAITING_LOOK_MS;
  const silentInMs = keepAliveTimeoutMs - lastAckMs + GRAIN_MS;
  return Math.min(IDLE_LOOK_MS, Math.max(WAITING_LOOK_MS, silentInMs));
}
