/**
 * Whether a sender's files are still the ones that their paths lead to.
 *
 * @module
 */

import { QueueFileError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import type { OutboundQueue } from "../queue/queue.ts";
import type { Tenure } from "../queue/tenure.ts";

const INTERVAL_MS = 1000;

/** What was found. */
export interface MisplacedFile {
  /** What is wrong, and what to do. */
  readonly error: QueueFileError;
  /**
   * - `"queue"`: nobody else finds the packets of this queue, so that this sender has
   *   to deliver them
   * - `"lock"`: another sender may deliver them at the same time
   * - `"removed"`: they were removed with their queue, and there is nothing to deliver
   */
  readonly which: "queue" | "lock" | "removed";
}

/**
 * Looks once a second, and calls back once, at the first thing that is wrong.
 *
 * @returns Ends it.
 */
export function watchFiles(
  queue: OutboundQueue,
  lock: Pick<Tenure, "misplaced">,
  clock: Clock,
  onMisplaced: (found: MisplacedFile) => void,
): () => void {
  let stop = clock.setTimer(INTERVAL_MS, look);
  function look(): void {
    const found = misplacedOf(queue, lock);
    if (found !== undefined) return onMisplaced(found);
    stop = clock.setTimer(INTERVAL_MS, look);
  }
  return () => stop();
}

function misplacedOf(
  queue: OutboundQueue,
  lock: Pick<Tenure, "misplaced">,
): MisplacedFile | undefined {
  const error = queue.misplaced();
  if (error !== undefined) {
    return { error, which: error.reason === "misplaced" ? "queue" : "removed" };
  }
  const words = lock.misplaced();
  if (words === undefined) return undefined;
  const message = `Queue ${queue.path}: ${words}. Another sender may run by now, so this one ` +
    "stops; packets in the queue are kept. Start it again. The lock file may be removed only " +
    "while no sender runs.";
  return { error: new QueueFileError("misplaced", queue.path, message), which: "lock" };
}
