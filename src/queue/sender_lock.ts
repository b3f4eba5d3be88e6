/**
 * One sender per queue: the operating system's lock (`flock`) on the file
 * `<queue>.lock`, which dies with its process.
 *
 * It is a file of its own because opening the database beside SQLite would drop
 * SQLite's locks.
 *
 * @module
 */

import { systemClock } from "../base/clock.ts";
import { QueueLockedError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import { lockPathOf, readPid } from "./lock_file.ts";
import { toFileError } from "./sqlite/file_error.ts";

/** Whoever looks whether a sender is there holds the lock for a moment: ask again. */
const LOCK_ATTEMPTS = 5;
const LOCK_RETRY_MS = 5;
/** The exclusive right to send from a queue, held until {@linkcode release}. */
export class SenderLock {
  /** The lock file. */
  readonly path: string;
  readonly #file: Deno.FsFile;
  #held = true;

  private constructor(path: string, file: Deno.FsFile) {
    this.path = path;
    this.#file = file;
  }

  /**
   * Takes the lock of the queue at `queuePath`.
   *
   * @param queuePath The queue's own path, not the lock file's.
   * @param clock Time.
   * @throws {QueueLockedError} Another sender holds it, in this process or another.
   * @throws {QueueFileError} The lock file cannot be made.
   * @throws {Deno.errors.NotCapable} With the flags to add.
   */
  static async acquire(queuePath: string, clock: Clock = systemClock): Promise<SenderLock> {
    let file: Deno.FsFile | undefined;
    try {
      const path = lockPathOf(queuePath);
      file = Deno.openSync(path, { read: true, write: true, create: true, mode: 0o600 });
      if (await tryLockSeveralTimes(file, clock)) {
        file.truncateSync(0);
        file.writeSync(new TextEncoder().encode(`${Deno.pid}\n`));
        const lock = new SenderLock(path, file);
        file = undefined;
        return lock;
      }
      throw new QueueLockedError(queuePath, await readPid(file, clock));
    } catch (error) {
      throw toFileError(error, queuePath);
    } finally {
      file?.close();
    }
  }

  /**
   * Lets other processes read a text about this sender; see {@linkcode readSenderNotice}.
   *
   * @param text Takes the place of the last one; a few KiB at most.
   */
  publish(text: string): void {
    if (!this.#held) return;
    const bytes = new TextEncoder().encode(`${Deno.pid}\n${text}`);
    this.#file.seekSync(0, Deno.SeekMode.Start);
    for (let at = 0; at < bytes.length;) at += this.#file.writeSync(bytes.subarray(at));
    this.#file.truncateSync(bytes.length);
  }

  /** Gives the lock back. Idempotent. The file stays: removing it would race with others. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#file.close();
  }

  /** Same as {@linkcode release}. */
  [Symbol.dispose](): void {
    this.release();
  }
}

async function tryLockSeveralTimes(file: Deno.FsFile, clock: Clock): Promise<boolean> {
  for (let attempt = 1; !file.tryLockSync(true); attempt++) {
    if (attempt === LOCK_ATTEMPTS) return false;
    await new Promise<void>((resolve) => clock.setTimer(LOCK_RETRY_MS, resolve));
  }
  return true;
}
