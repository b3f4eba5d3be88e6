/**
 * What is done to a spool as a file: it is checked, copied, or one of its queues is saved from
 * what is left of it.
 */

import { queueFileError } from "../queue/sqlite/file_error.ts";
import { backUp } from "../queue/inspect/backup.ts";
import { checkFile, type QueueProblem } from "../queue/inspect/integrity.ts";
import { repairQueue, type RepairReport } from "../queue/repair/repair.ts";
import type { DatabaseRows } from "../queue/repair/sqlite_rows.ts";
import type { SqliteDatabase, SqliteValue } from "../queue/sqlite/driver.ts";
import { statementFor, WHOLE_FILE } from "../queue/store/id_window.ts";
import { SPOOL_VERSION } from "../queue/store/schema.ts";
import { checkSpoolAddress } from "./address.ts";
import { lookInto, type SpooledQueue, spooledQueues } from "./inspector.ts";
import { MAX_QUEUE_NUMBER, type NamedQueue, queuesIn, windowOf } from "./queue_names.ts";

/**
 * Looks for damage in a spool: its pages, and each of its queues; see `Inspector.check`.
 *
 * @throws {QueueFileError} The file is no spool, or stayed locked.
 */
export async function checkSpool(file: string, maxProblems = 1000): Promise<QueueProblem[]> {
  return await lookInto(file, {}, (database) => {
    const problems = checkFile((sql, params) => database.prepare(sql).all(params), {
      ...{ version: SPOOL_VERSION, queue: 0, maxProblems, pages: "alone" },
    });
    const queues = queuesIn(database);
    for (const { name, queue } of queues) {
      const left = maxProblems - problems.length;
      if (left <= 0) break;
      const window = windowOf(queue);
      const select = (sql: string, params: readonly SqliteValue[]) =>
        statementFor(database, sql, window).all(params);
      const options = { version: SPOOL_VERSION, queue, maxProblems: left, pages: "known" as const };
      const found = checkFile(select, options);
      problems.push(
        ...found.map(({ kind, words }) => ({ kind, words: `queue ${name}: ${words}` })),
      );
    }
    problems.push(...strays(database, queues.map(({ queue }) => queue)));
    return problems.slice(0, maxProblems);
  });
}

/** Rows of no queue that has a name. */
function strays(database: SqliteDatabase, queues: readonly number[]): QueueProblem[] {
  const problems: QueueProblem[] = [];
  const say = (table: string, key: SqliteValue | undefined) =>
    problems.push({ kind: "packets", words: `${table} has the row ${key}, which is of no queue` });
  for (
    const [table, key] of [["packets", "last_id"], ["expiry", "last_id"], ["dead_letters", "id"]]
  ) {
    const find = database.prepare(
      `SELECT ${key} FROM ${table} WHERE ${key} > ? AND ${key} <= ? ORDER BY ${key} LIMIT 1`,
    );
    let belowId = WHOLE_FILE.belowId;
    for (const queue of [...queues.toSorted((a, b) => a - b), undefined]) {
      const window = queue === undefined ? undefined : windowOf(queue);
      const [row] = find.all([belowId, window?.belowId ?? WHOLE_FILE.endId]);
      if (row !== undefined) say(`${table}`, row[0]);
      belowId = window?.endId ?? belowId;
    }
  }
  const lost = "SELECT queue FROM state WHERE queue NOT IN (SELECT number FROM queues) LIMIT 1";
  for (const [queue] of database.prepare(lost).all([])) say("state", queue);
  return problems;
}

/** What all queues of a spool hold together. */
export function totalOf(
  queues: readonly SpooledQueue[],
): Pick<SpooledQueue, "packets" | "bytes" | "deadPackets"> {
  let packets = 0, bytes = 0, deadPackets = 0;
  for (const queue of queues) {
    packets += queue.packets;
    bytes += queue.bytes;
    deadPackets += queue.deadPackets;
  }
  return { packets, bytes, deadPackets };
}

/**
 * Copies a spool, as it is at one moment, into a new file; see `backUpQueue`.
 *
 * @returns The queues that the copy holds, and what is wrong in it: damage is copied, too.
 */
export async function backUpSpool(
  from: string,
  to: string,
): Promise<{ readonly queues: SpooledQueue[]; readonly problems: readonly QueueProblem[] }> {
  return await backUp(from, to, {
    refuse: () => lookInto(from, {}, () => {}),
    look: async () => ({ queues: await spooledQueues(to), problems: await checkSpool(to) }),
  });
}

/**
 * Writes what can be read of one queue of a spool into a new file, which has that queue alone;
 * see `repairQueue`.
 */
export function repairFromSpool(file: string, given: string, to: string): RepairReport {
  const { name } = checkSpoolAddress({ file, name: given });
  return repairQueue(file, to, {
    find(rows, roots) {
      const found = new Set<string>();
      for (const { name: known, queue } of namesIn(rows, roots?.get("queues"))) {
        if (known === name) return windowOf(queue);
        found.add(known);
      }
      throw queueFileError("not-a-queue", file, `it has no queue ${name}`, {
        advice: `Found were: ${[...found].slice(0, 20).join(", ") || "none"}.`,
      });
    },
  });
}

/** The names that a damaged spool still has, some of them twice: they stand in an index as well. */
function* namesIn(rows: DatabaseRows, root: number | undefined): Generator<NamedQueue> {
  for (const row of root === undefined ? rows.orphans() : rows.table(root)) {
    if (!("key" in row) || row.cells.length !== 2) continue;
    const [, name] = row.cells;
    if (typeof name === "string") yield { name, queue: row.key };
  }
  for (const [name, queue, ...more] of rows.indexRows()) {
    if (typeof name !== "string" || typeof queue !== "number" || more.length > 0) continue;
    if (queue >= 1 && queue <= MAX_QUEUE_NUMBER) yield { name, queue };
  }
}
