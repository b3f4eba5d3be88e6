/**
 * From what went wrong underneath to the one error that a caller sees, with
 * what to do next.
 */

import { type CommitOutcome, QueueFileError, type QueueFileReason } from "../../base/errors.ts";
import { writeAllSync } from "../../base/write_all.ts";
import { SqliteCode, SqliteError } from "./driver.ts";

const ADVICE: { readonly [reason in QueueFileReason]: string } = {
  "not-a-queue": "It was left as it is. Choose another path for the queue.",
  "newer-version": "It was left as it is. Open it with a newer sendq.",
  "corrupt": "Nothing was changed. Keep a copy, then save what can still be read " +
    "into a new queue: sendq repair.",
  "disk-full":
    "Nothing was stored. Make room (df, df -i), or raise the quota; the queue works again at once.",
  "read-only": "Nothing was stored. The file, its directory (SQLite keeps -wal and -shm files " +
    "there) and its filesystem must be writable for this user.",
  "busy": "Nothing was stored. Try again, or raise busyTimeoutMs.",
  "io":
    "Nothing was stored. Look into the system's log for faults of the disk; and whether files " +
    "may not grow any further (ulimit -f).",
  "misplaced": "What this process stored last may lie where nobody finds it. Put the file back, " +
    "or start this program again; then store those packets once more.",
};

export function queueFileError(
  reason: QueueFileReason,
  path: string,
  what: string,
  options: ErrorOptions & {
    readonly advice?: string | undefined;
    readonly outcome?: CommitOutcome;
  } = {},
): QueueFileError {
  const { advice = ADVICE[reason], ...rest } = options;
  return new QueueFileError(reason, path, `Queue ${path}: ${what}. ${advice}`, rest);
}

export function diskFull(path: string, options?: ErrorOptions): QueueFileError {
  return queueFileError("disk-full", path, "the disk is full", options);
}

/** The words of SQLite's error, and of ours. */
const TOO_LARGE = "a file of it may not grow any further (EFBIG)";
const RAISE_SIZE_LIMIT = "Nothing was stored. Raise the limit for the sizes of files (prlimit " +
  "--fsize, ulimit -f, LimitFSIZE=): until then what is delivered may not be removed, either. " +
  "A smaller maxBytes keeps the queue below it.";

function noRoom(cause: unknown, path: string): QueueFileError {
  return cause instanceof Error && (cause.message === TOO_LARGE || isTooLarge(cause))
    ? queueFileError("disk-full", path, TOO_LARGE, { cause, advice: RAISE_SIZE_LIMIT })
    : diskFull(path, { cause });
}

export function errorsOf(
  cause: unknown,
  path: string,
): (reason: QueueFileReason, what: string, advice?: string) => QueueFileError {
  return (reason, what, advice) => queueFileError(reason, path, what, { cause, advice });
}

/** What the operating system calls an error, where Deno says so: `"ENOENT"`. */
export function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/**
 * Translates an error of SQLite or of Deno's file system. Anything else comes
 * back as it is.
 */
export function toFileError(error: unknown, path: string): unknown {
  if (error instanceof SqliteError) return fromSqlite(error, path);
  if (error instanceof Deno.errors.NotCapable) return withFlags(error, path);
  if (isNoRoom(error)) return noRoom(error, path);
  if (error instanceof Error && /^E[A-Z0-9]+$/.test(String(codeOf(error)))) {
    return fromFileSystem(error, path);
  }
  return error;
}

function fromSqlite(error: SqliteError, path: string): QueueFileError {
  const make = errorsOf(error, path);
  switch (error.code) {
    case SqliteCode.IOERR_SHMOPEN:
    case SqliteCode.IOERR_SHMSIZE:
      return diskFull(path, { cause: error });
  }
  switch (error.primaryCode) {
    case SqliteCode.FULL:
      return noRoom(error, path);
    case SqliteCode.CORRUPT:
      // SQLite has found it, or we have, in a row.
      return make(
        "corrupt",
        error.message.includes("malformed") ? "a page of the file cannot be read" : error.message,
      );
    case SqliteCode.NOTADB:
      return make("not-a-queue", "the file is not a database");
    case SqliteCode.READONLY:
      return othersFile(error, path) ?? make("read-only", "the file cannot be written");
    case SqliteCode.BUSY:
    case SqliteCode.LOCKED:
    case SqliteCode.PROTOCOL:
      return make("busy", "another process kept the file locked");
    case SqliteCode.CANTOPEN:
      return cannotOpen(error, path);
    case SqliteCode.IOERR:
      return make("io", `the disk reported an error (SQLite code ${error.code})`);
    default:
      return make("io", `SQLite failed: ${error.message} (code ${error.code})`);
  }
}

/** SQLite says only "unable to open": look at the path, never into the file. */
function cannotOpen(error: SqliteError, path: string): QueueFileError {
  const make = errorsOf(error, path);
  if (saysTooManyFiles(error)) return make("io", error.message, RAISE_LIMIT);
  try {
    if (Deno.statSync(path).isDirectory) return make(...DIRECTORY);
    // It may be that there is no room for SQLite's own files, or no inode.
    return othersFile(error, path) ??
      (hasRoom(Deno.realPathSync(path))
        ? make("read-only", "the file cannot be opened for writing")
        : diskFull(path, { cause: error }));
  } catch (statError) {
    if (statError instanceof Deno.errors.NotFound) return make("io", ...whatIsMissing(path));
    return make("io", "the file cannot be opened");
  }
}

/** A filesystem's 255 and SQLite's 512, less `-journal`, the longest name that SQLite puts beside. */
const MAX_NAME_BYTES = 247;
const MAX_PATH_BYTES = 504;
const TOO_LONG = [
  "its name is too long",
  `Nothing was made. It may have ${MAX_NAME_BYTES} bytes, and its whole path ${MAX_PATH_BYTES}: ` +
  "SQLite keeps files beside it whose names are longer.",
] as const;

/**
 * Before SQLite says no more than that it cannot open it, and leaves an empty file behind.
 *
 * @param path Without symbolic links.
 * @throws {QueueFileError}
 */
export function refuseLongName(path: string): void {
  const bytesOf = (text: string) => new TextEncoder().encode(text).length;
  const name = path.slice(path.lastIndexOf("/") + 1);
  if (bytesOf(name) <= MAX_NAME_BYTES && bytesOf(path) <= MAX_PATH_BYTES) return;
  const [what, advice] = TOO_LONG;
  throw queueFileError("not-a-queue", path, what, { advice });
}

const DIRECTORY = [
  "not-a-queue",
  "the path is a directory",
  "Give the path of a file in it.",
] as const;

/** What is not there, so that no file can be made. */
function whatIsMissing(path: string): [string, string] {
  try {
    Deno.lstatSync(path);
    return ["it is a link to a file that does not exist", "Mend the link."];
  } catch {
    return ["its directory does not exist", "Create the directory first."];
  }
}

const TOO_MANY_FILES = ["EMFILE", "ENFILE"].map((code) => `too many open files (${code})`);
const RAISE_LIMIT = "Nothing was stored. Raise the limit: ulimit -n, LimitNOFILE=; or have this " +
  "process hold fewer files and connections.";

/** Whether a file could not be opened because the process, or the machine, has too many open. */
export function saysTooManyFiles(error: SqliteError): boolean {
  return TOO_MANY_FILES.includes(error.message);
}

/**
 * What "unable to open" means, while SQLite still holds what it could open: the words for too many
 * open files, or those that it came with.
 *
 * @param path The file that was to be opened.
 */
export function wordsOfOpening(words: string, path: string): string {
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return words;
  try {
    // A file is no directory: it is not opened, and no lock is lost by closing it. But Linux takes
    // a descriptor before it looks at the path.
    for (const _ of Deno.readDirSync(path)) break;
  } catch (error) {
    const code = codeOf(error);
    return TOO_MANY_FILES.find((known) => known.includes(`(${code})`)) ?? words;
  }
  return words;
}

/**
 * Why a file cannot be opened, where one that SQLite keeps beside it may be the reason: it belongs
 * to whoever has made it, and by itself to that user's first group.
 *
 * @returns `undefined`: both belong to the owner and the group of the file.
 */
export function othersFile(cause: SqliteError, path: string): QueueFileError | undefined {
  try {
    const own = Deno.statSync(path);
    const real = Deno.realPathSync(path);
    for (const file of [`${real}-wal`, `${real}-shm`]) {
      if (Deno.permissions.querySync({ name: "read", path: file }).state !== "granted") continue;
      const { uid, gid } = Deno.lstatSync(file);
      if (uid === own.uid && gid === own.gid) continue;
      const what = `SQLite's file ${file} belongs to user ${uid} and group ${gid}, and the queue ` +
        `to ${own.uid} and ${own.gid}: this user may not open it`;
      return queueFileError("read-only", path, what, {
        cause,
        advice:
          "Nothing was stored. Where several users share the queue by a group, its directory " +
          "has to hand that on: chgrp GROUP and chmod g+s for it; and chgrp once for this file.",
      });
    }
  } catch {
    // There is none, or nobody may look.
  }
  return undefined;
}

function fromFileSystem(error: Error, path: string): QueueFileError {
  const make = errorsOf(error, path);
  const code = codeOf(error);
  switch (code) {
    case "ENOENT":
      return make("io", ...whatIsMissing(path));
    case "ENOTDIR":
    case "ELOOP":
      return make("not-a-queue", error.message);
    case "ENAMETOOLONG":
      return make("not-a-queue", ...TOO_LONG);
    case "EISDIR":
      return make(...DIRECTORY);
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return make("read-only", `it cannot be written (${code})`);
    case "EMFILE":
    case "ENFILE":
      return make("io", `too many open files (${code})`, RAISE_LIMIT);
    default:
      return make("io", error.message);
  }
}

/**
 * Says which flags a queue and its lock file need. Deno compares what stands in a flag
 * with the path without symbolic links, too: where it asks for that one, both are named.
 */
function withFlags(error: Error, path: string): Error {
  const [, asked = path] = /access to "([^"]+)"/.exec(error.message) ?? [];
  const real = asked.replace(/(\.lock|-wal|-shm|-journal)$/, "");
  const isOther = real.startsWith("/") && !real.endsWith(path);
  const files = (isOther ? [path, real] : [path]).flatMap((file) => [file, `${file}.lock`]).join();
  return new Deno.errors.NotCapable(
    `Queue ${path} needs --allow-read=${files} --allow-write=${files} (${error.message})`,
    { cause: error },
  );
}

/** More than a page: that is what has just found no room. */
const TRIED_BYTES = 64 * 1024;

/**
 * What a code of SQLite's means: a write that has failed, where there is no room, is `FULL`.
 *
 * @param path The file that was being written.
 * @returns With the words for it, where they are others than SQLite's.
 */
export function whatOfWrite(code: number, path: string): { code: number; words?: string } {
  if (code !== SqliteCode.IOERR_WRITE) return { code };
  const found = lackOfRoom(path);
  if (found === undefined) return { code };
  return { code: SqliteCode.FULL, ...(isTooLarge(found) ? { words: TOO_LARGE } : {}) };
}

function hasRoom(path: string): boolean {
  return lackOfRoom(path) === undefined;
}

/**
 * Writes `<path>.room`, as far behind its beginning as the queue's files reach, and removes it.
 *
 * @returns What says that there is no room. `undefined`: there is some, or nobody may find out.
 */
function lackOfRoom(path: string): unknown {
  const tried = `${path}.room`;
  if (Deno.permissions.querySync({ name: "write", path: tried }).state !== "granted") {
    return undefined;
  }
  try {
    // What lies there already may be another queue: it is left alone, and nothing is found out.
    using file = Deno.openSync(tried, { write: true, createNew: true, mode: 0o600 });
    try {
      file.seekSync(largestOf(path), Deno.SeekMode.Start);
      writeAllSync(file, crypto.getRandomValues(new Uint8Array(TRIED_BYTES)));
      // A network filesystem tells of its quota only now.
      file.syncDataSync();
    } finally {
      try {
        Deno.removeSync(tried);
      } catch {
        // Somebody else has removed it: what the write has said stands.
      }
    }
    return undefined;
  } catch (error) {
    return isNoRoom(error) ? error : undefined;
  }
}

/** What SQLite's log mostly stays below, where this process may not look at it. */
const LOG_BYTES = 16 * 1024 * 1024;

/** How large the larger one of a queue's file and its log is. */
function largestOf(path: string): number {
  const sizeOf = (file: string, otherwise: number) => {
    try {
      return Deno.statSync(file).size;
    } catch (error) {
      return error instanceof Deno.errors.NotFound ? 0 : otherwise;
    }
  };
  return Math.max(sizeOf(path, 0), sizeOf(`${path}-wal`, LOG_BYTES));
}

/** Whether a caller would be told that the disk is full. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof QueueFileError && error.reason === "disk-full";
}

/** The same, or that it may be, where nobody may find out. */
export function mayBeFull(error: unknown): boolean {
  if (isDiskFull(error)) return true;
  const { cause, reason } = error instanceof QueueFileError ? error : {};
  if (!(cause instanceof SqliteError)) return false;
  return cause.code === SqliteCode.IOERR_WRITE || cause.code === SqliteCode.IOERR_FSYNC ||
    reason === "read-only" && cause.primaryCode === SqliteCode.CANTOPEN;
}

/** EDQUOT, for which Deno has neither a class nor a code. */
const QUOTA = /\(os error 122\)$/;

export function isNoRoom(error: unknown): boolean {
  return error instanceof Error &&
    (["ENOSPC", "EDQUOT"].includes(String(codeOf(error))) || QUOTA.test(error.message) ||
      isTooLarge(error));
}

/** EFBIG: a limit of this process or of the filesystem for the size of each file. */
function isTooLarge(error: unknown): boolean {
  return error instanceof Error &&
    (codeOf(error) === "EFBIG" || /\(os error 27\)$/.test(error.message));
}
