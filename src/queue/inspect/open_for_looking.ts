import {
  SqliteCode,
  type SqliteDatabase,
  type SqliteDriver,
  SqliteError,
} from "../sqlite/driver.ts";
import {
  isOutOfDescriptors,
  othersFile,
  queueFileError,
  toFileError,
} from "../sqlite/file_error.ts";
import { refuseOrphanedLog } from "../sqlite/file_identity.ts";
import { distrust } from "../store/schema.ts";

/** Here nothing is made where nothing is, so another path for a new queue would not help. */
export const GIVE_A_QUEUE = "Give the path of a queue.";

/** SQLite waits this long by itself; it blocks the loop. */
const SQLITE_BUSY_TIMEOUT_MS = 10;

/** A file that cannot be written. */
export interface LookedAtFile {
  /** Without symbolic links. */
  readonly path: string;
  /** The file, open; of an empty one a database without anything in it. */
  readonly database: SqliteDatabase;
}

/**
 * Opens a file for looking, and for nothing else: not even the log of an empty one is touched.
 *
 * @throws {QueueFileError} It is no file, no database, or an empty file beside a log.
 * @throws What SQLite and the operating system say.
 */
export function openForLooking(path: string, driver: SqliteDriver): LookedAtFile {
  const realPath = Deno.realPathSync(path);
  const { size, isFile, isDirectory } = Deno.statSync(realPath);
  if (!isFile) {
    const what = `it is ${isDirectory ? "a directory" : "no file"}`;
    throw queueFileError("not-a-queue", path, what, { advice: GIVE_A_QUEUE });
  }
  // SQLite takes a file of one byte for an empty one; no database is below 512.
  if (size > 0 && size < 512) throw notADatabase(path);
  if (size === 0) refuseOrphanedLog(path, `${realPath}.lock`);
  // Beside an empty file SQLite deletes a log, also for a reader; we may not know of one.
  const database = driver.open(size === 0 ? ":memory:" : realPath, {
    readOnly: size > 0,
    busyTimeoutMs: SQLITE_BUSY_TIMEOUT_MS,
  });
  distrust(database);
  return { path: realPath, database };
}

/** The file is no database; or its first page is damaged, which only what is behind it can tell. */
function notADatabase(path: string): Error {
  return queueFileError("not-a-queue", path, "the file is not a database", {
    advice: `${GIVE_A_QUEUE} Whether it was one, and can be saved, sendq check says.`,
  });
}

/** What has kept a file from being looked at, in words. */
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
  if (
    error instanceof SqliteError && codes.includes(error.primaryCode) && !isOutOfDescriptors(error)
  ) {
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
