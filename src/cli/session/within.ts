import { systemClock } from "../../base/clock.ts";

/** Waits for `promise`, but no longer than this. */
export async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  const { promise: timeUp, resolve } = Promise.withResolvers<void>();
  const cancel = ms === Infinity ? () => {} : systemClock.setTimer(ms, resolve);
  try {
    await Promise.race([promise, timeUp]);
  } finally {
    cancel();
  }
}
