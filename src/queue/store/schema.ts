/**
 * Opening the file: makes it, recognises it, or refuses it untouched. What each table and column
 * means is in docs/decisions/file-version-3.md, "What lies in the file"; `layout.ts` has the SQL.
 */

import { createDatabase } from "../sqlite/beside.ts";
import { diskAt, diskShares } from "../sqlite/disk_space.ts";
import {
  pragma,
  SqliteCode,
  type SqliteDatabase,
  type SqliteDriver,
  SqliteError,
} from "../sqlite/driver.ts";
import { queueFileError } from "../sqlite/file_error.ts";
import { identityAt } from "../sqlite/file_identity.ts";
import { WHOLE_FILE } from "./id_window.ts";
import { checkLayout, CREATE, CREATE_SPOOL, UPGRADES } from "./layout.ts";
import { StateTable } from "./state_table.ts";
import { fileError } from "./transaction.ts";
import type { Durability } from "./types.ts";

/** `PRAGMA application_id` of a queue: "Snq1". */
export const APPLICATION_ID = 0x536e7131;
/** `PRAGMA user_version` that this code writes. */
export const SCHEMA_VERSION = 3;
/** That of a file that is forwarded. */
export const EDGE_VERSION = 4;
/** That of a spool; the newest that this code understands. */
export const SPOOL_VERSION = 5;

/** What a file holds: one queue, or many that each have a name. */
export type FileKind = "queue" | "spool";

export interface OpenFileOptions {
  readonly driver: SqliteDriver;
  readonly durability: Durability;
  /**
   * Refuses a file of version 3 or later, by throwing. It gets a connection that cannot
   * write, so that a refused file stays as it is.
   */
  readonly examine?: (database: SqliteDatabase, path: string) => void;
  /**
   * What it has to be.
   *
   * @default {"queue"}
   */
  readonly kind?: FileKind;
  /**
   * From what a transaction that fails is taken back. `memory`: without a file beside this one, but
   * a crash may leave it damaged. For a file that is no use before it is whole.
   *
   * @default {"wal"}
   */
  readonly journal?: "wal" | "memory";
}

export interface OpenedFile {
  readonly database: SqliteDatabase;
  /** The file's path without symbolic links: what its lock file is named after. */
  readonly path: string;
}

/** SQLite waits this long by itself; it blocks the loop, so longer waits are ours. */
export const SQLITE_BUSY_TIMEOUT_MS = 10;

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
    refuseForeignFile(realPath, options);
    database = options.driver.open(realPath, {
      readOnly: false,
      busyTimeoutMs: SQLITE_BUSY_TIMEOUT_MS,
    });
    setUp(database, realPath, options);
    return { database, path: realPath };
  } catch (error) {
    database?.close();
    throw fileError(error, path);
  }
}

/**
 * Makes the file with mode 0600 before SQLite sees it. An existing file is
 * never opened here: closing any descriptor of it would drop the locks that
 * SQLite holds in this process.
 */
function createPrivately(path: string): void {
  try {
    if (identityAt(path) === undefined) createDatabase(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
}

/**
 * Looks at an existing file through a connection that cannot write. A writing
 * one would, on its way out, checkpoint another program's log into its file.
 */
function refuseForeignFile(
  path: string,
  { driver, examine, kind = "queue" }: OpenFileOptions,
): void {
  if (isTooSmall(sizeOfFile(path, path, "Give the path of a file."))) {
    throw queueFileError("not-a-queue", path, "the file is not a database");
  }
  let probe: SqliteDatabase | undefined;
  try {
    probe = driver.open(path, { readOnly: true, busyTimeoutMs: SQLITE_BUSY_TIMEOUT_MS });
    distrust(probe);
    if (recognise(probe, path, { kind }) >= SCHEMA_VERSION) examine?.(probe, path);
  } catch (error) {
    // A crash while the file was being made: the next writer rolls it back.
    if (!(error instanceof SqliteError) || error.code !== SqliteCode.READONLY_ROLLBACK) throw error;
  } finally {
    probe?.close();
  }
}

/**
 * How large a file is.
 *
 * @param path For the words of an error.
 * @throws {QueueFileError} It is none.
 */
export function sizeOfFile(realPath: string, path: string, advice: string): number {
  const { size, isFile, isDirectory } = Deno.statSync(realPath);
  if (isFile) return size;
  const what = `it is ${isDirectory ? "a directory" : "no file"}`;
  throw queueFileError("not-a-queue", path, what, { advice });
}

/** Whether it is no database: SQLite takes a file of one byte for an empty one. */
export function isTooSmall(sizeBytes: number): boolean {
  return sizeBytes > 0 && sizeBytes < 512;
}

/**
 * The version of a file's layout; 0: it is still without one.
 *
 * @param path For the words of an error.
 * @param advice What to do where the file is no queue.
 * @throws {QueueFileError} It is none that this code understands.
 */
export function versionOf(database: SqliteDatabase, path: string, advice?: string): number {
  const applicationId = Number(pragma(database, "application_id"));
  const version = Number(pragma(database, "user_version"));
  const [objects] = database.prepare("SELECT count(*) FROM sqlite_schema").all([])[0] ?? [];
  if (applicationId === 0 && version === 0 && Number(objects) === 0) return 0;
  checkVersion({ applicationId, version }, path, advice);
  return version;
}

/** Refuses a file by what its first page says that it is; see `versionOf`. */
export function checkVersion(
  { applicationId, version }: { readonly applicationId: number; readonly version: number },
  path: string,
  advice?: string,
): void {
  if (applicationId !== APPLICATION_ID) {
    const what = "the file is another program's database";
    throw queueFileError("not-a-queue", path, what, { advice });
  }
  if (version > SPOOL_VERSION) {
    throw queueFileError(
      "newer-version",
      path,
      `the file has version ${version}, this sendq knows ${SPOOL_VERSION}`,
    );
  }
  if (version < 1) {
    throw queueFileError("corrupt", path, `the file has the impossible version ${version}`);
  }
}

interface Tolerance {
  readonly mayLack?: boolean;
  /** What to do where it is no queue. */
  readonly advice?: string;
  readonly kind?: FileKind;
}

/**
 * Its version, but only if the file has nothing else in it than that version has. Both
 * are read at one moment: at the next one another process may make it another version.
 *
 * @param database The file, open, and outside of a transaction.
 * @throws {QueueFileError} It is none that this code understands.
 */
export function recognise(
  database: SqliteDatabase,
  path: string,
  tolerance: Tolerance = {},
): number {
  database.prepare("BEGIN").run([]);
  try {
    return recogniseWithin(database, path, tolerance);
  } finally {
    rollBack(database);
  }
}

/** The same for who has begun a transaction. */
function recogniseWithin(
  database: SqliteDatabase,
  path: string,
  { mayLack = false, advice, kind = "queue" }: Tolerance = {},
): number {
  const version = versionOf(database, path, advice);
  if (version > 0) checkKind(version, path, kind);
  if (version > 0) checkLayout(database, version, path, { mayLack });
  return version;
}

/** @throws {QueueFileError} A queue was asked for, and this is a spool; or the other way round. */
export function checkKind(version: number, path: string, kind: FileKind): void {
  const isSpool = version === SPOOL_VERSION;
  if (isSpool === (kind === "spool")) return;
  throw isSpool
    ? queueFileError("not-a-queue", path, "it is a spool, which holds several queues", {
      advice: `Name one of them: spool:${path}#NAME. sendq spool ${path} lists them.`,
    })
    : queueFileError("not-a-queue", path, "it holds one queue, and is no spool", {
      advice: `Give the path of a spool, or of a file that is not there yet; ${path} alone ` +
        "names this queue.",
    });
}

/** Lets SQL that a file brings along call no functions, and damaged pages do less harm. */
export function distrust(database: SqliteDatabase): void {
  pragma(database, "trusted_schema = off");
  pragma(database, "cell_size_check = on");
}

function setUp(
  database: SqliteDatabase,
  path: string,
  { durability, driver, kind = "queue", journal = "wal" }: OpenFileOptions,
): void {
  distrust(database);
  const version = recognise(database, path, { kind });
  if (version === 0) {
    // Both only count before the first table; auto_vacuum would be written anew each time.
    pragma(database, "page_size = 4096");
    pragma(database, "auto_vacuum = incremental");
  }
  if (pragma(database, `journal_mode = ${journal}`) !== journal) {
    throw queueFileError("io", path, "SQLite cannot keep a write-ahead log there", {
      advice: "Put the queue on a local filesystem.",
    });
  }
  pragma(database, `synchronous = ${durability === "power-loss" ? "full" : "normal"}`);
  const { logPages } = diskShares((driver.diskAt ?? diskAt)(path)?.diskBytes);
  pragma(database, `wal_autocheckpoint = ${logPages}`);
  // A little more than so many pages take in the log: it is not cut each time it begins anew.
  pragma(database, `journal_size_limit = ${4200 * logPages}`);
  pragma(database, "temp_store = memory");
  if (version < SCHEMA_VERSION) bringUpToDate(database, path, kind);
}

/** Makes the schema, or brings an older one to this version: all of it or nothing. */
function bringUpToDate(database: SqliteDatabase, path: string, kind: FileKind): void {
  database.prepare("BEGIN IMMEDIATE").run([]);
  try {
    // Another process may have been quicker.
    const version = recogniseWithin(database, path, { kind });
    if (version < SCHEMA_VERSION) {
      const steps = version > 0
        ? UPGRADES.slice(version - 1).flat()
        : kind === "spool"
        ? CREATE_SPOOL
        : CREATE;
      for (const sql of steps) database.prepare(sql).run([]);
      // What contradicts itself stays as it is: a repair may find more in the older version.
      if (kind === "queue") new StateTable(database, WHOLE_FILE).checkSize();
      // Prepared inside the transaction, because preparing may already apply it.
      database.prepare(`PRAGMA application_id = ${APPLICATION_ID}`).run([]);
      const made = kind === "spool" ? SPOOL_VERSION : SCHEMA_VERSION;
      database.prepare(`PRAGMA user_version = ${made}`).run([]);
    }
    database.prepare("COMMIT").run([]);
  } catch (error) {
    rollBack(database);
    throw error;
  }
}

/** Ends a transaction; never throws. */
export function rollBack(database: SqliteDatabase): void {
  try {
    database.prepare("ROLLBACK").run([]);
  } catch {
    // SQLite has rolled back by itself, as it does when the disk is full.
  }
}
