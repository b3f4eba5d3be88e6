/**
 * Which file this is, for those to whom it is forwarded: a UUID that the file keeps for
 * ever, and that a copy or a backup of it has as well. Made when it is first asked for.
 */

import type { SqliteDatabase } from "../sqlite/driver.ts";
import { SqliteCode, SqliteError } from "../sqlite/driver.ts";
import { BECOME_EDGE } from "./layout.ts";
import { EDGE_VERSION, versionOf } from "./schema.ts";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** @throws {SqliteError} What is there is no id. */
export function edgeIdIn(database: SqliteDatabase, path: string): string | undefined {
  if (versionOf(database, path) < EDGE_VERSION) return undefined;
  const id = database.prepare("SELECT id FROM edge").all([])[0]?.[0];
  if (typeof id === "string" && UUID.test(id)) return id;
  throw new SqliteError(SqliteCode.CORRUPT, `its id as an edge is ${String(id)}`);
}

/**
 * Gives the file an id, or another one in the place of the one that it has. The caller has
 * begun a transaction and ends it.
 */
export function writeEdgeId(database: SqliteDatabase, path: string, id: string): void {
  if (versionOf(database, path) < EDGE_VERSION) {
    for (const sql of BECOME_EDGE) database.prepare(sql).run([]);
    // Prepared inside the transaction, because preparing may already apply it.
    database.prepare(`PRAGMA user_version = ${EDGE_VERSION}`).run([]);
  }
  database.prepare("INSERT OR REPLACE INTO edge (one, id) VALUES (1, ?)").run([id]);
}
