/**
 * SQL that no sendq would run on a queue.
 *
 * @module
 */

import type { SeededRandom } from "../simulation/random.ts";

const VALUES = [
  ...["NULL", "0", "1", "-1", "7", "1.5", "1e300", "9007199254740993", "9223372036854775807"],
  ...["-9223372036854775808", "''", "'x'", "x''", "x'00'", "x'0100000002000000'", "zeroblob(5000)"],
] as const;
const PACKET_COLUMNS = [
  ...["last_id", "enqueued_at_ms", "queue", "stored_bytes", "queued_packets", "queued_bytes"],
  ...["removed_through", "sent_through", "ends", "payload"],
] as const;
const STATE_COLUMNS = [
  ...["queue", "queued_packets", "queued_bytes", "last_id", "removed_through", "sent_through"],
  ...["dropped_packets", "dropped_bytes", "dead_packets", "dead_bytes", "expired_packets"],
  ...["gave_up_packets", "damaged_packets", "refused_packets", "stored_bytes", "written_at_ms"],
  ...["clock_offset_ms"],
] as const;
const LETTER_COLUMNS = [
  ...["id", "enqueued_at_ms", "died_at_ms", "reason", "sent", "attempts", "queue", "crc"],
  ...["words"],
] as const;
const TABLES = ["packets", "state", "expiry", "dead_letters"] as const;

/** A row, or all of them. */
function someOf(table: string, key: string, random: SeededRandom): string {
  if (random.chance(0.3)) return "";
  const nth = random.int(0, 5);
  return ` WHERE ${key} = (SELECT ${key} FROM ${table} ORDER BY ${key} LIMIT 1 OFFSET ${nth})`;
}

/**
 * Statements to draw from. None gives a packet other bytes and a checksum that fits
 * them, or none: that is a packet stored by somebody else, and nobody can tell.
 */
export const HOSTILE_SQL: readonly ((random: SeededRandom) => string)[] = [
  (random) =>
    `UPDATE packets SET ${random.pick(PACKET_COLUMNS)} = ${random.pick(VALUES)}` +
    someOf("packets", "last_id", random),
  (random) =>
    `UPDATE packets SET crc = ${random.pick(["0", "-1", "1.5", "'x'", "x'00'", "1e300"])}` +
    someOf("packets", "last_id", random),
  (random) =>
    `UPDATE packets SET last_id = last_id + ${random.pick([1, 1000, 1e15])}` +
    someOf("packets", "last_id", random),
  (random) => `UPDATE state SET ${random.pick(STATE_COLUMNS)} = ${random.pick(VALUES)}`,
  (random) => `UPDATE state SET ${random.pick(STATE_COLUMNS)} = ${random.int(0, 300)}`,
  (random) =>
    `UPDATE dead_letters SET ${random.pick(LETTER_COLUMNS)} = ${random.pick(VALUES)}` +
    someOf("dead_letters", "id", random),
  (random) =>
    `UPDATE expiry SET ${random.pick(["last_id", "expires_at_ms"])} = ${random.pick(VALUES)}` +
    someOf("expiry", "last_id", random),
  (random) =>
    `INSERT INTO packets (last_id, enqueued_at_ms, crc, ends, payload) VALUES (` +
    `${random.pick(["99999", "1", "0", "-5", "9223372036854775807"])}, ${random.pick(VALUES)}, ` +
    `${random.pick(["0", "-1", "'x'"])}, ${random.pick(VALUES)}, ${random.pick(VALUES)})`,
  () => "INSERT INTO state SELECT 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
  (random) => `DELETE FROM ${random.pick(TABLES)}`,
  (random) => `DROP TABLE ${random.pick(TABLES)}`,
  (random) => `DROP INDEX ${random.pick(["packets_by_queue", "expiry_by_time"])}`,
  (random) => `ALTER TABLE packets DROP COLUMN ${random.pick(["crc", "ends", "payload"])}`,
  (random) => `ALTER TABLE ${random.pick(TABLES)} RENAME TO other`,
  (random) => `ALTER TABLE ${random.pick(TABLES)} ADD COLUMN other`,
  () => "CREATE TRIGGER t AFTER INSERT ON packets BEGIN DELETE FROM packets; END",
  () => "CREATE VIEW v AS SELECT * FROM packets",
  () => "ALTER TABLE packets RENAME TO p; CREATE VIEW packets AS SELECT * FROM p",
  () => "CREATE TABLE other (a); CREATE INDEX i ON packets (payload)",
  (random) => `PRAGMA application_id = ${random.pick([0, 1, -1, 0x536e7132])}`,
  (random) => `PRAGMA user_version = ${random.pick([0, 1, 2, 4, -1, 2147483647])}`,
  (random) =>
    `PRAGMA journal_mode = delete; PRAGMA page_size = ${random.pick([512, 8192, 65536])}; VACUUM`,
  () => "PRAGMA journal_mode = delete; PRAGMA auto_vacuum = none; VACUUM",
];
