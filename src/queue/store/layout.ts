/**
 * The tables of a queue's file, in the words in which SQLite keeps them, for each
 * version; `schema.ts` says what they mean.
 *
 * A file of version 3 has one of two layouts: where an older sendq has made it, columns stand behind
 * the payload that in a new one stand before it (docs/decisions/file-version-3.md).
 */

import { queueFileError } from "../sqlite/file_error.ts";
import type { SqliteDatabase } from "../sqlite/driver.ts";
import { queueOfKey } from "./id_window.ts";

const PACKETS_1 = `CREATE TABLE packets (
     last_id INTEGER PRIMARY KEY,
     enqueued_at_ms INTEGER NOT NULL,
     ends BLOB,
     payload BLOB NOT NULL
   )`;
const STATE_1 = `CREATE TABLE state (
     one INTEGER PRIMARY KEY CHECK (one = 1),
     packets INTEGER NOT NULL,
     bytes INTEGER NOT NULL,
     last_id INTEGER NOT NULL,
     removed_through INTEGER NOT NULL,
     sent_through INTEGER NOT NULL,
     dropped_packets INTEGER NOT NULL,
     dropped_bytes INTEGER NOT NULL
   )`;
const STATE_2_COLUMNS: readonly string[] = [
  "dead_packets INTEGER NOT NULL DEFAULT 0",
  "dead_bytes INTEGER NOT NULL DEFAULT 0",
  "expired_packets INTEGER NOT NULL DEFAULT 0",
  "gave_up_packets INTEGER NOT NULL DEFAULT 0",
];
const EXPIRY = `CREATE TABLE expiry (
       last_id INTEGER PRIMARY KEY,
       expires_at_ms INTEGER NOT NULL
     )`;
const EXPIRY_BY_TIME = "CREATE INDEX expiry_by_time ON expiry (expires_at_ms)";
const DEAD_LETTERS_2 = `CREATE TABLE dead_letters (
       id INTEGER PRIMARY KEY,
       enqueued_at_ms INTEGER NOT NULL,
       died_at_ms INTEGER NOT NULL,
       reason TEXT NOT NULL,
       sent INTEGER NOT NULL,
       attempts INTEGER NOT NULL,
       payload BLOB NOT NULL
     )`;

const PACKETS_3_COLUMNS: readonly string[] = [
  "queue INTEGER NOT NULL DEFAULT 0",
  "crc INTEGER",
  "stored_bytes INTEGER",
  "queued_packets INTEGER",
  "queued_bytes INTEGER",
  "removed_through INTEGER",
  "sent_through INTEGER",
];
const PACKETS_3 = `CREATE TABLE packets (
     last_id INTEGER PRIMARY KEY,
     enqueued_at_ms INTEGER NOT NULL,
     ${PACKETS_3_COLUMNS.join(",\n     ")},
     ends BLOB,
     payload BLOB NOT NULL
   )`;
const PACKETS_BY_QUEUE =
  "CREATE INDEX packets_by_queue ON packets (queue, last_id) WHERE queue > 0";
// Named otherwise than before on purpose: an old process that still has the file open fails at
// `packets` and `bytes`, with which each of its transactions begins.
const STATE_3 = `CREATE TABLE state (
     queue INTEGER PRIMARY KEY,
     queued_packets INTEGER NOT NULL,
     queued_bytes INTEGER NOT NULL,
     last_id INTEGER NOT NULL,
     removed_through INTEGER NOT NULL,
     sent_through INTEGER NOT NULL,
     dropped_packets INTEGER NOT NULL,
     dropped_bytes INTEGER NOT NULL,
     dead_packets INTEGER NOT NULL,
     dead_bytes INTEGER NOT NULL,
     expired_packets INTEGER NOT NULL,
     gave_up_packets INTEGER NOT NULL,
     damaged_packets INTEGER NOT NULL,
     refused_packets INTEGER NOT NULL,
     stored_bytes INTEGER NOT NULL,
     written_at_ms INTEGER NOT NULL,
     clock_offset_ms INTEGER NOT NULL
   )`;
const DEAD_LETTERS_3_COLUMNS: readonly string[] = [
  "queue INTEGER NOT NULL DEFAULT 0",
  "crc INTEGER",
  "words TEXT",
];
const DEAD_LETTERS_3 = `CREATE TABLE dead_letters (
     id INTEGER PRIMARY KEY,
     enqueued_at_ms INTEGER NOT NULL,
     died_at_ms INTEGER NOT NULL,
     reason TEXT NOT NULL,
     sent INTEGER NOT NULL,
     attempts INTEGER NOT NULL,
     ${DEAD_LETTERS_3_COLUMNS.join(",\n     ")},
     payload BLOB NOT NULL
   )`;

/** The one table of version 4 that version 3 lacks. */
const EDGE = `CREATE TABLE edge (
     one INTEGER PRIMARY KEY CHECK (one = 1),
     id TEXT NOT NULL
   )`;

/** The one table that a spool has and version 3 has not. */
const QUEUES = `CREATE TABLE queues (
     number INTEGER PRIMARY KEY,
     name TEXT NOT NULL UNIQUE
   )`;

/** By queue, and then by time: else each queue would look through what expires in all others. */
const EXPIRY_BY_QUEUE = `CREATE INDEX expiry_by_queue ON expiry (${
  queueOfKey("last_id")
}, expires_at_ms)`;

/** Makes a spool: version 5. */
export const CREATE_SPOOL: readonly string[] = [
  PACKETS_3,
  STATE_3,
  EXPIRY,
  EXPIRY_BY_QUEUE,
  DEAD_LETTERS_3,
  QUEUES,
];

/**
 * Makes a file of version 3. The order is that of older versions: a repair
 * relies on it where the list of tables is damaged.
 */
export const CREATE: readonly string[] = [
  PACKETS_3,
  STATE_3,
  "INSERT INTO state VALUES (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
  EXPIRY,
  EXPIRY_BY_TIME,
  DEAD_LETTERS_3,
  PACKETS_BY_QUEUE,
];

/** From version 3 to version 4, which only a file becomes that is forwarded. */
export const BECOME_EDGE: readonly string[] = [EDGE];

/** From each version to the next, up to version 3: the first entry from version 1 to version 2. */
export const UPGRADES: readonly (readonly string[])[] = [
  [
    EXPIRY,
    EXPIRY_BY_TIME,
    DEAD_LETTERS_2,
    ...STATE_2_COLUMNS.map((column) => `ALTER TABLE state ADD COLUMN ${column}`),
  ],
  [
    ...PACKETS_3_COLUMNS.map((column) => `ALTER TABLE packets ADD COLUMN ${column}`),
    // Before the new `state`, whose first page then takes the old one's place.
    PACKETS_BY_QUEUE,
    ...DEAD_LETTERS_3_COLUMNS.map((column) => `ALTER TABLE dead_letters ADD COLUMN ${column}`),
    "ALTER TABLE state RENAME TO state_of_version_2",
    STATE_3,
    "INSERT INTO state SELECT 0, packets, bytes, last_id, removed_through, sent_through, " +
    "dropped_packets, dropped_bytes, dead_packets, dead_bytes, expired_packets, " +
    "gave_up_packets, 0, 0, bytes, 0, 0 FROM state_of_version_2",
    "DROP TABLE state_of_version_2",
  ],
];

const LAYOUT_3: ReadonlyMap<string, readonly string[]> = new Map([
  ["packets", [PACKETS_3, withColumns(PACKETS_1, PACKETS_3_COLUMNS)]],
  ["packets_by_queue", [PACKETS_BY_QUEUE]],
  ["state", [STATE_3]],
  ["expiry", [EXPIRY]],
  ["expiry_by_time", [EXPIRY_BY_TIME]],
  ["dead_letters", [DEAD_LETTERS_3, withColumns(DEAD_LETTERS_2, DEAD_LETTERS_3_COLUMNS)]],
]);

/** For each version the SQL that each of its objects may have. */
const LAYOUTS: readonly ReadonlyMap<string, readonly string[]>[] = [
  new Map([
    ["packets", [PACKETS_1]],
    ["state", [STATE_1]],
  ]),
  new Map([
    ["packets", [PACKETS_1]],
    ["state", [withColumns(STATE_1, STATE_2_COLUMNS)]],
    ["expiry", [EXPIRY]],
    ["expiry_by_time", [EXPIRY_BY_TIME]],
    ["dead_letters", [DEAD_LETTERS_2]],
  ]),
  LAYOUT_3,
  new Map([...LAYOUT_3, ["edge", [EDGE]]]),
  new Map([
    ["packets", [PACKETS_3]],
    ["state", [STATE_3]],
    ["expiry", [EXPIRY]],
    ["expiry_by_queue", [EXPIRY_BY_QUEUE]],
    ["dead_letters", [DEAD_LETTERS_3]],
    ["queues", [QUEUES]],
    // Made by SQLite itself, for UNIQUE.
    ["sqlite_autoindex_queues_1", ["null"]],
  ]),
];

/** What ALTER TABLE ADD COLUMN makes of a table's SQL. */
function withColumns(sql: string, columns: readonly string[]): string {
  return `${sql.slice(0, sql.lastIndexOf(")"))}, ${columns.join(", ")})`;
}

/** SQLite keeps the text as it was given, and adds to it in its own way. */
function withoutSpace(sql: string): string {
  return sql.replaceAll(/\s+/g, "");
}

/**
 * Refuses a file in which something else than sendq's tables would be at work: its
 * own triggers and views would run with the rights of whoever opens it.
 *
 * @param mayLack Whether a table may be missing: whoever looks for damage goes on without it.
 * @throws {QueueFileError} With `"corrupt"`.
 */
export function checkLayout(
  database: SqliteDatabase,
  version: number,
  path: string,
  { mayLack = false }: { readonly mayLack?: boolean } = {},
): void {
  const layout = LAYOUTS[version - 1] ?? new Map<string, readonly string[]>();
  const found = new Set<string>();
  for (const row of database.prepare("SELECT type, name, sql FROM sqlite_schema").all([])) {
    const [type, name, sql] = row.map(String);
    const own = layout.get(name ?? "");
    if (own === undefined) {
      const what = `it has the ${type} ${JSON.stringify(name)}, which sendq has not made`;
      throw queueFileError("corrupt", path, what);
    }
    if (!own.some((one) => withoutSpace(one) === withoutSpace(sql ?? ""))) {
      throw queueFileError("corrupt", path, `its ${type} ${name} is not as sendq makes it`);
    }
    found.add(name ?? "");
  }
  for (const name of layout.keys()) {
    if (found.has(name) || mayLack) continue;
    throw queueFileError("corrupt", path, `${name} is missing in it`);
  }
}
