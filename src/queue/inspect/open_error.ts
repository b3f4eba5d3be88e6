/**
 * Why a file cannot be looked into.
 *
 * @module
 */

import { SqliteCode, SqliteError } from "../sqlite/driver.ts";
import { queueFileError, toFileError } from "../sqlite/file_error.ts";

/** The file is not a queue, or cannot be known for one any more. */
export function notAQueue(path: string, what: string): Error {
  return queueFileError("not-a-queue", path, what, {
    advice: "Give the path of a queue. If this was one, its first page is damaged: " +
      "sendq repair saves what is left of it.",
  });
}

/** Why a queue cannot be looked into: nothing is made where nothing is, and it need not be writable. */
export function openError(error: unknown, path: string): unknown {
  if (error instanceof Deno.errors.NotFound) {
    return queueFileError("io", path, "there is no such file", {
      cause: error,
      advice: "Give the path of a queue.",
    });
  }
  if (error instanceof SqliteError && error.primaryCode === SqliteCode.NOTADB) {
    return notAQueue(path, "the file is not a database");
  }
  const codes: readonly number[] = [SqliteCode.READONLY, SqliteCode.CANTOPEN];
  if (error instanceof SqliteError && codes.includes(error.primaryCode)) {
    const what = "this user may not read it, or not write in its directory";
    return queueFileError("read-only", path, what, {
      cause: error,
      advice: "SQLite keeps -wal and -shm files there, also for a reader. " +
        "Look as the user who sends, or at a copy, of its -wal file too.",
    });
  }
  return toFileError(error, path);
}
