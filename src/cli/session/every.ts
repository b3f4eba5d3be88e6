/**
 * What is done again and again.
 *
 * @module
 */

import { systemClock } from "../../base/clock.ts";

/** Calls back at an interval of any length, unlike `setInterval`. Returns the end of it. */
export function every(intervalMs: number, callback: () => void): () => void {
  let cancel = () => {};
  const next = () => {
    cancel = systemClock.setTimer(intervalMs, () => {
      next();
      callback();
    });
  };
  next();
  return () => cancel();
}
