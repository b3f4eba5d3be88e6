/**
 * Whether there is no room any more. SQLite says so of a disk that is full, but not of a user's
 * quota that is used up: to it that is a write that has failed, as on a broken disk.
 *
 * @module
 */

import { writeAllSync } from "../../base/write_all.ts";
import { SqliteCode } from "./driver.ts";

/** More than a page: that is what has just found no room. */
const TRIED_BYTES = 64 * 1024;

/**
 * What a code of SQLite's means, where it may be a quota: tries to write beside the file, into
 * `<file>.room`, which is removed again. Without the permission for that the code stays what it is.
 *
 * @param code SQLite's extended result code.
 * @param path The file that was being written.
 * @returns `SqliteCode.FULL` for a write for which there was no room.
 */
export function codeOfWrite(code: number, path: string): number {
  return code === SqliteCode.IOERR_WRITE && !hasRoom(path) ? SqliteCode.FULL : code;
}

function hasRoom(path: string): boolean {
  const tried = `${path}.room`;
  if (Deno.permissions.querySync({ name: "write", path: tried }).state !== "granted") return true;
  let isMade = false;
  try {
    // What lies there already may be another queue: it is left alone, and nothing is found out.
    using file = Deno.openSync(tried, { write: true, createNew: true, mode: 0o600 });
    isMade = true;
    writeAllSync(file, crypto.getRandomValues(new Uint8Array(TRIED_BYTES)));
    // A network filesystem tells of its quota only now.
    file.syncDataSync();
    return true;
  } catch (error) {
    return !isNoRoom(error);
  } finally {
    if (isMade) remove(tried);
  }
}

function remove(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // There is none.
  }
}

/** EDQUOT, for which Deno has neither a class nor a code. */
const QUOTA = /\(os error 122\)$/;

/** Whether an error of the file system says that there is no room. */
export function isNoRoom(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? error.code : undefined;
  return code === "ENOSPC" || code === "EDQUOT" || QUOTA.test(error.message);
}
