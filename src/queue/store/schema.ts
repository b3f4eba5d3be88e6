/**
 * Opening the file: makes it, recognises it, or refuses it untouched.
 *
 * On disk, `user_version` 2:
 *
 * - `packets`: one row a batch of packets that were stored in one transaction
 *   (`batches.ts`). `last_id` is the id of the batch's last packet, `payload` the
 *   bytes of all of them one behind the other, `ends` where each ends in it, as
 *   little-endian uint32, or NULL for a single packet. Ids are given by us, from
 *   `state.last_id`, in the transaction that stores the packets: they grow for
 *   ever and are never reused, without the second table that AUTOINCREMENT
 *   would write in every commit.
 *   Ids may be missing between two rows: their packets were taken out.
 * - `expiry`: one row a batch that expires, by its `last_id`. Not a column of
 *   `packets`: there it would lie behind the payload's overflow pages. Empty, and
 *   so free, where no packet has a time to live. A row whose batch is gone means
 *   nothing.
 * - `dead_letters`: one row a packet that expired or was given up, under its old
 *   id. `sent` is 1 where it was on a wire, so that the peer may have it.
 * - `state`: one row. Exact counts, so that nobody has to scan a table. Packets
 *   up to `removed_through` are gone, even where the row that held them is still
 *   there for the sake of later ones. `dead_packets` and `dead_bytes` are what
 *   `dead_letters` holds now, `expired_packets` and `gave_up_packets` what ever
 *   went there.
 *
 * Version 1 had neither `expiry` nor `dead_letters`. Such a file is brought to
 * version 2 when it is opened, in one transaction that leaves `packets` alone:
 * it takes no longer for a large file than for a small one.
 *
 * @module
 */

import { diskSharesAt } from "../sqlite/disk_space.ts";
import { type SqliteDatabase, type SqliteDriver, SqliteError } from "../sqlite/driver.ts";
import { SqliteCode } from "../sqlite/driver.ts";
import { queueFileError, toFileError } from "../sqlite/file_error.ts";
import type { Durability } from "./types.ts";

/** `PRAGMA application_id` of a queue: "Snq1". */
export const APPLICATION_ID = 0x536e7131;
/** `PRAGMA user_version` that this code writes and understands. */
export const SCHEMA_VERSION = 2;

/** How to open the file. */
export interface OpenFileOptions {
  /** The library that gives access to SQLite. */
  readonly driver: SqliteDriver;
  /** What a commit survives. */
  readonly durability: Durability;
}

/** An open queue file. */
export interface OpenedFile {
  /** The database, set up. */
  readonly database: SqliteDatabase;
  /** The file's path without symbolic links: what its lock file is named after. */
  readonly path: string;
}

/** SQLite waits this long by itself; it blocks the loop, so longer waits are ours. */
const SQLITE_BUSY_TIMEOUT_MS = 10;

/** Version 1. */
const CREATE: readonly string[] = [
  `CREATE TABLE packets (
     last_id INTEGER PRIMARY KEY,
     enqueued_at_ms INTEGER NOT NULL,
     ends BLOB,
     payload BLOB NOT NULL
   )`,
  `CREATE TABLE state (
     one INTEGER PRIMARY KEY CHECK (one = 1),
     packets INTEGER NOT NULL,
     bytes INTEGER NOT NULL,
     last_id INTEGER NOT NULL,
     removed_through INTEGER NOT NULL,
     sent_through INTEGER NOT NULL,
     dropped_packets INTEGER NOT NULL,
     dropped_bytes INTEGER NOT NULL
   )`,
  `INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, 0, 0)`,
];

/** From each version to the next: the first entry from version 1 to version 2. */
const UPGRADES: readonly (readonly string[])[] = [
  [
    `CREATE TABLE expiry (
       last_id INTEGER PRIMARY KEY,
       expires_at_ms INTEGER NOT NULL
     )`,
    `CREATE INDEX expiry_by_time ON expiry (expires_at_ms)`,
    `CREATE TABLE dead_letters (
       id INTEGER PRIMARY KEY,
       enqueued_at_ms INTEGER NOT NULL,
       died_at_ms INTEGER NOT NULL,
       reason TEXT NOT NULL,
       sent INTEGER NOT NULL,
       attempts INTEGER NOT NULL,
       payload BLOB NOT NULL
     )`,
    `ALTER TABLE state ADD COLUMN dead_packets INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE state ADD COLUMN dead_bytes INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE state ADD COLUMN expired_packets INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE state ADD COLUMN gave_up_packets INTEGER NOT NULL DEFAULT 0`,
  ],
];

/**
 * Opens a queue file, or makes one where there is none or an empty one.
 *
 * @throws {QueueFileError}
 * @throws {Deno.errors.NotCapable} With the flags to add.
 */
export function openQueueFile(path: string, options: OpenFileOptions): OpenedFile {
  let database: SqliteDatabase | undefined;
  try {
    createPrivately(path);
    const realPath = Deno.realPathSync(path);
    refuseForeignFile(realPath, options.driver);
    database = options.driver.open(realPath, {
      readOnly: false,
      busyTimeoutMs: SQLITE_BUSY_TIMEOUT_MS,
    });
    setUp(database, realPath, options.durability);
    return { database, path: realPath };
  } catch (error) {
    database?.close();
    throw toFileError(error, path);
  }
}

/**
 * Makes the file with mode 0600 before SQLite sees it. An existing file is
 * never opened here: closing any descriptor of it would drop the locks that
 * SQLite holds in this process.
 */
function createPrivately(path: string): void {
  try {
    Deno.openSync(path, { write: true, createNew: true, mode: 0o600 }).close();
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
}

/**
 * Looks at an existing file through a connection that cannot write. A writing
 * one would, on its way out, checkpoint another program's log into its file.
 */
function refuseForeignFile(path: string, driver: SqliteDriver): void {
  const { size, isFile, isDirectory } = Deno.statSync(path);
  if (!isFile) {
    throw queueFileError("not-a-queue", path, `it is ${isDirectory ? "a directory" : "no file"}`, {
      advice: "Give the path of a file.",
    });
  }
  // SQLite takes a file of one byte for an empty one; no database is below 512.
  if (size > 0 && size < 512) {
    throw queueFileError("not-a-queue", path, "the file is not a database");
  }
  let probe: SqliteDatabase | undefined;
  try {
    probe = driver.open(path, { readOnly: true, busyTimeoutMs: SQLITE_BUSY_TIMEOUT_MS });
    recognise(probe, path);
  } catch (error) {
    // A crash while the file was being made: the next writer rolls it back.
    if (!(error instanceof SqliteError) || error.code !== SqliteCode.READONLY_ROLLBACK) throw error;
  } finally {
    probe?.close();
  }
}

/** @returns The version of its schema; 0: the file is still without one. */
function recognise(database: SqliteDatabase, path: string): number {
  const applicationId = readNumber(database, "PRAGMA application_id");
  const version = readNumber(database, "PRAGMA user_version");
  const objects = readNumber(database, "SELECT count(*) FROM sqlite_schema");
  if (applicationId === 0 && version === 0 && objects === 0) return 0;
  if (applicationId !== APPLICATION_ID) {
    throw queueFileError("not-a-queue", path, "the file is another program's database");
  }
  if (version > SCHEMA_VERSION) {
    throw queueFileError(
      "newer-version",
      path,
      `the file has version ${version}, this sendq knows ${SCHEMA_VERSION}`,
    );
  }
  if (version < 1) {
    throw queueFileError("corrupt", path, `the file has the impossible version ${version}`);
  }
  return version;
}

function setUp(database: SqliteDatabase, path: string, durability: Durability): void {
  const version = recognise(database, path);
  if (version === 0) {
    // Both only count before the first table; auto_vacuum would be written anew each time.
    pragma(database, "page_size = 4096");
    pragma(database, "auto_vacuum = incremental");
  }
  if (pragma(database, "journal_mode = wal") !== "wal") {
    throw queueFileError("io", path, "SQLite cannot keep a write-ahead log there", {
      advice: "Put the queue on a local filesystem.",
    });
  }
  pragma(database, `synchronous = ${durability === "power-loss" ? "full" : "normal"}`);
  const { logPages } = diskSharesAt(path);
  pragma(database, `wal_autocheckpoint = ${logPages}`);
  // A little more than so many pages take in the log: it is not cut each time it begins anew.
  pragma(database, `journal_size_limit = ${4200 * logPages}`);
  pragma(database, "temp_store = memory");
  if (version < SCHEMA_VERSION) bringUpToDate(database, path);
}

/** Makes the schema, or brings an older one to this version: all of it or nothing. */
function bringUpToDate(database: SqliteDatabase, path: string): void {
  database.prepare("BEGIN IMMEDIATE").run([]);
  try {
    // Another process may have been quicker.
    const version = recognise(database, path);
    if (version < SCHEMA_VERSION) {
      const steps = [version === 0 ? CREATE : [], ...UPGRADES.slice(Math.max(0, version - 1))];
      for (const sql of steps.flat()) database.prepare(sql).run([]);
      // Prepared inside the transaction, because preparing may already apply it.
      database.prepare(`PRAGMA application_id = ${APPLICATION_ID}`).run([]);
      database.prepare(`PRAGMA user_version = ${SCHEMA_VERSION}`).run([]);
    }
    database.prepare("COMMIT").run([]);
  } catch (error) {
    rollBack(database);
    throw error;
  }
}

function rollBack(database: SqliteDatabase): void {
  try {
    database.prepare("ROLLBACK").run([]);
  } catch {
    // SQLite has rolled back by itself, as it does when the disk is full.
  }
}

function pragma(database: SqliteDatabase, setting: string): unknown {
  return database.prepare(`PRAGMA ${setting}`).all([])[0]?.[0];
}

function readNumber(database: SqliteDatabase, sql: string): number {
  return Number(database.prepare(sql).all([])[0]?.[0]);
}
