/**
 * Which errors no time will mend. A sender runs for months, and what stands in
 * its way is mostly gone an hour later: it tries again. It stops only for what a
 * person has to change, so the list is short and says what is on it, not what is
 * not: an error that nobody thought of is tried again.
 *
 * Told by name and field, because this folder knows nothing of Deno's classes.
 *
 * @module
 */

/** What has to be changed by a person, by the error's name. */
const LASTING_NAMES: ReadonlySet<string> = new Set([
  // Somebody has to say what to do with the file.
  "EdgeRefusedError",
  // Another sender is at work, and may be for years.
  "FencedError",
  // A permission is missing; nobody can grant it to a process that runs.
  "NotCapable",
  "SocketOptionError",
  "UnsupportedPlatformError",
]);

/** Of a `QueueFileError`: what is wrong with the file itself, and not with its disk. */
const LASTING_FILE_REASONS: ReadonlySet<unknown> = new Set([
  "corrupt",
  "newer-version",
  "not-a-queue",
]);

/**
 * Whether trying again is of no use, whatever happens meanwhile.
 *
 * @param error Anything that was thrown.
 * @returns `false` for what is not known to last.
 *
 * @example
 * ```ts
 * import { QueueFileError, WireError } from "./errors.ts";
 * import { isLasting } from "./lasting.ts";
 * import assert from "node:assert/strict";
 *
 * assert.equal(isLasting(new WireError("EINVAL", "the route is of type blackhole")), false);
 * assert.equal(isLasting(new QueueFileError("disk-full", "outbox.db", "no room")), false);
 * assert.equal(isLasting(new QueueFileError("corrupt", "outbox.db", "page 7")), true);
 * ```
 */
export function isLasting(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.name === "QueueFileError") {
    return "reason" in error && LASTING_FILE_REASONS.has(error.reason);
  }
  return LASTING_NAMES.has(error.name);
}

/**
 * The same of what a queue has thrown: one that was closed is not opened again.
 *
 * @param error Anything that was thrown.
 */
export function isLastingOfQueue(error: unknown): boolean {
  return isLasting(error) || (error instanceof Error && error.name === "ClosedError");
}
