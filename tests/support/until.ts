/**
 * Waits that end: for a condition, or for a promise.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";

/**
 * Polls `condition` until it holds.
 *
 * @param what What is awaited, for the message.
 * @param condition Asked every 5 ms.
 * @param deadlineMs How long at most; generous, for it only ends a failed test.
 * @throws {Error} The deadline passed.
 */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  deadlineMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${deadlineMs} ms passed without: ${what}`);
    await delay(5);
  }
}

/**
 * The outcome of a promise that should be settled soon.
 *
 * @param what What is awaited, for the message.
 * @param deadlineMs How long at most; generous, for it only ends a failed test.
 * @throws {Error} The deadline passed.
 */
export async function within<T>(
  what: string,
  promise: Promise<T>,
  deadlineMs = 30_000,
): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`${deadlineMs} ms passed without: ${what}`)),
    deadlineMs,
  );
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
