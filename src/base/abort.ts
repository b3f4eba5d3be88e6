/**
 * Waiting beside an `AbortSignal`, of which nothing is left behind: a signal may outlive
 * thousands of waits.
 *
 * @module
 */

import type { Clock } from "./ports.ts";

/** Calls back once, when the signal is aborted. Returns the removal of the listener. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  signal.addEventListener("abort", callback, { once: true });
  return () => signal.removeEventListener("abort", callback);
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
  const forget = signal === undefined ? undefined : onAbort(signal, resolve);
  await promise;
  forget?.();
  cancel();
}
