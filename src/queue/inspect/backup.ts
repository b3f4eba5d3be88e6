import { QueueFileError } from "../../base/errors.ts";
import { copyDatabase, createCopy } from "../sqlite/copy.ts";
import { toFileError } from "../sqlite/file_error.ts";
import type { QueueCounts } from "./inspection.ts";
import { QueueInspector } from "./inspector.ts";
import type { QueueProblem } from "./integrity.ts";

/** A checkpoint or a crash's recovery may hold the file for a moment. */
const BUSY_TIMEOUT_MS = 10_000;

/**
 * Copies the queue at `from`, as it is at one moment, into a new file `to` that belongs to
 * this user alone. A sender and programs that enqueue may go on working meanwhile.
 *
 * @returns What the copy holds, and what is wrong in it: damage is copied, too.
 * @throws {QueueFileError} `from` is no queue, or damaged; `to` is there, or cannot be
 *   written. Nothing is left of it then.
 */
export async function backUpQueue(
  from: string,
  to: string,
): Promise<{ readonly counts: QueueCounts; readonly problems: readonly QueueProblem[] }> {
  return await backUp(from, to, {
    refuse: async () => (await QueueInspector.open(from))[Symbol.dispose](),
    look: async () => {
      using copy = await QueueInspector.open(to);
      return { counts: await copy.counts(), problems: await copy.check() };
    },
  });
}

/**
 * The same for a file of any kind.
 *
 * @param kind `refuse`: throws where `from` is none of that kind; `look`: looks at the copy.
 */
export async function backUp<T>(
  from: string,
  to: string,
  { refuse, look }: { readonly refuse: () => Promise<void>; readonly look: () => Promise<T> },
): Promise<T> {
  await refuse();
  const takeAway = createCopy(to);
  try {
    // Of an empty file, SQLite would delete a log that we perhaps may not look at.
    if (Deno.statSync(from).size > 0) await copyDatabase(from, to, BUSY_TIMEOUT_MS);
    return await look();
  } catch (error) {
    takeAway();
    // What is wrong with the old file shows when it is read, all else is about the new one.
    const about = toFileError(error, from);
    throw about instanceof QueueFileError && about.reason !== "corrupt"
      ? toFileError(error, to)
      : about;
  }
}
