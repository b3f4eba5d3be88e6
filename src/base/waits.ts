/**
 * Waiting, of which nothing is left behind: an `AbortSignal` may outlive thousands of waits.
 *
 * @module
 */

import { systemClock } from "./clock.ts";
import type { Clock } from "./ports.ts";

/** Resolves after a time. */
export function rest(clock: Pick<Clock, "setTimer">, delayMs: number): Promise<void> {
  return new Promise((resolve) => void clock.setTimer(delayMs, resolve));
}

/** Calls back once, when the signal is aborted. Returns the removal of the listener. */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  signal?.addEventListener("abort", callback, { once: true });
  return () => signal?.removeEventListener("abort", callback);
}

/** Resolves after a time, or at abort. */
export async function restUnlessAborted(
  clock: Pick<Clock, "setTimer">,
  delayMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (signal?.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = clock.setTimer(delayMs, resolve);
  const forget = onAbort(signal, resolve);
  await promise;
  forget();
  cancel();
}

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
