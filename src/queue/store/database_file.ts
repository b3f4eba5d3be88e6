/**
 * What a queue's file is besides its tables: pages, a log, and how that is synced.
 *
 * @module
 */

import type { SqliteDatabase, SqliteStatement } from "../sqlite/driver.ts";
import { toFileError } from "../sqlite/file_error.ts";
import type { FileSpace } from "./contract.ts";

/** What `PRAGMA synchronous` says where each COMMIT is synced. */
const FULL = 2;

/** Those whose COMMITs have to be synced, and are not: the way back to that has failed. */
const owing = new WeakSet<SqliteDatabase>();

/**
 * Before a transaction: without this nothing that it stores may be acknowledged.
 *
 * @throws {SqliteError} It fails again.
 */
export function syncAsBefore(database: SqliteDatabase): void {
  if (!owing.has(database)) return;
  database.prepare("PRAGMA synchronous = full").all([]);
  owing.delete(database);
}

/** A file that SQLite has open. */
export class DatabaseFile {
  readonly #database: SqliteDatabase;
  readonly #path: string;
  readonly #dataVersion: SqliteStatement;
  readonly #pages: SqliteStatement;
  readonly #freePages: SqliteStatement;

  /**
   * @param database The file, open.
   * @param path Its path, for the words of an error.
   */
  constructor(database: SqliteDatabase, path: string) {
    this.#database = database;
    this.#path = path;
    this.#dataVersion = database.prepare("PRAGMA data_version");
    this.#pages = database.prepare("PRAGMA page_count");
    this.#freePages = database.prepare("PRAGMA freelist_count");
  }

  /**
   * A number that changes when another connection has committed; costs a few
   * microseconds.
   *
   * @throws {QueueFileError}
   */
  dataVersion(): number {
    return this.#guard(() => numberFrom(this.#dataVersion));
  }

  /**
   * How large the file is, in pages.
   *
   * @throws {QueueFileError}
   */
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
   *
   * @throws {QueueFileError}
   */
  vacuumStep(pages: number): FileSpace {
    this.#guard(() => {
      const [row] = this.#database.prepare("PRAGMA synchronous").all([]);
      const syncs = Number(row?.[0]) === FULL;
      if (syncs) {
        owing.add(this.#database);
        this.#database.prepare("PRAGMA synchronous = normal").all([]);
      }
      try {
        // all(), because a single step frees a single page.
        this.#database.prepare(`PRAGMA incremental_vacuum(${pages})`).all([]);
      } finally {
        if (syncs) syncAsBefore(this.#database);
      }
    });
    return this.space();
  }

  /**
   * Moves the log into the file, so that the file shrinks to what it holds.
   * Does what it can when others are reading.
   *
   * @returns Whether all of it was moved, and is on the disk.
   * @throws {QueueFileError}
   */
  moveLog(): boolean {
    return this.#guard(() => {
      const [row] = this.#database.prepare("PRAGMA wal_checkpoint(TRUNCATE)").all([]);
      return row?.[0] === 0;
    });
  }

  /**
   * Whether COMMIT waits until the log is on the disk, as it does at first with `"power-loss"`.
   *
   * @param syncs `false`: whoever is told of a commit syncs the log before.
   * @throws {QueueFileError}
   */
  syncsCommits(syncs: boolean): void {
    const level = syncs ? "full" : "normal";
    this.#guard(() => this.#database.prepare(`PRAGMA synchronous = ${level}`).all([]));
  }

  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw toFileError(error, this.#path);
    }
  }
}

function numberFrom(statement: SqliteStatement): number {
  return Number(statement.all([])[0]?.[0]);
}
