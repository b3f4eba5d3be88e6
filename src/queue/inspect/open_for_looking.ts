import {
  isSqliteError,
  SqliteCode,
  type SqliteDatabase,
  type SqliteDriver,
} from "../sqlite/driver.ts";
import {
  errorsOf,
  othersFile,
  queueFileError,
  saysTooManyFiles,
  toFileError,
} from "../sqlite/file_error.ts";
import { refuseOrphanedLog, refuseSecondNameWithoutLog } from "../sqlite/file_identity.ts";
import { distrust, isTooSmall, sizeOfFile, SQLITE_BUSY_TIMEOUT_MS } from "../store/schema.ts";

/** Here nothing is made where nothing is, so another path for a new queue would not help. */
export const GIVE_A_QUEUE = "Give the path of a queue.";

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
 * @throws {QueueFileError} It is no file, no database, an empty file beside a log, or has a second
 *   name and no log beside this one: what is in that of the other would be missing.
 * @throws What SQLite and the operating system say.
 */
export function openForLooking(path: string, driver: SqliteDriver): LookedAtFile {
  const realPath = Deno.realPathSync(path);
  const size = sizeOfFile(realPath, path, GIVE_A_QUEUE);
  if (isTooSmall(size)) throw notADatabase(path);
  if (size === 0) refuseOrphanedLog(path, `${realPath}.lock`);
  refuseSecondNameWithoutLog(realPath);
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
  const make = errorsOf(error, path);
  if (error instanceof Deno.errors.NotFound) {
    return make("io", "there is no such file", GIVE_A_QUEUE);
  }
  if (isSqliteError(error, SqliteCode.NOTADB)) return notADatabase(path);
  if (
    isSqliteError(error, SqliteCode.READONLY, SqliteCode.CANTOPEN) && !saysTooManyFiles(error)
  ) {
    return othersFile(error, path) ?? make(
      "read-only",
      "this user may not read it, or not write in its directory, or the disk is full",
      "SQLite keeps -wal and -shm files there, also for a reader. " +
        "Look as the user who sends, or at a copy, of its -wal file too.",
    );
  }
  return toFileError(error, path);
}
