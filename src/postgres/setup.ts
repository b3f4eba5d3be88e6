/** Makes what a queue needs in a database: schema, roles, and the queue itself. */

import { systemClock } from "../base/clock.ts";
import { messageOf, QueueFileError } from "../base/errors.ts";
import { formatAddress, parseQueueUrl } from "./address.ts";
import { Database } from "./database.ts";
import { ConnectionLostError, queueErrorOf, sqlStateOf } from "./errors.ts";
import { COMMIT } from "./sql/commit.ts";
import { EDGE_TABLE, EDGES } from "./sql/edges.ts";
import { EDIT } from "./sql/edit.ts";
import { INSPECT } from "./sql/inspect.ts";
import { READ } from "./sql/read.ts";
import { SHARED } from "./sql/shared.ts";
import {
  CHECKSUM_OF,
  CHECKSUMS,
  LEASE_TTL,
  OWN_TIME,
  TABLES,
  TENURES,
  TRIGGERS,
  TRUNCATION,
} from "./sql/tables.ts";

/**
 * Version 5: a sender looks at the checksums, and a commit takes half as long. Version 8: a file
 * that is refused changes nothing, and a producer removes no dead letters. Version 10: a producer
 * stores nothing that contradicts itself. Version 12: a read needs no room on the disk.
 */
const FUNCTIONS_ALONE = "";
/** What each version of the schema changes in its tables: the first entry makes version 1. */
const MIGRATIONS: readonly string[] = [
  TABLES,
  CHECKSUMS,
  TENURES,
  EDGE_TABLE,
  FUNCTIONS_ALONE,
  TRIGGERS,
  TRUNCATION,
  FUNCTIONS_ALONE,
  LEASE_TTL,
  FUNCTIONS_ALONE,
  OWN_TIME,
  FUNCTIONS_ALONE,
];
/** Functions hold nothing: those of the version before go, and these come. */
export const FUNCTIONS: string = [
  ...[CHECKSUM_OF, SHARED, COMMIT, EDIT, READ, INSPECT, EDGES],
  "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sendq FROM public;",
].join("\n");
/** All but what tables and triggers are made of. */
export const DROP_FUNCTIONS = `
  DO $$
  DECLARE
    f regprocedure;
  BEGIN
    FOR f IN SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname = 'sendq' AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
      )
    LOOP
      EXECUTE 'DROP FUNCTION ' || f;
    END LOOP;
  END $$;
`;

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
 * Brings a database to the newest version of sendq's schema, in one transaction: all of it or
 * nothing. Makes the queue that the URL names. What is there already stays as it is.
 *
 * Needs `--allow-net` for the servers. The user needs CREATE on the database, and CREATEROLE
 * unless the roles are there already; no superuser.
 *
 * @param url As for `postgresQueue`; its last part, the queue, may be left out.
 * @param password Where it does not stand in the URL.
 * @throws {OptionError} The URL is none.
 * @throws {QueueFileError} The database cannot be reached, does not permit it, has a schema
 *   of a newer sendq, or has none and knows some characters alone.
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
    // Ends with the connection.
    hello: { text: "SELECT pg_advisory_lock($1)", args: [SETUP_LOCK] },
  });
  try {
    const versionBefore = await versionOf(database);
    if (versionBefore > SCHEMA_VERSION) throw newerVersion(path, versionBefore);
    if (versionBefore === 0) await checkEncoding(database, path);
    if (versionBefore < SCHEMA_VERSION) await database.run(upgradeFrom(versionBefore));
    const queue = address.name === "" ? undefined : address.name;
    if (queue !== undefined) await database.ask("SELECT sendq.create_queue($1)", [queue]);
    return { versionBefore, version: SCHEMA_VERSION, queue };
  } catch (error) {
    if (error instanceof ConnectionLostError && error.sent) throw unknownOutcome(path, error);
    if (sqlStateOf(error) !== "42501") throw queueErrorOf(error, path);
    const { database: name, user } = address;
    throw new QueueFileError(
      "read-only",
      path,
      `Queue ${path}: ${messageOf(error)}. Nothing was changed. The user ${user} needs CREATE on ` +
        `the database (GRANT CREATE ON DATABASE ${name} TO ${user}), and CREATEROLE where the ` +
        "roles sendq_producer, sendq_sender and sendq_operator are not there yet. A schema " +
        "sendq that is there already is set up by its owner; a queue in it is also made by who " +
        `has the role sendq_operator (GRANT sendq_operator TO ${user}).`,
      { cause: error },
    );
  } finally {
    database.close();
  }
}

/** The answer was lost, and not what was asked for. */
function unknownOutcome(path: string, error: ConnectionLostError): QueueFileError {
  return new QueueFileError(
    "busy",
    path,
    `Queue ${path}: ${error.message}. Either all was changed that was to be, or nothing was. Run ` +
      "sendq postgres setup again: it goes on from what is there.",
    { cause: error },
  );
}

function upgradeFrom(version: number): string {
  const versions = MIGRATIONS.slice(version).map((_, i) => `(${version + 1 + i})`);
  return `
    BEGIN;
    ${version === 0 ? "" : DROP_FUNCTIONS}
    ${MIGRATIONS.slice(version).join("\n")}
    ${FUNCTIONS}
    INSERT INTO sendq.migration (version) VALUES ${versions.join(", ")};
    COMMIT`;
}

/**
 * Names and words have any characters: a dead letter whose words the database cannot write would
 * keep its packet in front of all others.
 *
 * @throws {QueueFileError} The database knows some characters alone.
 */
async function checkEncoding(database: Database, path: string): Promise<void> {
  const { rows: [row] } = await database.ask("SHOW server_encoding", []);
  const encoding = String(row?.["server_encoding"]);
  if (encoding === "UTF8" || encoding === "SQL_ASCII") return;
  throw new QueueFileError(
    "not-a-queue",
    path,
    `Queue ${path}: the database has the encoding ${encoding}, which cannot write each name and ` +
      "each server's words. Nothing was changed. Create one that can, then run sendq postgres " +
      "setup for that: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
  );
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

/** @throws {QueueFileError} An older or a newer sendq has made the schema. */
export function checkVersion(path: string, version: number): void {
  if (version > SCHEMA_VERSION) throw newerVersion(path, version);
  if (version === SCHEMA_VERSION) return;
  throw new QueueFileError(
    "not-a-queue",
    path,
    `Queue ${path}: the database has version ${version} of sendq's schema, this sendq needs ` +
      `${SCHEMA_VERSION}. It was left as it is. Bring it along: sendq postgres setup, as the ` +
      "user who has made it. Then programs of an older sendq cannot open it any more.",
  );
}

function newerVersion(path: string, version: number): QueueFileError {
  return new QueueFileError(
    "newer-version",
    path,
    `Queue ${path}: the database has version ${version} of sendq's schema, this sendq knows ` +
      `${SCHEMA_VERSION}. It was left as it is. Use a newer sendq.`,
  );
}
