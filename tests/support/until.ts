/**
 * Waits for a condition.
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
