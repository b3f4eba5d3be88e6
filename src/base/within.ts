import { systemClock } from "./clock.ts";
import type { Clock } from "./ports.ts";

/** Waits for `promise`, but no longer than this; where it rejects in that time, so does this. */
export async function within(
  ms: number,
  promise: Promise<unknown>,
  clock: Clock = systemClock,
): Promise<void> {
  const { promise: timeUp, resolve } = Promise.withResolvers<void>();
  const cancel = ms === Infinity ? () => {} : clock.setTimer(ms, resolve);
  try {
    await Promise.race([promise, timeUp]);
  } finally {
    cancel();
  }
}
