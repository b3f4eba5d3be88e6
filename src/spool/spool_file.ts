/**
 * A spool: one file with many queues, which a process opens once, however many of them it uses.
 * One connection, one log, one transaction for what comes together, one lock.
 *
 * Invariants:
 *
 * 1. Whoever sends from one of its queues holds the lock of the file: one process at a time.
 * 2. A queue is one sender's at a time within that process.
 * 3. The file is open as long as one of its queues is.
 */

import { OptionError } from "../base/errors.ts";
import { lockFileRinger, type Ringer } from "../queue/doorbell.ts";
import { LogSync } from "../queue/log_sync.ts";
import { lookBeforeOpening, openOnFullDisk, refuseOther } from "../queue/open_store.ts";
import type { QueueOptions } from "../queue/options.ts";
import { prepareLockFile } from "../queue/sender_lock.ts";
import { onceNotBusy } from "../queue/sqlite/busy.ts";
import type { SqliteDatabase } from "../queue/sqlite/driver.ts";
import { queueFileError, toFileError } from "../queue/sqlite/file_error.ts";
import { QueueFiles } from "../queue/sqlite/file_identity.ts";
import type { FileSpace } from "../queue/store/contract.ts";
import { DatabaseFile } from "../queue/store/database_file.ts";
import { openQueueFile } from "../queue/store/schema.ts";
import { SqliteStore } from "../queue/store/sqlite_store.ts";
import { FileTransactions } from "../queue/store/transactions.ts";
import { formatSpoolAddress } from "./address.ts";
import { GroupCommit } from "./group_commit.ts";
import { numberOf, windowOf } from "./queue_names.ts";
import { withSharedStatements } from "./shared_statements.ts";
import { SharedTransactions } from "./shared_transactions.ts";
import { SpoolBell } from "./spool_bell.ts";

/** What all queues of a spool share in a process: the first that is opened decides. */
type FileOptions = Pick<
  Required<QueueOptions>,
  "durability" | "syncIn" | "driver" | "clock" | "busyTimeoutMs"
>;

/** One of its queues that is open. */
export interface OpenQueue {
  /** The same queue is open a second time in this process, and has changed there. */
  changedByAnother(): void;
}

/** Whoever has given space back last goes on with it for so long. */
const SHRINKS_FOR_MS = 1000;

/** The spools of this process, by their paths, and how many queues of each are open. */
const opened = new Map<string, { readonly opening: Promise<SpoolFile>; users: number }>();

/** A spool that this process has open. */
export class SpoolFile {
  /** Without symbolic links. */
  readonly path: string;
  readonly bell: SpoolBell;
  readonly ringer: Ringer;
  readonly group: GroupCommit;
  readonly log: LogSync;
  readonly file: DatabaseFile;
  readonly files: QueueFiles;
  readonly #key: string;
  readonly #database: SqliteDatabase;
  readonly #transactions: SharedTransactions;
  readonly #options: FileOptions;
  /** Its queues that are open, by their numbers: perhaps one several times. */
  readonly #stores = new Map<number, Set<OpenQueue>>();
  #shrunkBy: OpenQueue | undefined;
  #shrunkAtMs = -Infinity;

  private constructor(key: string, path: string, database: SqliteDatabase, options: FileOptions) {
    const { clock, driver, syncIn, durability } = options;
    this.path = path;
    this.#key = key;
    this.#database = withSharedStatements(database);
    this.#options = options;
    this.file = new DatabaseFile(database, path);
    this.log = new LogSync({
      file: this.file,
      syncIn: durability === "power-loss" ? syncIn : "loop",
      clock,
    });
    const own = new FileTransactions(this.file, { driver, nowMs: () => clock.nowMs() });
    this.#transactions = new SharedTransactions(this.file, own);
    this.group = new GroupCommit({ transactions: this.#transactions, log: this.log, clock });
    this.ringer = lockFileRinger(path, clock);
    this.bell = new SpoolBell({ file: this.file, database: this.#database, log: this.log, clock });
    this.files = new QueueFiles(path, () => clock.nowMs());
  }

  /**
   * Opens a spool, or makes one; in a process that has it open, gives that.
   *
   * @throws {QueueFileError}
   * @throws {OptionError} It is open with other options that are the file's.
   * @throws {Deno.errors.NotCapable} With the flags to add.
   */
  static async open(path: string, options: FileOptions): Promise<SpoolFile> {
    const key = keyOf(path);
    let entry = opened.get(key);
    if (entry === undefined) {
      entry = { opening: SpoolFile.#open(key, path, options), users: 0 };
      opened.set(key, entry);
    }
    entry.users++;
    let file: SpoolFile | undefined;
    try {
      file = await entry.opening;
      file.#refuseOtherOptions(options);
      file.#refuseMisplaced();
      return file;
    } catch (error) {
      if (file !== undefined) await file.release();
      else if (opened.get(key) === entry) opened.delete(key);
      throw error;
    }
  }

  static async #open(key: string, path: string, options: FileOptions): Promise<SpoolFile> {
    const { clock, driver, durability, busyTimeoutMs } = options;
    return await onceNotBusy(clock, busyTimeoutMs, () => {
      const before = lookBeforeOpening(path);
      const { database, path: realPath } = openOnFullDisk(
        path,
        () => openQueueFile(path, { driver, durability, kind: "spool" }),
      );
      try {
        refuseOther(before, realPath);
        return new SpoolFile(key, realPath, database, options);
      } catch (error) {
        database.close();
        throw toFileError(error, path);
      }
    });
  }

  #refuseOtherOptions(options: FileOptions): void {
    for (const name of ["durability", "syncIn", "driver", "clock"] as const) {
      const own = this.#options[name];
      if (options[name] === own) continue;
      const given = options[name];
      throw new OptionError(
        name,
        typeof given === "string" ? given : null,
        `must be the same for all queues of a spool that a process has open`,
      );
    }
  }

  /** What is stored in a file that its path no longer leads to, nobody finds again. */
  #refuseMisplaced(): void {
    const words = this.files.misplaced();
    if (words === undefined) return;
    throw queueFileError("misplaced", this.path, words, {
      advice:
        "This process still has it open: close its queues, and what is at that path is opened.",
    });
  }

  /**
   * Finds a queue, or makes it.
   *
   * @throws {QueueFileError} It cannot be made; what the file counts of it cannot be true.
   */
  async storeOf(name: string): Promise<{ readonly queue: number; readonly store: SqliteStore }> {
    const { clock, busyTimeoutMs } = this.#options;
    return await onceNotBusy(clock, busyTimeoutMs, () => {
      const database = this.#database;
      const queue = numberOf(database, this.#transactions, { file: this.path, name });
      const store = new SqliteStore({
        path: formatSpoolAddress({ file: this.path, name }),
        database,
        file: this.file,
        transactions: this.#transactions,
        window: windowOf(queue),
      });
      store.examine();
      return { queue, store };
    });
  }

  add(queue: number, store: OpenQueue): void {
    let stores = this.#stores.get(queue);
    if (stores === undefined) this.#stores.set(queue, stores = new Set());
    stores.add(store);
  }

  /** A queue has changed: whoever has it open a second time, over the same connection, is told. */
  changed(queue: number, by: OpenQueue): void {
    const stores = this.#stores.get(queue);
    if (stores === undefined || stores.size === 1) return;
    for (const store of stores) {
      if (store !== by) store.changedByAnother();
    }
    this.bell.ring(queue);
  }

  /** A queue is closed; with the last one the file is. */
  async close(queue: number, store: OpenQueue): Promise<void> {
    const stores = this.#stores.get(queue);
    stores?.delete(store);
    if (stores?.size === 0) this.#stores.delete(queue);
    await this.release();
  }

  /** Whoever has called {@linkcode SpoolFile.open} needs it no more. */
  async release(): Promise<void> {
    const entry = opened.get(this.#key);
    if (entry === undefined || --entry.users > 0) return;
    opened.delete(this.#key);
    await this.log.close();
    this.#database.close();
  }

  /** Gives free pages back, for one queue at a time: what is free is the same for all of them. */
  vacuumStep(by: OpenQueue, pages: number): FileSpace {
    const nowMs = this.#options.clock.nowMs();
    const isAnothers = by !== this.#shrunkBy && nowMs - this.#shrunkAtMs < SHRINKS_FOR_MS;
    if (isAnothers) return { ...this.file.space(), freePages: 0 };
    this.#shrunkBy = by;
    this.#shrunkAtMs = nowMs;
    return this.file.vacuumStep(pages);
  }

  /** Makes the lock file, before anything is stored. */
  prepare(): void {
    prepareLockFile(this.path);
  }
}

/** The same file under two names is one spool, also before it is there. */
function keyOf(path: string): string {
  const at = path.lastIndexOf("/");
  for (const [known, rest] of [[path, ""], [path.slice(0, at + 1) || ".", path.slice(at + 1)]]) {
    try {
      const real = Deno.realPathSync(known ?? path);
      return rest === "" ? real : `${real === "/" ? "" : real}/${rest}`;
    } catch {
      // There is none, or nobody may look.
    }
  }
  return path;
}
