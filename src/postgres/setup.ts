/**
 * Makes what a queue needs in a database: schema, roles, and the queue itself.
 *
 * @module
 */

import { systemClock } from "../base/clock.ts";
import { QueueFileError } from "../base/errors.ts";
import { formatAddress, parseQueueUrl } from "./address.ts";
import { Database } from "./database.ts";
import { queueErrorOf } from "./errors.ts";
import { COMMIT } from "./sql/commit.ts";
import { EDIT } from "./sql/edit.ts";
import { READ } from "./sql/read.ts";
import { SHARED } from "./sql/shared.ts";
import { TABLES } from "./sql/tables.ts";

/** From each version of the schema to the next: the first entry makes version 1. */
const MIGRATIONS: readonly string[] = [[TABLES, SHARED, COMMIT, EDIT, READ].join("\n")];

/** The version that this code makes and understands. */
export const SCHEMA_VERSION: number = MIGRATIONS.length;

/** No two at a time; any number that nobody else locks. */
const SETUP_LOCK = 0x536e7131;
/** Making an index of a large table takes a while. */
const ANSWER_TIMEOUT_MS = 600_000;

/** What was done. */
export interface SetupResult {
  /** The schema's version before; 0: there was none. */
  readonly versionBefore: number;
  /** The schema's version now. */
  readonly version: number;
  /** The queue that is there now; `undefined`: none was named. */
  readonly queue: string | undefined;
}

/**
 * Brings a database to the newest version of sendq's schema: each step in a transaction of
 * its own, all of it or nothing. Makes the queue that the URL names. What is there already
 * stays as it is.
 *
 * Needs `--allow-net` for the servers. The user must be allowed to create roles and a schema.
 *
 * @param url As for `postgresQueue`; its last part, the queue, may be left out.
 * @param password Where it does not stand in the URL.
 * @throws {OptionError} The URL is none.
 * @throws {QueueFileError} The database cannot be reached, does not permit it, or has a schema
 *   of a newer sendq.
 */
export async function setUp(url: string, password?: string): Promise<SetupResult> {
  const parsed = parseQueueUrl(url);
  const address = { ...parsed, password: password ?? parsed.password };
  const path = formatAddress(address);
  const database = new Database({
    address,
    clock: systemClock,
    answerTimeoutMs: ANSWER_TIMEOUT_MS,
    waitsForStandby: false,
  });
  try {
    // Ends with the connection.
    await database.ask("SELECT pg_advisory_lock($1)", [SETUP_LOCK]);
    const versionBefore = await versionOf(database);
    if (versionBefore > SCHEMA_VERSION) throw newerVersion(path, versionBefore);
    for (let version = versionBefore; version < SCHEMA_VERSION; version++) {
      await database.run(`
        BEGIN;
        ${MIGRATIONS[version] ?? ""}
        INSERT INTO sendq.migration (version) VALUES (${version + 1});
        COMMIT`);
    }
    const queue = address.name === "" ? undefined : address.name;
    if (queue !== undefined) await database.ask("SELECT sendq.create_queue($1)", [queue]);
    return { versionBefore, version: SCHEMA_VERSION, queue };
  } catch (error) {
    throw queueErrorOf(error, path);
  } finally {
    database.close();
  }
}

async function versionOf(database: Database): Promise<number> {
  const { rows: [there] } = await database.ask(
    "SELECT to_regclass('sendq.migration') IS NOT NULL AS is_there",
    [],
  );
  if (there?.["is_there"] !== true) return 0;
  const { rows: [row] } = await database.ask(
    "SELECT max(version) AS version FROM sendq.migration",
    [],
  );
  return Number(row?.["version"] ?? 0);
}

/** The error for a schema that a newer sendq has made. */
export function newerVersion(path: string, version: number): QueueFileError {
  return new QueueFileError(
    "newer-version",
    path,
    `Queue ${path}: the database has version ${version} of sendq's schema, this sendq knows ` +
      `${SCHEMA_VERSION}. It was left as it is. Use a newer sendq.`,
  );
}
