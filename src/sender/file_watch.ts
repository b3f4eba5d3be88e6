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
/** An empty queue in which nothing happens has nothing to lose: it is looked at each so often. */
const IDLE_INTERVALS = 5;

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
 * Looks once a second while there are packets, else every five seconds, and calls back once,
 * at the first thing that is wrong. A look is a handful of `stat`, which is most of what an
 * idle sender costs.
 *
 * @returns Ends it.
 */
export function watchFiles(
  queue: OutboundQueue,
  lock: Pick<Tenure, "misplaced">,
  clock: Clock,
  onMisplaced: (found: MisplacedFile) => void,
): () => void {
  let stop = clock.setTimer(INTERVAL_MS, tick);
  let lastId = queue.lastId;
  let idleIntervals = 0;
  function tick(): void {
    const idle = queue.stats().packets === 0 && queue.lastId === lastId;
    lastId = queue.lastId;
    idleIntervals = idle ? idleIntervals + 1 : 0;
    const found = idleIntervals % IDLE_INTERVALS === 0 ? misplacedOf(queue, lock) : undefined;
    if (found !== undefined) return onMisplaced(found);
    stop = clock.setTimer(INTERVAL_MS, tick);
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
