/**
 * The part of SQLite that the queue needs, and nothing else. Two libraries fit
 * behind it (`node_sqlite.ts`, `src/db_sqlite/`), and a test can wrap one to make
 * a commit fail.
 *
 * Three things are left out on purpose: `exec`, whose errors carry no code in
 * `node:sqlite`; `lastInsertRowId`, which `@db/sqlite` cuts to 32 bits; and row
 * iterators, which block checkpoints while they are held.
 */

import type { DiskReading } from "./disk_space.ts";

/**
 * What can be bound to a statement and what comes back.
 *
 * @category SQLite driver
 */
export type SqliteValue = null | number | bigint | string | Uint8Array;

/**
 * A prepared statement.
 *
 * @category SQLite driver
 */
export interface SqliteStatement {
  /**
   * Runs the statement and ignores its rows.
   *
   * @throws {SqliteError}
   */
  run(params: readonly SqliteValue[]): void;
  /**
   * Runs the statement and returns every row as an array of columns. BLOBs are
   * fresh copies, each with memory of its own: a sender gives it back once the packets in it
   * are on their way.
   *
   * @throws {SqliteError}
   */
  all(params: readonly SqliteValue[]): SqliteValue[][];
}

/**
 * An open database.
 *
 * @category SQLite driver
 */
export interface SqliteDatabase {
  /**
   * Compiles one statement. Beware: some pragmas take effect here and do
   * nothing when run.
   *
   * @throws {SqliteError}
   */
  prepare(sql: string): SqliteStatement;
  /** Closes it; its statements are of no use afterwards. */
  close(): void;
}

/**
 * How to open a database.
 *
 * @category SQLite driver
 */
export interface SqliteOpenOptions {
  /** Open without the right to write. */
  readonly readOnly: boolean;
  /** `sqlite3_busy_timeout`; blocks the event loop, so keep it tiny. */
  readonly busyTimeoutMs: number;
}

/**
 * A library that gives access to SQLite; synchronous.
 *
 * @category SQLite driver
 */
export interface SqliteDriver {
  /** For people: `"node:sqlite"`. */
  readonly name: string;
  /**
   * Opens the database at `path`, which must be a plain path and no URI.
   *
   * @throws {SqliteError}
   * @throws {Deno.errors.NotCapable} A Deno permission is missing.
   */
  open(path: string, options: SqliteOpenOptions): SqliteDatabase;
  /**
   * For a driver whose files are not where the operating system looks for them: how
   * large the file and its disk are, and how full.
   */
  readonly diskAt?: (path: string) => DiskReading | undefined;
}

/**
 * A statement that is compiled when it is used first. Most queues never use most of them, and
 * each takes some kilobytes: much, where a process has a thousand queues.
 */
export class LazyStatement implements SqliteStatement {
  readonly #database: SqliteDatabase;
  readonly #sql: string;
  #statement: SqliteStatement | undefined;

  /** @param sql One statement, and no pragma: some of those take effect when they are compiled. */
  constructor(database: SqliteDatabase, sql: string) {
    this.#database = database;
    this.#sql = sql;
  }

  run(params: readonly SqliteValue[]): void {
    (this.#statement ??= this.#database.prepare(this.#sql)).run(params);
  }

  all(params: readonly SqliteValue[]): SqliteValue[][] {
    return (this.#statement ??= this.#database.prepare(this.#sql)).all(params);
  }
}

/**
 * Sets something, or asks for it: the first column of the first row. All rows are gone through,
 * because a single step of `incremental_vacuum` frees a single page.
 */
export function pragma(database: SqliteDatabase, setting: string): unknown {
  return database.prepare(`PRAGMA ${setting}`).all([])[0]?.[0];
}

/**
 * An error of SQLite with its result code, whichever library it came through.
 *
 * @category SQLite driver
 */
export class SqliteError extends Error {
  /** Always `"SqliteError"`. */
  override readonly name = "SqliteError";
  /** The extended result code where the library gives it, else the primary one. */
  readonly code: number;

  /**
   * Makes the error.
   *
   * @param code The result code; https://www.sqlite.org/rescode.html
   * @param message SQLite's words.
   * @param options `cause`: the library's own error.
   */
  constructor(code: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  /** The primary result code: the low 8 bits. */
  get primaryCode(): number {
    return this.code & 0xff;
  }
}

/** Whether an error is SQLite's, and of one of these primary codes. */
export function isSqliteError(error: unknown, ...codes: readonly number[]): error is SqliteError {
  return error instanceof SqliteError && codes.includes(error.primaryCode);
}

/** Result codes that the queue tells apart; https://www.sqlite.org/rescode.html */
export const SqliteCode = {
  ERROR: 1,
  BUSY: 5,
  LOCKED: 6,
  READONLY: 8,
  IOERR: 10,
  CORRUPT: 11,
  FULL: 13,
  CANTOPEN: 14,
  PROTOCOL: 15,
  CONSTRAINT: 19,
  NOTADB: 26,
  /** A page lies behind the end of the file. */
  IOERR_SHORT_READ: 522,
  /** A write that has failed for any reason but ENOSPC. */
  IOERR_WRITE: 778,
  /** The same of a sync. */
  IOERR_FSYNC: 1034,
  /** A hot rollback journal that a read-only connection may not roll back. */
  READONLY_ROLLBACK: 776,
  /** The shared-memory file cannot be cut (Btrfs) or grow: no room on the disk. */
  IOERR_SHMOPEN: 4618,
  IOERR_SHMSIZE: 4874,
} as const;

/** What is wrong where a number is beyond 2^53, in either library. */
export const LARGE_NUMBER_WORDS = "a number in the file is larger than any that sendq writes";

/**
 * `sqlite3_errstr` backwards, for the paths on which a library drops the code:
 * opening in `node:sqlite`, every statement in `@db/sqlite`. SQLite's texts are
 * fixed (`sqlite3ErrStr` in main.c).
 */
const CODE_BY_TEXT: readonly (readonly [string, number])[] = [
  ["database is locked", SqliteCode.BUSY],
  ["database table is locked", SqliteCode.LOCKED],
  ["attempt to write a readonly database", SqliteCode.READONLY],
  ["disk I/O error", SqliteCode.IOERR],
  ["database disk image is malformed", SqliteCode.CORRUPT],
  ["database or disk is full", SqliteCode.FULL],
  ["unable to open database file", SqliteCode.CANTOPEN],
  ["locking protocol", SqliteCode.PROTOCOL],
  ["constraint failed", SqliteCode.CONSTRAINT],
  ["file is not a database", SqliteCode.NOTADB],
];

/**
 * Finds the primary result code in one of SQLite's messages.
 *
 * @returns `SqliteCode.ERROR` when the text is none of those known.
 */
export function codeFromText(message: string): number {
  for (const [text, code] of CODE_BY_TEXT) {
    if (message.includes(text)) return code;
  }
  return SqliteCode.ERROR;
}
