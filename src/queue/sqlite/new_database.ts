/**
 * Making a file for a database. SQLite deletes a log that it finds beside an empty file, and with
 * it the packets in it: so every such file is made here.
 *
 * @module
 */

import { openBeside } from "./beside.ts";
import { queueFileError, toFileError } from "./file_error.ts";
import { identityAt, mayLookAt, refuseOrphanedLog } from "./file_identity.ts";

/** The first line of a lock file, and more. */
const PID_LINE_BYTES = 32;

/**
 * Makes an empty file for this user alone.
 *
 * @param path Where a database will be.
 * @throws {QueueFileError} Something is left there of one, or a sender runs on what was there.
 * @throws {Deno.errors.AlreadyExists} There is a file.
 */
export function createDatabase(path: string): void {
  refuseWhatIsLeft(path);
  Deno.openSync(path, { write: true, createNew: true, mode: 0o600 }).close();
}

/**
 * Looks whether a database can be made, or put, where none is.
 *
 * @throws {QueueFileError} Something is left there of one, or a sender runs on what was there.
 */
export function refuseWhatIsLeft(path: string): void {
  refuseWhileSending(path);
  refuseOrphanedLog(path, `${path}.lock`);
}

/**
 * Makes the file of a copy, which is never made where a file is.
 *
 * @throws {QueueFileError} There is one, too.
 */
export function createCopy(path: string): void {
  try {
    createDatabase(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw toFileError(error, path);
    throw queueFileError("io", path, "there is such a file already", {
      cause: error,
      advice: "It was left as it is. Give the path of a new one.",
    });
  }
}

/**
 * A new queue under the name of one that a sender has lost would not be that sender's.
 *
 * @throws {QueueFileError} There is no file, and its sender runs.
 */
export function refuseWhileSending(path: string): void {
  const lockPath = `${path}.lock`;
  if (identityAt(path) !== undefined || !mayLookAt(lockPath)) return;
  let line: Uint8Array;
  try {
    using lock = openBeside(path, lockPath, { write: false });
    if (lock.tryLockSync(false)) return;
    line = new Uint8Array(PID_LINE_BYTES);
    lock.readSync(line);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  // The sender may have made its queue just now.
  if (identityAt(path) !== undefined) return;
  const [, pid] = /^([1-9][0-9]*)\n/.exec(new TextDecoder().decode(line)) ?? [];
  const process = pid === undefined ? "" : ` (process ${pid})`;
  const what = `a sender runs on it${process}, but its file is gone`;
  throw queueFileError("misplaced", path, what, {
    advice:
      "Nothing was made in its place. Put the file back, or stop that sender; then try again.",
  });
}
