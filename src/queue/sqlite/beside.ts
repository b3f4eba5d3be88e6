/**
 * Opening the files that lie beside a queue: its lock file, the reports of a spool. The directory
 * may be another user's, who can put a link to any file in their place at any moment. So such a
 * file is opened unchanged, and then it is seen whether it is the one that lies there.
 *
 * And making a file for a database, which is done here alone: SQLite deletes a log that it finds
 * beside an empty file, and with it the packets in it.
 */

import { queueFileError, refuseLongName } from "./file_error.ts";
import {
  type FileIdentity,
  identityAt,
  identityOfLinkAt,
  isSameFile,
  isSymbolicLink,
  mayLookAt,
  refuseOrphanedLog,
} from "./file_identity.ts";

/** Somebody removes it between two calls: begin again. */
const ATTEMPTS = 5;

/**
 * Opens such a file for reading, and for writing where that is asked for.
 *
 * @throws {QueueFileError} It is a link, or another file than the one that lies there.
 * @throws {Deno.errors.NotFound} There is none.
 */
export function openBeside(
  queuePath: string,
  path: string,
  access: { readonly write: boolean },
): Deno.FsFile {
  if (isSymbolicLink(path)) throw isALink(queuePath, path);
  const file = Deno.openSync(path, { read: true, ...access });
  try {
    const opened = file.statSync();
    if (isSameFile(opened, identityOfLinkAt(path)) && (opened.nlink ?? 1) === 1) return file;
    throw isALink(queuePath, path);
  } catch (error) {
    file.close();
    throw error;
  }
}

/**
 * The same for writing; where there is none, makes one that belongs to the queue's owner.
 *
 * @throws {QueueFileError} As `openBeside`.
 */
export function openOrMakeBeside(queuePath: string, path: string): Deno.FsFile {
  for (let attempt = 1;; attempt++) {
    try {
      return makeBeside(queuePath, path);
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
    try {
      return openBeside(queuePath, path, { write: true });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound) || attempt === ATTEMPTS) throw error;
    }
  }
}

/** @throws {Deno.errors.AlreadyExists} There is one. */
export function makeBeside(queuePath: string, path: string): Deno.FsFile {
  // Follows no link, not even one that leads to nothing.
  const file = Deno.openSync(path, { read: true, write: true, createNew: true, mode: 0o600 });
  try {
    shareLikeQueue(queuePath, path, file);
  } catch {
    // It may belong to a group that this user is not in. Then it is this user's.
  }
  return file;
}

/**
 * Who may use the queue may use what lies beside it: where root sends or stores once by hand, the
 * queue's own user must be able to send afterwards, and where several users share a group, each.
 */
function shareLikeQueue(queuePath: string, path: string, file: Deno.FsFile): void {
  const { uid, gid, mode } = Deno.statSync(queuePath);
  const made = file.statSync();
  const isOpenToSame = mode === null || ((mode ^ (made.mode ?? mode)) & 0o666) === 0;
  const isOthers = uid !== made.uid || gid !== made.gid;
  if (uid === null || gid === null || mode === null || (isOpenToSame && !isOthers)) return;
  // Loaded only here: the runtime takes 50 ms of CPU for it. It alone can change a file that is
  // open, and not what its path leads to by now.
  const fs = process.getBuiltinModule("node:fs");
  const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_NOFOLLOW);
  try {
    const { dev, ino } = fs.fstatSync(fd);
    if (!isSameFile(made, { dev, ino })) return;
    if (!isOpenToSame) fs.fchmodSync(fd, mode & 0o666);
    if (!isOthers) return;
    try {
      fs.fchownSync(fd, uid, gid);
    } catch {
      // Only root can give files away; to a group of one's own each can.
      fs.fchownSync(fd, made.uid ?? uid, gid);
    }
  } finally {
    fs.closeSync(fd);
  }
}

function isALink(queuePath: string, path: string): Error {
  const what = `its file ${path} is a link to another one, or was replaced while it was opened`;
  return queueFileError("misplaced", queuePath, what, {
    advice: "It was not followed. Remove it; sendq makes a file of its own there.",
  });
}

/** The first line of a lock file, and more. */
const PID_LINE_BYTES = 32;

/**
 * Makes an empty file for this user alone, where a database will be.
 *
 * @returns Which file that is.
 * @throws {QueueFileError} As `refuseWhatIsLeft`; or its name is too long.
 * @throws {Deno.errors.AlreadyExists} There is a file.
 */
export function createDatabase(path: string): FileIdentity {
  refuseLongName(path);
  refuseWhatIsLeft(path);
  using file = Deno.openSync(path, { write: true, createNew: true, mode: 0o600 });
  try {
    // A relative path has become longer.
    refuseLongName(Deno.realPathSync(path));
  } catch (error) {
    Deno.removeSync(path);
    throw error;
  }
  const { dev, ino } = file.statSync();
  return { dev, ino };
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
