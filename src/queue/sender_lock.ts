/**
 * One sender per queue: the operating system's lock (`flock`) on the file
 * `<queue>.lock`, which dies with its process.
 *
 * It is a file of its own because opening the database beside SQLite would drop SQLite's locks.
 */

import { systemClock } from "../base/clock.ts";
import { QueueFileError, QueueLockedError } from "../base/errors.ts";
import type { Allocate, Clock } from "../base/ports.ts";
import { writeAllSync } from "../base/write_all.ts";
import { rest } from "../base/waits.ts";
import {
  encodeNotice,
  lockPathOf,
  NOTICE_BYTES,
  readPid,
  RESERVE_START,
  toLockFileError,
} from "./lock_file.ts";
import { Reserve } from "./reserve.ts";
import { makeBeside, openBeside, openOrMakeBeside } from "./sqlite/beside.ts";
import { queueFileError } from "./sqlite/file_error.ts";
import {
  type FileIdentity,
  identityOfLinkAt,
  isSameFile,
  refuseSecondName,
} from "./sqlite/file_identity.ts";
import type { Tenure } from "./tenure.ts";

/** Whoever looks whether a sender is there holds the lock for a moment: ask again. */
const LOCK_ATTEMPTS = 5;
const LOCK_RETRY_MS = 5;
/** Somebody has removed the file between its opening and its locking: begin again. */
const OPEN_ATTEMPTS = 5;

/**
 * The exclusive right to send from a queue, held until {@linkcode SenderLock.release}.
 *
 * @category Tools
 */
export class SenderLock implements Tenure {
  /** Nobody counts the senders of a file. */
  readonly epoch = 0;
  /** The lock file. */
  readonly path: string;
  readonly #file: Deno.FsFile;
  readonly #identity: FileIdentity;
  readonly #reserve: Reserve;
  /** The last notice's length: the next one covers it. */
  #noticeBytes = NOTICE_BYTES;
  #held = true;
  /** Those of this isolate. A number says little: two containers may both have a process 1. */
  static readonly #own = new Set<SenderLock>();

  private constructor(
    path: string,
    file: Deno.FsFile,
    identity: FileIdentity,
    allocate: Allocate | undefined,
  ) {
    this.path = path;
    this.#file = file;
    this.#identity = identity;
    try {
      this.publish("");
    } catch {
      // The disk is full; the lock holds all the same, and others do not learn the process.
    }
    this.#reserve = new Reserve(file, path, allocate);
  }

  /**
   * Takes the lock of the queue at `queuePath`.
   *
   * @param queuePath The queue's own path, not the lock file's.
   * @param allocate Keeps disk space without writing it.
   * @throws {QueueLockedError} Another sender holds it, in this process or another.
   * @throws {QueueFileError} The lock file cannot be made, or is a symbolic link; or the
   *   queue's file has a second name, under which another sender could run.
   * @throws {Deno.errors.NotCapable} With the flags to add.
   */
  static async acquire(
    queuePath: string,
    clock: Clock = systemClock,
    allocate?: Allocate,
  ): Promise<SenderLock> {
    let file: Deno.FsFile | undefined;
    let path = queuePath;
    try {
      path = lockPathOf(queuePath);
      for (let attempt = 1; attempt <= OPEN_ATTEMPTS; attempt++) {
        file = openOrMakeBeside(queuePath, path);
        if (!await tryLockSeveralTimes(file, clock)) {
          const pid = await readPid(file, clock);
          throw new QueueLockedError(queuePath, pid, "queue", SenderLock.#isOwn(file));
        }
        const { dev, ino } = file.statSync();
        if (isSameFile({ dev, ino }, identityOfLinkAt(path))) {
          refuseSecondName(path.slice(0, -".lock".length));
          const lock = new SenderLock(path, file, { dev, ino }, allocate);
          file = undefined;
          SenderLock.#own.add(lock);
          return lock;
        }
        file.close();
        file = undefined;
      }
      throw queueFileError(
        "misplaced",
        queuePath,
        `its lock file ${path} is removed all the time`,
        {
          advice: "Find out which program does that: without the file two senders can run.",
        },
      );
    } catch (error) {
      if (error instanceof QueueFileError) throw error;
      throw toLockFileError(error, queuePath, path);
    } finally {
      file?.close();
    }
  }

  static #isOwn(file: Deno.FsFile): boolean {
    const identity = file.statSync();
    return [...SenderLock.#own].some((lock) => isSameFile(lock.#identity, identity));
  }

  /**
   * Lets other processes read a text about this sender; a {@linkcode Sender} publishes its
   * {@linkcode SenderReport}.
   *
   * @param text Takes the place of the last one; a few KiB at most.
   * @throws {RangeError} It is longer than 32 KiB.
   */
  publish(text: string): void {
    if (!this.#held) return;
    const notice = encodeNotice(text);
    // The old one is covered and not cut off: that never needs new room on the disk.
    const bytes = new Uint8Array(Math.max(notice.length, this.#noticeBytes));
    bytes.set(notice);
    this.#file.seekSync(0, Deno.SeekMode.Start);
    writeAllSync(this.#file, bytes);
    this.#noticeBytes = notice.length;
  }

  /**
   * What has become of the lock file, in words, so that another sender may have begun;
   * `undefined`: it is where it was.
   */
  misplaced(): string | undefined {
    if (!this.#held) return undefined;
    let present;
    try {
      present = identityOfLinkAt(this.path);
      if (isSameFile(this.#identity, present)) return undefined;
    } catch {
      return undefined; // Nobody can look at it at the moment.
    }
    return `its lock file ${this.path} was ${present === undefined ? "removed" : "replaced"} ` +
      "while its sender ran";
  }

  /** The operating system takes it from nobody who lives. */
  validForMs(): number {
    return this.#held ? Infinity : 0;
  }

  /** It never lapses. */
  subscribeLapsed(): () => void {
    return () => {};
  }

  /** Nobody takes it over; see {@linkcode SenderLock.misplaced}. */
  subscribeLost(): () => void {
    return () => {};
  }

  /** The lock itself: its file keeps the disk space for removals. */
  get spare(): this {
    return this;
  }

  /** The disk space that is kept for removals. */
  get reserveBytes(): number {
    return this.#reserve.bytes;
  }

  /** What {@linkcode SenderLock.reserveBytes} should be: 8 MiB, on a small disk less. */
  get wantedReserveBytes(): number {
    return this.#reserve.wantedBytes;
  }

  /** Gives the reserve up, for a removal on a full disk. Returns whether there was any. */
  releaseReserve(): boolean {
    return this.#held && this.#reserve.release();
  }

  /** Puts back what was given up, as far as there is room. Returns whether it is whole. */
  restoreReserve(): boolean {
    return this.#held && this.#reserve.restore();
  }

  /** Gives the lock back. Idempotent. The file stays: removing it would race with others. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    SenderLock.#own.delete(this);
    this.#file.close();
  }

  /** Same as {@linkcode SenderLock.release}. */
  [Symbol.dispose](): void {
    this.release();
  }
}

/**
 * Makes the lock file of a queue that has none, with the reserve in it: then there is
 * one, too, when a queue has filled its disk before its first sender starts. Harmless
 * where it fails, or where this process may not.
 *
 * @throws {QueueFileError} The file has a second name, which may show only beside its lock.
 */
export function prepareLockFile(queuePath: string): void {
  const path = lockPathOf(queuePath);
  if (!mayUse(path)) return;
  try {
    using file = makeBeside(queuePath, path);
    // Nothing is written before the reserve: a sender may have the lock by now.
    new Reserve(file, path);
  } catch {
    // The sender makes it, or says why it cannot.
  }
  refuseSecondName(queuePath);
}

/** SQLite's `-shm` and the first pages of its log. */
const ROOM_TO_OPEN_BYTES = 256 * 1024;

/**
 * Gives up as much of the reserve as it takes to open the queue on a full disk. The next
 * sender puts it back. Where a sender runs, the queue is open already.
 *
 * @returns Whether there was any.
 */
export function makeRoomToOpen(queuePath: string): boolean {
  const path = lockPathOf(queuePath);
  if (!mayUse(path)) return false;
  try {
    using file = openBeside(queuePath, path, { write: true });
    const { size } = file.statSync();
    if (size <= RESERVE_START || !file.tryLockSync(true)) return false;
    file.truncateSync(Math.max(RESERVE_START, size - ROOM_TO_OPEN_BYTES));
    return true;
  } catch {
    return false;
  }
}

function mayUse(path: string): boolean {
  return (["read", "write"] as const).every((name) =>
    Deno.permissions.querySync({ name, path }).state === "granted"
  );
}

async function tryLockSeveralTimes(file: Deno.FsFile, clock: Clock): Promise<boolean> {
  for (let attempt = 1; !file.tryLockSync(true); attempt++) {
    if (attempt === LOCK_ATTEMPTS) return false;
    await rest(clock, LOCK_RETRY_MS);
  }
  return true;
}
