/** The table `queues`: which number a name has, and which window of the ids. */

import {
  SqliteCode,
  type SqliteDatabase,
  SqliteError,
  type SqliteValue,
} from "../queue/sqlite/driver.ts";
import { queueFileError } from "../queue/sqlite/file_error.ts";
import { type IdWindow, queueOfKey, WINDOW_IDS } from "../queue/store/id_window.ts";
import { fileError } from "../queue/store/transaction.ts";
import type { Transactions } from "../queue/store/transactions.ts";
import type { SpoolAddress } from "./address.ts";

/** The highest number of a queue whose keys JavaScript still counts exactly. */
export const MAX_QUEUE_NUMBER: number = 2 ** 13 - 1;

/** What people call a queue of a spool, and what the file calls it. */
export interface NamedQueue {
  readonly name: string;
  readonly queue: number;
}

/** All queues, by their names. The caller has begun a transaction, or needs none. */
export function queuesIn(database: SqliteDatabase): NamedQueue[] {
  return database.prepare("SELECT name, number FROM queues ORDER BY name").all([])
    .map(([name, number]) => ({ name: String(name), queue: checkedNumber(number) }));
}

/** A queue's number; `undefined`: there is none of this name. */
export function findQueue(database: SqliteDatabase, name: string): number | undefined {
  const [row] = database.prepare("SELECT number FROM queues WHERE name = ?").all([name]);
  return row === undefined ? undefined : checkedNumber(row[0]);
}

/**
 * A queue's number; makes the queue where there is none.
 *
 * @throws {QueueFileError}
 */
export function numberOf(
  database: SqliteDatabase,
  transactions: Transactions,
  { file, name }: SpoolAddress,
): number {
  try {
    const known = findQueue(database, name);
    if (known !== undefined) return known;
    transactions.begin();
    // Another process may have been quicker.
    const number = findQueue(database, name) ?? makeQueue(database, file, name);
    transactions.commit();
    return number;
  } catch (error) {
    transactions.rollBack();
    throw fileError(error, file);
  }
}

function checkedNumber(value: SqliteValue | undefined): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= 1 && number <= MAX_QUEUE_NUMBER) return number;
  throw new SqliteError(SqliteCode.CORRUPT, `the number of one of its queues is ${String(value)}`);
}

function makeQueue(database: SqliteDatabase, file: string, name: string): number {
  // Where a damaged file has lost a name: nobody else's packets become the new queue's.
  const [row] = database.prepare(
    "SELECT max(coalesce((SELECT max(number) FROM queues), 0), " +
      "coalesce((SELECT max(queue) FROM state), 0), " +
      `coalesce((SELECT ${queueOfKey("max(last_id)")} FROM packets), 0)) + 1`,
  ).all([]);
  const number = Number(row?.[0]);
  if (number > MAX_QUEUE_NUMBER) {
    throw queueFileError("io", file, `it has ${MAX_QUEUE_NUMBER} queues, and can have no more`, {
      advice: "Put the next ones into another spool.",
    });
  }
  database.prepare("INSERT INTO queues (number, name) VALUES (?, ?)").run([number, name]);
  database.prepare(
    `INSERT INTO state VALUES (?${", 0".repeat(16)})`,
  ).run([number]);
  return number;
}

/** The window of a spool's queue; its number counts from 1. */
export function windowOf(queue: number): IdWindow {
  const baseId = BigInt(queue) * WINDOW_IDS;
  return { queue, baseId, belowId: baseId, endId: baseId + WINDOW_IDS - 1n };
}
