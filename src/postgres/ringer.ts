import type { Clock } from "../base/ports.ts";
import type { QueuePlace } from "../queue/place.ts";

/**
 * Rings at most this often; the last ring of a burst comes late, never not at all. Each
 * leaves a trace in the log that standbys sync, and the next commit waits for that.
 */
export const RING_INTERVAL_MS = 50;

/**
 * Rings a database's bell, not too often.
 *
 * @param clock Time.
 * @param ring Rings it once.
 */
export function ringerOf(clock: Clock, ring: () => void): QueuePlace["ringer"] {
  let lastRingMs = -Infinity;
  let cancelTrailing: (() => void) | undefined;
  const now = (): void => {
    cancelTrailing = undefined;
    lastRingMs = clock.nowMs();
    ring();
  };
  return {
    ring() {
      if (cancelTrailing !== undefined) return;
      const waitMs = lastRingMs + RING_INTERVAL_MS - clock.nowMs();
      if (waitMs <= 0) now();
      else cancelTrailing = clock.setTimer(waitMs, now);
    },
    flush() {
      if (cancelTrailing === undefined) return;
      cancelTrailing();
      now();
    },
  };
}
