import { SqliteCode, SqliteError } from "../sqlite/driver.ts";
import { othersFile, queueFileError, toFileError } from "../sqlite/file_error.ts";

/** Here nothing is made where nothing is, so another path for a new queue would not help. */
export const GIVE_A_QUEUE = "Give the path of a queue.";

/** The file is no database; or its first page is damaged, which only what is behind it can tell. */
export function notADatabase(path: string): Error {
  return queueFileError("not-a-queue", path, "the file is not a database", {
    advice: `${GIVE_A_QUEUE} Whether it was one, and can be saved, sendq check says.`,
  });
}

export function openError(error: unknown, path: string): unknown {
  if (error instanceof Deno.errors.NotFound) {
    return queueFileError("io", path, "there is no such file", {
      cause: error,
      advice: GIVE_A_QUEUE,
    });
  }
  if (error instanceof SqliteError && error.primaryCode === SqliteCode.NOTADB) {
    return notADatabase(path);
  }
  const codes: readonly number[] = [SqliteCode.READONLY, SqliteCode.CANTOPEN];
  if (error instanceof SqliteError && codes.includes(error.primaryCode)) {
    const others = othersFile(error, path);
    if (others !== undefined) return others;
    const what = "this user may not read it, or not write in its directory";
    return queueFileError("read-only", path, what, {
      cause: error,
      advice: "SQLite keeps -wal and -shm files there, also for a reader. " +
        "Look as the user who sends, or at a copy, of its -wal file too.",
    });
  }
  return toFileError(error, path);
}
