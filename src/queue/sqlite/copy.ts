/** Copies of a database: for who makes a backup, or saves what a damaged file still has. */

import { writeAllSync } from "../../base/write_all.ts";
import { createDatabase, openBeside } from "./beside.ts";
import { queueFileError, toFileError } from "./file_error.ts";
import {
  type FileIdentity,
  identityAt,
  identityOfLinkAt,
  isSameFile,
  mayLookAt,
} from "./file_identity.ts";
import { copyPages } from "./node_sqlite.ts";

/**
 * Whether a path leads to a queue's file or to one that belongs to it (`-wal`, `-shm`,
 * `.lock`, `.reports`), or would, were there a file: by whatever spelling, link or hard link. Where
 * this process may not look, the name decides.
 *
 * @param path A path that is about to be written.
 * @param queuePath The queue's path, which exists.
 */
export function belongsToQueue(path: string, queuePath: string): boolean {
  const files = filesOf(queuePath);
  const present = mayLookAt(path) ? identityAt(path) : undefined;
  if (present !== undefined) {
    return files.includes(Deno.realPathSync(path)) || isFileOfQueue(present, queuePath);
  }
  const [directory, name] = partsOf(path);
  const [queueDirectory] = partsOf(files[0]);
  if (!files.some((file) => partsOf(file)[1] === name)) return false;
  if (!mayLookAt(directory) || !mayLookAt(queueDirectory)) return true;
  return isSameFile(identityAt(directory), identityAt(queueDirectory));
}

/** The same for a file that is open. */
export function isFileOfQueue(file: FileIdentity, queuePath: string): boolean {
  return filesOf(queuePath).some((own) => mayLookAt(own) && isSameFile(file, identityAt(own)));
}

function filesOf(queuePath: string): [queue: string, ...beside: string[]] {
  const queue = Deno.realPathSync(queuePath);
  const ends = ["-wal", "-shm", "-journal", ".lock", ".reports"];
  return [queue, ...ends.map((end) => queue + end)];
}

function partsOf(path: string): [directory: string, name: string] {
  const at = path.lastIndexOf("/");
  return [at === -1 ? "." : path.slice(0, at) || "/", path.slice(at + 1)];
}

/**
 * Makes the file of a copy, which is never made where a file is.
 *
 * @returns Takes it away again, for who has failed: never throws, and takes no other file away.
 * @throws {QueueFileError} There is one, too.
 */
export function createCopy(path: string): () => void {
  try {
    const made = createDatabase(path);
    return () => takeAway(path, made);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw toFileError(error, path);
    throw queueFileError("io", path, "there is such a file already", {
      cause: error,
      advice: "It was left as it is. Give the path of a new one.",
    });
  }
}

function takeAway(path: string, made: FileIdentity): void {
  try {
    if (isSameFile(made, identityOfLinkAt(path))) Deno.removeSync(path);
  } catch {
    // Why the copy has failed says more than why its file cannot be taken away.
  }
}

/**
 * Copies a database as it is at one moment, also while others write it.
 *
 * @param from The database.
 * @param to A file that is empty.
 * @param busyTimeoutMs How long to wait while the database is locked.
 * @throws {SqliteError}
 * @throws {Deno.errors.NotCapable} A Deno permission is missing.
 */
export async function copyDatabase(from: string, to: string, busyTimeoutMs: number): Promise<void> {
  await copyPages(from, to, busyTimeoutMs);
  // Without a log of its own the copy is one file, also for those who look into it. SQLite would
  // open that log to say so, and leave it where the disk is full.
  using copy = openBeside(from, to, { write: true });
  copy.seekSync(VERSIONS_OFFSET_BYTES, Deno.SeekMode.Start);
  writeAllSync(copy, ROLLBACK_VERSIONS);
  copy.syncSync();
}

/** Where a file says whether it has a write-ahead log (sqlite.org/fileformat2.html, 1.3.3). */
const VERSIONS_OFFSET_BYTES = 18;
/** To write and to read: none. */
const ROLLBACK_VERSIONS = new Uint8Array([1, 1]);
