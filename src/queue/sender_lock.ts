/**
 * One sender per queue, and a bell for it: both are the file `<queue>.lock`.
 *
 * The lock is the operating system's (`flock`), so it dies with its process. It
 * is a file of its own because opening the database beside SQLite would drop
 * SQLite's locks. A process that has enqueued rings by touching the file's
 * times; the sender watches it. Its first line is the sender's process id; what
 * the sender publishes about itself, for other processes, stands behind it.
 *
 * @module
 */

import { systemClock } from "../base/clock.ts";
import { QueueLockedError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import { toFileError } from "./sqlite/file_error.ts";

/** The lock file of a queue. */
export function lockPathOf(queuePath: string): string {
  let path = queuePath;
  try {
    // The same file under two names must have one lock.
    path = Deno.realPathSync(queuePath);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return `${path}.lock`;
}

/** A sender looks at the file this often even when nobody has rung. */
const POLL_MS = 1000;
/** A loser reads the holder's pid until two readings agree, this far apart. */
const PID_READ_MS = 5;
const PID_READS = 20;
const PID_LINE_BYTES = 32;

/** Whoever looks whether a sender is there holds the lock for a moment: ask again. */
const LOCK_ATTEMPTS = 5;
const LOCK_RETRY_MS = 5;
/** More than any sender publishes. */
const MAX_NOTICE_BYTES = 64 * 1024;

/** How a sender hears of packets that other processes have stored. */
export interface Doorbell {
  /** `"watch"`: at once; `"poll"`: within a second. */
  readonly mode: "watch" | "poll";
  /** Why it only polls. */
  readonly pollReason: string | undefined;
  /** Stops listening. */
  stop(): Promise<void>;
}

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
   * Calls back when another process has rung, and once a second besides: a
   * process without the right to touch the lock file cannot ring.
   */
  listen(onRing: () => void, clock: Clock = systemClock): Doorbell {
    let stopTimer = clock.setTimer(POLL_MS, tick);
    function tick(): void {
      stopTimer = clock.setTimer(POLL_MS, tick);
      onRing();
    }
    let watcher: Deno.FsWatcher;
    try {
      watcher = Deno.watchFs(this.path);
    } catch (error) {
      // Typically no inotify instances are left (fs.inotify.max_user_instances).
      const pollReason = error instanceof Error ? error.message : String(error);
      return {
        mode: "poll",
        pollReason,
        stop() {
          stopTimer();
          return Promise.resolve();
        },
      };
    }
    const watching = watch(watcher, onRing);
    let stopped = false;
    return {
      mode: "watch",
      pollReason: undefined,
      stop() {
        stopTimer();
        if (!stopped) watcher.close();
        stopped = true;
        return watching;
      },
    };
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

async function watch(watcher: Deno.FsWatcher, onRing: () => void): Promise<void> {
  for await (const event of watcher) {
    if (event.kind !== "access") onRing();
  }
}

async function tryLockSeveralTimes(file: Deno.FsFile, clock: Clock): Promise<boolean> {
  for (let attempt = 1; !file.tryLockSync(true); attempt++) {
    if (attempt === LOCK_ATTEMPTS) return false;
    await new Promise<void>((resolve) => clock.setTimer(LOCK_RETRY_MS, resolve));
  }
  return true;
}

/** What a running sender says about itself. */
export interface SenderNotice {
  /** Its process. */
  readonly pid: number;
  /** What it published last; empty when nothing yet. */
  readonly text: string;
}

/**
 * Asks whether a sender runs on a queue, in whichever process, and reads what
 * it has published. Needs the right to read the lock file, nothing else.
 *
 * @param queuePath The queue's own path.
 * @param clock Time.
 * @returns `undefined`: no sender has the queue.
 * @throws {QueueFileError} The lock file cannot be read.
 * @throws {Deno.errors.NotCapable} With the flags to add.
 */
export async function readSenderNotice(
  queuePath: string,
  clock: Clock = systemClock,
): Promise<SenderNotice | undefined> {
  let file: Deno.FsFile | undefined;
  try {
    file = Deno.openSync(lockPathOf(queuePath), { read: true });
    if (file.tryLockSync(false)) {
      file.unlockSync();
      return undefined;
    }
    const text = await readTwice(
      file,
      MAX_NOTICE_BYTES,
      clock,
      (text) => /^[1-9][0-9]*\n/.test(text),
    );
    if (text === undefined) return undefined;
    const line = text.indexOf("\n");
    return { pid: Number(text.slice(0, line)), text: text.slice(line + 1) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw toFileError(error, queuePath);
  } finally {
    file?.close();
  }
}

/**
 * Reads who holds the lock. Between taking it and writing its pid a holder
 * leaves the old text, or none, for a moment: only two equal readings count.
 */
async function readPid(file: Deno.FsFile, clock: Clock): Promise<number | undefined> {
  const pidOf = (text: string) => /^([1-9][0-9]*)\n/.exec(text)?.[1];
  const text = await readTwice(file, PID_LINE_BYTES, clock, (text) => pidOf(text) !== undefined);
  return text === undefined ? undefined : Number(pidOf(text));
}

/** Reads the file's beginning until two readings agree: one alone may be half written. */
async function readTwice(
  file: Deno.FsFile,
  maxBytes: number,
  clock: Clock,
  isWhole: (text: string) => boolean,
): Promise<string | undefined> {
  const buffer = new Uint8Array(maxBytes);
  let previous: string | undefined;
  for (let i = 0; i < PID_READS; i++) {
    file.seekSync(0, Deno.SeekMode.Start);
    const length = file.readSync(buffer) ?? 0;
    const text = new TextDecoder().decode(buffer.subarray(0, length));
    if (isWhole(text) && text === previous) return text;
    previous = text;
    await new Promise<void>((resolve) => clock.setTimer(PID_READ_MS, resolve));
  }
  return undefined;
}

/** Rings at most this often; the last ring of a burst comes late, never not at all. */
const RING_INTERVAL_MS = 5;

/** Tells the sender, in another process, that there are packets. */
export class DoorbellRinger {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #mayRing: boolean;
  #lastRingMs = -Infinity;
  #cancelTrailing: (() => void) | undefined;

  /**
   * Makes a ringer.
   *
   * @param queuePath The queue's path.
   * @param clock Time.
   */
  constructor(queuePath: string, clock: Clock) {
    this.#path = lockPathOf(queuePath);
    this.#clock = clock;
    // Asked beforehand, so that nothing prompts.
    this.#mayRing = Deno.permissions.querySync({ name: "write", path: this.#path }).state ===
      "granted";
  }

  /** Rings, now or a few milliseconds later. */
  ring(): void {
    if (!this.#mayRing || this.#cancelTrailing !== undefined) return;
    const waitMs = this.#lastRingMs + RING_INTERVAL_MS - this.#clock.nowMs();
    if (waitMs <= 0) return this.#touch();
    this.#cancelTrailing = this.#clock.setTimer(waitMs, () => {
      this.#cancelTrailing = undefined;
      this.#touch();
    });
  }

  /** Does at once what was put off. */
  flush(): void {
    if (this.#cancelTrailing === undefined) return;
    this.#cancelTrailing();
    this.#cancelTrailing = undefined;
    this.#touch();
  }

  #touch(): void {
    this.#lastRingMs = this.#clock.nowMs();
    const seconds = this.#clock.wallMs() / 1000;
    try {
      Deno.utimeSync(this.#path, seconds, seconds);
    } catch {
      // No sender has ever been here, or it is another user's: the sender looks
      // once a second by itself.
    }
  }
}
