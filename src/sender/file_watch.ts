/** Whether a sender's files are still the ones that their paths lead to. */

import { eachSecond } from "../base/waits.ts";
import { QueueFileError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import type { OutboundQueue } from "../queue/queue.ts";
import type { Tenure } from "../queue/tenure.ts";

/** An empty queue in which nothing happens has nothing to lose: it is looked at each so often. */
const IDLE_SECONDS = 5;

export interface MisplacedFile {
  /** What is wrong, and what to do. */
  readonly error: QueueFileError;
  /**
   * - `"queue"`: nobody else finds its packets, so that this sender has to deliver them
   * - `"lock"`: another sender may deliver them at the same time
   * - `"removed"`: they were removed with their queue, and there is nothing to deliver
   */
  readonly which: "queue" | "lock" | "removed";
}

/**
 * Looks once a second while there are packets, else every five, and calls back once, at the
 * first thing that is wrong. A look is a handful of `stat`, most of what an idle sender costs.
 *
 * @returns Ends it.
 */
export function watchFiles(
  queue: OutboundQueue,
  lock: Pick<Tenure, "misplaced">,
  clock: Clock,
  onMisplaced: (found: MisplacedFile) => void,
): () => void {
  let lastId = queue.lastId;
  let idleSeconds = 0;
  const stop = eachSecond(clock, () => {
    const idle = queue.lastId === lastId && queue.removedThroughId === lastId;
    lastId = queue.lastId;
    idleSeconds = idle ? idleSeconds + 1 : 0;
    const found = idleSeconds % IDLE_SECONDS === 0 ? misplacedOf(queue, lock) : undefined;
    if (found === undefined) return;
    stop();
    onMisplaced(found);
  });
  return stop;
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
