/** What a queue's file is besides its tables: pages, a log, and how that is synced. */

import { pragma, type SqliteDatabase, type SqliteStatement } from "../sqlite/driver.ts";
import { toFileError } from "../sqlite/file_error.ts";
import type { FileSpace } from "./contract.ts";

/** What `PRAGMA synchronous` says where each COMMIT is synced. */
const FULL = 2;

/** A file that SQLite has open. All methods but `syncAgain` throw a `QueueFileError`. */
export class DatabaseFile {
  /** Its connection. No other `DatabaseFile` may have the same one. */
  readonly database: SqliteDatabase;
  /** Without symbolic links. */
  readonly path: string;
  readonly #dataVersion: SqliteStatement;
  readonly #pages: SqliteStatement;
  readonly #freePages: SqliteStatement;
  /** COMMITs have to be synced, and perhaps would not be: the way back to that is due. */
  #owesSync = false;

  constructor(database: SqliteDatabase, path: string) {
    this.database = database;
    this.path = path;
    this.#dataVersion = database.prepare("PRAGMA data_version");
    this.#pages = database.prepare("PRAGMA page_count");
    this.#freePages = database.prepare("PRAGMA freelist_count");
  }

  dataVersion(): number {
    return this.#guard(() => numberFrom(this.#dataVersion));
  }

  space(): FileSpace {
    return this.#guard(() => ({
      pages: numberFrom(this.#pages),
      freePages: numberFrom(this.#freePages),
    }));
  }

  /**
   * Gives up to `pages` free pages back, in a transaction of its own, which is not synced: a power
   * cut takes it back, and nobody has been told anything of it. On a slow disk a sync for each
   * step would hold up more than the step.
   */
  vacuumStep(pages: number): FileSpace {
    this.#guard(() => {
      if (Number(pragma(this.database, "synchronous")) === FULL) {
        this.#owesSync = true;
        pragma(this.database, "synchronous = normal");
      }
      try {
        pragma(this.database, `incremental_vacuum(${pages})`);
      } finally {
        this.syncAgain();
      }
    });
    return this.space();
  }

  /**
   * Moves the log into the file, as far as nobody reads it, and cuts the file to what it holds.
   *
   * @returns Whether all of it was moved, and is on the disk.
   */
  moveLog(): boolean {
    return this.#guard(() => pragma(this.database, "wal_checkpoint(TRUNCATE)") === 0);
  }

  /**
   * Whether COMMIT waits from now on until the log is on the disk, as it does at first with
   * `"power-loss"`.
   *
   * @param syncs `false`: whoever is told of a commit syncs the log before.
   */
  syncsCommits(syncs: boolean): void {
    this.#owesSync = syncs;
    if (!syncs) this.#guard(() => pragma(this.database, "synchronous = normal"));
  }

  /**
   * Before each transaction that writes: where its COMMIT has to be synced and would not be,
   * nothing that it stores may be acknowledged.
   *
   * @throws {SqliteError} The way back fails, once more.
   */
  syncAgain(): void {
    if (!this.#owesSync) return;
    pragma(this.database, "synchronous = full");
    this.#owesSync = false;
  }

  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw toFileError(error, this.path);
    }
  }
}

function numberFrom(statement: SqliteStatement): number {
  return Number(statement.all([])[0]?.[0]);
}
