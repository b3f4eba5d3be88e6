/**
 * Which files a queue consists of. Whoever has a file open goes on with it when its path is given
 * to another file, or to none; what it stores from then on, nobody finds again. So the files are
 * known here by device and inode, and are compared with what the path leads to.
 *
 * Nothing here opens a database file, because closing it again would drop the locks
 * that SQLite holds on it in this process: everything is `stat`.
 */

import { queueFileError } from "./file_error.ts";

export interface FileIdentity {
  readonly dev: number;
  readonly ino: number | null;
}

/** The file that a path leads to; `undefined`: there is none. */
export function identityAt(path: string): FileIdentity | undefined {
  return existing(() => Deno.statSync(path));
}

/** The same for the path itself, where it is a symbolic link. */
export function identityOfLinkAt(path: string): FileIdentity | undefined {
  return existing(() => Deno.lstatSync(path));
}

export function isSymbolicLink(path: string): boolean {
  return existing(() => Deno.lstatSync(path))?.isSymlink ?? false;
}

/** Whether both are there and are one file. */
export function isSameFile(a: FileIdentity | undefined, b: FileIdentity | undefined): boolean {
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}

/** The files of a queue that is open, as they were when it was opened. */
export class QueueFiles {
  readonly #path: string;
  readonly #nowMs: () => number;
  readonly #known = new Map<string, FileIdentity>();
  #lookedAtMs: number;
  #found: string | undefined;

  /**
   * SQLite's `-wal` and `-shm` are among them where this process has the permission to look at
   * them, which no queue needs.
   *
   * @param path The queue's path without symbolic links, open.
   */
  constructor(path: string, nowMs: () => number) {
    this.#path = path;
    this.#nowMs = nowMs;
    this.#lookedAtMs = nowMs();
    for (const file of [path, `${path}-wal`, `${path}-shm`]) {
      const identity = file === path || mayLookAt(file) ? identityAt(file) : undefined;
      if (identity !== undefined) this.#known.set(file, identity);
    }
  }

  /** The same; what was found last where that is younger than so many milliseconds. */
  misplacedWithin(ms: number): string | undefined {
    return this.#nowMs() - this.#lookedAtMs >= ms ? this.misplaced() : this.#found;
  }

  /** What has become of the files, in words; `undefined`: they are where they were. */
  misplaced(): string | undefined {
    this.#lookedAtMs = this.#nowMs();
    return this.#found = this.#look();
  }

  #look(): string | undefined {
    for (const [file, known] of this.#known) {
      const isQueue = file === this.#path;
      let present: FileIdentity | undefined;
      try {
        // Behind a link the same file is one with another name, which has a log and a lock of its
        // own. The path had no links.
        present = isQueue ? identityOfLinkAt(file) : identityAt(file);
      } catch {
        continue; // Nobody can look at it at the moment, and nothing says that it is gone.
      }
      if (isSameFile(known, present)) continue;
      const name = isQueue ? "its file" : `SQLite's file ${file}`;
      return present === undefined
        ? `${name} was removed or moved away while it was in use`
        : `${name} was replaced by another one while it was in use`;
    }
    return undefined;
  }
}

/** Where a file itself lies, as far as this process can see that; the path, where it cannot. */
export function realPathOf(path: string): string {
  try {
    if (mayLookAt(path)) return Deno.realPathSync(path);
  } catch {
    // Nobody can look, or there is none: who opens it says so.
  }
  return path;
}

/** SQLite's log of a database: it lies beside the file itself, and not beside a link to it. */
export function logPathOf(path: string): string {
  return `${realPathOf(path)}-wal`;
}

/**
 * Refuses to make a new queue beside the log of an old one, which SQLite would delete
 * with all packets in it. Where this process may not look at the log, a lock file tells
 * that there was a queue: whoever opens one makes it.
 *
 * @throws {QueueFileError}
 */
export function refuseOrphanedLog(path: string, lockPath: string): void {
  const file = existing(() => Deno.statSync(path));
  if (file !== undefined && (file.size > 0 || !file.isFile)) return;
  const what = file === undefined ? "there is no file" : "the file is empty";
  const log = logPathOf(path);
  if (mayLookAt(log)) {
    const bytes = sizeAt(log);
    if (bytes === 0) return;
    throw queueFileError("misplaced", path, `${what}, but there is its log ${log}`, {
      advice: `The log (${bytes} bytes) holds packets and was left as it is. Put the queue's ` +
        "file back beside it; or move the log away, and a new queue is made.",
    });
  }
  if (!mayLookAt(lockPath) || identityOfLinkAt(lockPath) === undefined) return;
  throw queueFileError("misplaced", path, `${what}, but there was a queue: ${lockPath} is there`, {
    advice: `Its log ${log} may hold packets. With --allow-read=${log} sendq looks by itself; ` +
      "or remove the lock file, once you have seen that there is no such log.",
  });
}

/**
 * Refuses a file that other processes may know under another name: each name would
 * have a `-wal` and a `.lock` of its own, so that two senders could run on the file
 * and each would overwrite what the other one stores.
 *
 * @param path The queue's path without symbolic links.
 * @throws {QueueFileError}
 */
export function refuseSecondName(path: string): void {
  const file = existing(() => Deno.statSync(path));
  if (file === undefined || !file.isFile) return;
  if ((file.nlink ?? 1) > 1) {
    throw queueFileError("misplaced", path, `its file has ${file.nlink} names (hard links)`, {
      advice: "SQLite's log belongs to one of them, and packets stored under another name would " +
        "be lost. Remove the other names; for a copy there is sendq backup.",
    });
  }
  if (isMountPoint(path, file)) {
    throw queueFileError("misplaced", path, "the file is mounted by itself (a bind mount)", {
      advice: "Its log and its lock stay outside, so that two senders could run on it. " +
        "Mount the directory that holds the queue.",
    });
  }
}

/**
 * The same for who only looks: nothing is missing under the name that has the log beside it.
 *
 * @throws {QueueFileError}
 */
export function refuseSecondNameWithoutLog(path: string): void {
  const log = `${path}-wal`;
  if (!mayLookAt(log) || sizeAt(log) === 0) refuseSecondName(path);
}

/** By the kernel's list where Deno lets this process read it; else by the lock file beside it. */
function isMountPoint(path: string, file: FileIdentity): boolean {
  const mounts = Deno.build.os === "linux" && mayReadProc()
    ? existing(() => Deno.readTextFileSync("/proc/self/mountinfo"))
    : undefined;
  if (mounts !== undefined) {
    return mounts.split("\n").some((line) => unescaped(line.split(" ")[4] ?? "") === path);
  }
  const lockPath = `${path}.lock`;
  const lock = mayLookAt(lockPath) ? existing(() => Deno.lstatSync(lockPath)) : undefined;
  return lock !== undefined && lock.dev !== file.dev;
}

/** What is below /proc/self takes all permissions; on a terminal Deno asks for each that is missing. */
function mayReadProc(): boolean {
  const names = ["read", "write", "net", "env", "sys", "run", "ffi", "import"] as const;
  return names.every((name) => Deno.permissions.querySync({ name }).state === "granted");
}

/** The kernel writes a blank in a path as `\040`. */
function unescaped(path: string): string {
  return path.replaceAll(
    /\\([0-7]{3})/g,
    (_, octal: string) => String.fromCharCode(parseInt(octal, 8)),
  );
}

function sizeAt(path: string): number {
  return existing(() => Deno.statSync(path))?.size ?? 0;
}

export function mayLookAt(path: string): boolean {
  return Deno.permissions.querySync({ name: "read", path }).state === "granted";
}

function existing<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw error;
  }
}
