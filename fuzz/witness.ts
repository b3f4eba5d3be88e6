/**
 * What queue files hold, found out beside the commands that are fuzzed.
 *
 * @module
 */

import { DatabaseSync, type StatementSync } from "node:sqlite";
import { createHash } from "node:crypto";
import { QueueFileError } from "../mod.ts";
import { QueueInspector } from "../src/queue/inspect/inspector.ts";
import { repairQueue } from "../src/queue/repair/repair.ts";
import { copyQueue, QUEUE_FILES, removeIfThere } from "./specimen.ts";

/** The packets and dead letters of a queue, by their ids. */
export interface Content {
  readonly packets: ReadonlyMap<number, string>;
  readonly letters: ReadonlyMap<number, string>;
}

/** Reads a sound queue; nobody has it open. */
export async function contentOf(path: string): Promise<Content> {
  using inspector = await QueueInspector.open(path);
  const decoder = new TextDecoder();
  const packets = new Map<number, string>();
  const letters = new Map<number, string>();
  for await (const { id, payload } of inspector.packets({ payloadBytes: Infinity })) {
    packets.set(id, decoder.decode(payload));
  }
  for await (const { id, payload } of inspector.deadLetters({ payloadBytes: Infinity })) {
    letters.set(id, decoder.decode(payload));
  }
  return { packets, letters };
}

/**
 * Every packet that a damaged queue still holds, as a packet or as a dead letter.
 * The repair says so: it alone reads around what SQLite gives up at.
 *
 * @param path Nobody has it open. It stays as it is.
 */
export function survivorsIn(path: string): Set<string> {
  const saved = `${path}.saved`;
  try {
    repairQueue(path, saved);
    return new Set([...textsIn(saved, "packets"), ...textsIn(saved, "dead_letters")]);
  } catch (error) {
    if (!(error instanceof QueueFileError)) throw error;
    return new Set();
  } finally {
    removeDatabase(saved);
  }
}

/**
 * Every packet that SQLite can read in a damaged queue, as a packet or as a dead letter:
 * what a queue that is in use can know of.
 *
 * @param path Not opened itself, but a copy of it.
 */
export function readableIn(path: string): Set<string> {
  const copy = `${path}.copy`;
  copyQueue(path, copy);
  try {
    return new Set([...textsIn(copy, "packets"), ...textsIn(copy, "dead_letters")]);
  } finally {
    removeDatabase(copy);
  }
}

function removeDatabase(path: string): void {
  for (const end of [...QUEUE_FILES, "-shm"]) removeIfThere(path + end);
}

/**
 * The packets in a table, row by row up to the first that cannot be found, by plain SQL:
 * whether they are in order otherwise is not asked here.
 */
export function textsIn(path: string, table: "packets" | "dead_letters"): Set<string> {
  const texts = new Set<string>();
  const decoder = new TextDecoder();
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { readOnly: true });
    const next = database.prepare(
      `SELECT min(rowid) AS id FROM ${table} WHERE rowid > CAST(? AS INTEGER)`,
    );
    const payloadOf = database.prepare(
      `SELECT CAST(payload AS BLOB) AS payload FROM ${table} WHERE rowid = CAST(? AS INTEGER)`,
    );
    next.setReadBigInts(true);
    for (let last = -(2n ** 63n);;) {
      const id = next.get(String(last))?.["id"];
      if (typeof id !== "bigint" || id <= last) return texts;
      last = id;
      for (const text of linesOf(decoder.decode(payloadIn(payloadOf, id)))) texts.add(text);
    }
  } catch {
    return texts; // Damaged here; what comes behind nobody finds by its id.
  } finally {
    database?.close();
  }
}

function payloadIn(payloadOf: StatementSync, id: bigint): Uint8Array {
  try {
    const payload = payloadOf.get(String(id))?.["payload"];
    return payload instanceof Uint8Array ? payload : new Uint8Array(0);
  } catch {
    return new Uint8Array(0); // A page of it cannot be read.
  }
}

/** The packets in a text; what is not a whole one is none. */
export function linesOf(text: string): string[] {
  return text.match(/[^\n]*\n/g) ?? [];
}

/** A word for the bytes of a queue's files. An empty log is none. */
export function fingerprintOf(path: string): string {
  const hash = createHash("sha256");
  for (const end of QUEUE_FILES) {
    try {
      const bytes = Deno.readFileSync(path + end);
      if (end === "" || bytes.length > 0) hash.update(`${end} ${bytes.length} `).update(bytes);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return hash.digest("hex");
}

/** The ids that lie in part or as a whole on each page, by SQLite's own account. */
export interface PageContent {
  readonly packets: ReadonlyMap<number, readonly number[]>;
  readonly letters: ReadonlyMap<number, readonly number[]>;
}

/** Looks at a sound queue, which nobody has open. */
export function pageContentOf(path: string): PageContent {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    const packetRows = database.prepare(
      "SELECT last_id AS last, coalesce(length(ends) / 4, 1) AS count FROM packets ORDER BY 1",
    ).all().map((row) => {
      const [last, count] = [Number(row["last"]), Number(row["count"])];
      return Array.from({ length: count }, (_, i) => last + 1 - count + i);
    });
    const letterRows = database.prepare("SELECT id FROM dead_letters ORDER BY 1").all()
      .map((row) => [Number(row["id"])]);
    return {
      packets: idsByPage(database, "packets", packetRows),
      letters: idsByPage(database, "dead_letters", letterRows),
    };
  } finally {
    database.close();
  }
}

/**
 * `dbstat` names each page by its way from the root: leaves in the order of their paths
 * hold the rows in theirs, and an overflow page's path is its leaf's, the number of the
 * row in it in hexadecimal, and `+`.
 */
function idsByPage(
  database: DatabaseSync,
  table: string,
  rows: readonly (readonly number[])[],
): Map<number, readonly number[]> {
  const pages = database.prepare(
    "SELECT path, pageno, pagetype, ncell FROM dbstat WHERE name = ? ORDER BY path",
  ).all(table);
  const ids = new Map<number, readonly number[]>();
  const firstRows = new Map<string, number>();
  let next = 0;
  for (const page of pages) {
    if (page["pagetype"] !== "leaf") continue;
    const cells = Number(page["ncell"]);
    firstRows.set(String(page["path"]), next);
    ids.set(Number(page["pageno"]), rows.slice(next, next + cells).flat());
    next += cells;
  }
  if (next !== rows.length) throw new Error(`${table}: ${rows.length} rows, ${next} on its pages`);
  for (const page of pages) {
    if (page["pagetype"] !== "overflow") continue;
    const [way = ""] = String(page["path"]).split("+");
    const firstRow = firstRows.get(way.slice(0, -3));
    const row = rows[(firstRow ?? NaN) + Number.parseInt(way.slice(-3), 16)];
    if (row === undefined) throw new Error(`${table}: whose page is ${way}?`);
    ids.set(Number(page["pageno"]), row);
  }
  return ids;
}
