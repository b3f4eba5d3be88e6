/**
 * Where SQLite's log is synced: in the event loop, or where that holds up nothing else.
 *
 * In the loop, SQLite syncs its log within COMMIT (`synchronous=FULL`), and nothing else happens
 * meanwhile. In threads, COMMIT only writes (`synchronous=NORMAL`), and a thread of the runtime
 * syncs the log. Whoever commits is told once the disk has it, in either case: see
 * docs/decisions/sync_in_threads.md.
 */

import { messageOf } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import type { SyncIn } from "./options.ts";
import { queueFileError } from "./sqlite/file_error.ts";
import { type FileIdentity, identityAt, isSameFile, mayLookAt } from "./sqlite/file_identity.ts";
import type { DatabaseFile } from "./store/database_file.ts";

/** The loop should not stand still for longer again and again, whichever queue commits. */
const SLOW_MS = 1;
/** A sync that takes no longer than this costs less than the way to a thread and back. */
const QUICK_MS = 0.5;
/** One that takes long now and then makes no slow disk. */
const IN_A_ROW = 16;
/**
 * What writing takes is no wait, and a thread does not make it shorter: commits of 400 KiB that
 * went by threads took a third more CPU for each packet.
 */
const WRITTEN_BYTES_PER_MS = 256 * 1024;
/**
 * The next commit that stores packets syncs a removal, too; where none comes in this time, it has
 * its own. What a power cut takes of it is sent once more.
 */
const REMOVAL_SYNC_MS = 2000;

/** Whether a disk is slow, from how long it takes each time. */
export class SyncPace {
  /** Whether the syncs belong into a thread. */
  isSlow = false;
  /** Queues of this process on that disk. */
  queues = 0;
  #others = 0;

  /** Takes the next one, and how many bytes were written in it. */
  take(ms: number, writtenBytes: number): void {
    const ofAllMs = (ms - writtenBytes / WRITTEN_BYTES_PER_MS) * this.queues;
    const isOther = this.isSlow ? ofAllMs < QUICK_MS : ofAllMs > SLOW_MS;
    this.#others = isOther ? this.#others + 1 : 0;
    if (this.#others < IN_A_ROW) return;
    this.isSlow = !this.isSlow;
    this.#others = 0;
  }
}

/** All queues on a disk find out together; by device, and by whose time they go. */
const paces = new WeakMap<Clock, Map<number, SyncPace>>();

function paceOf(device: number, clock: Clock): SyncPace {
  let byDevice = paces.get(clock);
  if (byDevice === undefined) paces.set(clock, byDevice = new Map());
  let pace = byDevice.get(device);
  if (pace === undefined) byDevice.set(device, pace = new SyncPace());
  return pace;
}

export interface LogSyncOptions {
  readonly file: DatabaseFile;
  /** `"loop"` for one that syncs nothing. */
  readonly syncIn: SyncIn;
  readonly clock: Clock;
}

export class LogSync {
  readonly #path: string;
  readonly #file: DatabaseFile;
  readonly #clock: Clock;
  #syncIn: SyncIn;
  readonly #logPath: string;
  /** The log that SQLite has opened. */
  readonly #known: FileIdentity | undefined;
  readonly #pace: SyncPace;
  /** SQLite's log, opened beside it for the threads. */
  #log: Deno.FsFile | undefined;
  /** Whether threads sync what is committed. */
  #isInThreads = false;
  /** Syncs that somebody waits for. What they have not yet put on the disk is not read. */
  #syncs = 0;
  readonly #behind: (() => void)[] = [];
  /** What others had committed when `sync` was called last. */
  #syncedVersion: number | undefined;
  /** Whether a removal waits for a sync, and what looks after it. */
  #isUnsynced = false;
  #cancelLook: (() => void) | undefined;
  /** The last sync that was asked for; it never fails. */
  #lastSync: Promise<void> = Promise.resolve();
  /** A sync has failed: what the log holds may not be on the disk, whatever a later one says. */
  #isInDoubt = false;

  /**
   * @throws {Deno.errors.NotCapable} `"threads"` were asked for, and need a flag.
   * @throws {QueueFileError} They were, and the log cannot be opened.
   */
  constructor({ file, syncIn, clock }: LogSyncOptions) {
    const { path } = file;
    this.#path = path;
    this.#file = file;
    this.#clock = clock;
    this.#logPath = `${path}-wal`;
    const mayReadLog = mayLookAt(this.#logPath);
    this.#known = mayReadLog ? identityAt(this.#logPath) : undefined;
    this.#pace = paceOf(Deno.statSync(path).dev, clock);
    this.#syncIn = syncIn === "auto" && !mayReadLog ? "loop" : syncIn;
    if (syncIn === "threads") this.#openLog();
    this.#syncInThreads(this.#log !== undefined);
    this.#pace.queues++;
  }

  /** Closing it drops no lock: SQLite has those of this process on its other files. */
  #openLog(): void {
    if (!mayLookAt(this.#logPath)) {
      throw new Deno.errors.NotCapable(
        `syncIn "threads" needs --allow-read=${this.#logPath}: threads sync SQLite's log. ` +
          'Or use syncIn "loop".',
      );
    }
    let log: Deno.FsFile | undefined;
    try {
      log = Deno.openSync(this.#logPath);
      if (!isSameFile(log.statSync(), this.#known)) throw new Error("it was replaced by another");
      this.#log = log;
    } catch (error) {
      log?.close();
      const words = `its log ${this.#logPath} cannot be opened (${messageOf(error)})`;
      throw queueFileError("io", this.#path, words, { cause: error });
    }
  }

  #syncInThreads(isInThreads: boolean): void {
    this.#isInThreads = isInThreads;
    if (this.#syncIn !== "loop") this.#file.syncsCommits(!isInThreads);
  }

  /** Goes where the syncs of this disk belong. */
  #choose(): void {
    if (this.#syncIn !== "auto" || this.#pace.isSlow === this.#isInThreads) return;
    try {
      if (this.#log === undefined) this.#openLog();
    } catch {
      // Too many open files, perhaps. Then it goes on as before.
      this.#syncIn = "loop";
      return;
    }
    this.#syncInThreads(this.#pace.isSlow);
  }

  /** Whether a commit is on the disk only once `LogSync.synced` says so. */
  get isInThreads(): boolean {
    return this.#isInThreads;
  }

  /** To be called before each commit: chooses where it is synced. */
  begin(): void {
    this.#settleDoubt();
    this.#choose();
  }

  /** Takes what a commit that was synced in the loop has taken. */
  take(commitMs: number, writtenBytes: number): void {
    if (!this.#isInThreads) this.#pace.take(commitMs, writtenBytes);
  }

  /** Passes on what a commit has said, once the disk has it. */
  async synced<T>(result: T, writtenBytes = 0): Promise<T> {
    const beganMs = this.#clock.nowMs();
    this.#syncs++;
    try {
      await this.#sync();
    } finally {
      // Whoever waits for the commit hears of it before others read what it has left.
      this.#clock.defer(() => {
        this.#syncs--;
        this.#callBehind();
      });
    }
    this.#pace.take(this.#clock.nowMs() - beganMs, writtenBytes);
    return result;
  }

  /**
   * One sync at a time: of two at once the kernel tells one alone of an error, and it need not be
   * the one that somebody waits for.
   */
  #sync(): Promise<void> {
    const sync = this.#lastSync.then(() => this.#syncNow());
    this.#lastSync = sync.catch(() => {});
    return sync;
  }

  async #syncNow(): Promise<void> {
    this.#isUnsynced = false;
    try {
      if (this.#isInDoubt) throw new Error("the one before it has failed");
      await this.#log?.syncData();
    } catch (error) {
      this.#isInDoubt = true;
      this.#syncInThreads(false);
      throw queueFileError("io", this.#path, `its log could not be synced (${messageOf(error)})`, {
        cause: error,
        outcome: "unknown",
        advice: "It is not known whether the packets are on the disk: they are in the queue, but " +
          "a power cut may take them. Look into the system's log for faults of the disk.",
      });
    }
  }

  async sync(): Promise<void> {
    this.#settleDoubt();
    const version = this.#file.dataVersion();
    if (version === this.#syncedVersion) return;
    if (mayLookAt(this.#logPath)) {
      if (this.#log === undefined) this.#openLog();
      await this.#sync();
    } else if (!this.#file.moveLog()) {
      // It has been synced before it was moved; but whether that came so far, nobody says.
      throw queueFileError(
        "busy",
        this.#path,
        "another process reads it, so that its log cannot be moved",
      );
    }
    this.#syncedVersion = version;
  }

  /** For a commit that nobody waits for. */
  syncLater(): void {
    this.#isUnsynced = true;
    this.#cancelLook ??= this.#clock.setTimer(REMOVAL_SYNC_MS, () => {
      this.#cancelLook = undefined;
      if (!this.#isUnsynced) return;
      // The next commit finds out what a failure means.
      this.#sync().catch(() => {});
    });
  }

  /**
   * After a sync that has failed a later one proves nothing: the kernel may take for written what it
   * has lost. What is in the log is written once more, into the file.
   *
   * @throws {QueueFileError} That is not possible now.
   */
  #settleDoubt(): void {
    if (!this.#isInDoubt) return;
    if (!this.#file.moveLog()) {
      throw queueFileError("busy", this.#path, "its log is in doubt, and another process reads it");
    }
    this.#isInDoubt = false;
  }

  /** Calls once nothing is being synced: what nobody was told of yet is not read. */
  read<T>(call: () => T): T | Promise<T> {
    if (this.#syncs === 0) return call();
    return new Promise((resolve, reject) => {
      this.#behind.push(() => {
        try {
          resolve(call());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #callBehind(): void {
    if (this.#syncs > 0) return;
    for (const call of this.#behind.splice(0)) call();
  }

  /** Puts on the disk what was put off, and ends. */
  async close(): Promise<void> {
    await this.read(() => {});
    this.#cancelLook?.();
    await this.#lastSync;
    // Nobody is waiting: what a power cut takes of it is sent once more.
    if (this.#isUnsynced) await this.#sync().catch(() => {});
    this.#pace.queues--;
    this.#log?.close();
  }
}
