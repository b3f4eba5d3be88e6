import type { SqliteDatabase, SqliteDriver } from "../sqlite/driver.ts";
import { queueFileError } from "../sqlite/file_error.ts";
import { refuseOrphanedLog } from "../sqlite/file_identity.ts";
import { distrust } from "../store/schema.ts";
import { GIVE_A_QUEUE, notADatabase } from "./open_error.ts";

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
