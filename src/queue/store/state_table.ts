/**
 * The counts of a queue: which of them hold, and whether they can be true. The caller
 * has begun a transaction and ends it.
 */

import type { KeptCounts } from "../../base/queue_stats.ts";
import {
  LazyStatement,
  type SqliteDatabase,
  type SqliteStatement,
  type SqliteValue,
} from "../sqlite/driver.ts";
import type { StoreState } from "./contract.ts";
import { type IdWindow, WindowStatement } from "./id_window.ts";

/**
 * Two things in the file that cannot both be true. Nothing may be removed on the
 * strength of either.
 */
export class ContradictionError extends Error {
  override readonly name = "ContradictionError";
}

/** The counts without what is looked up in the packets. */
export type Counts = { -readonly [K in Exclude<keyof StoreState, "oldestEnqueuedAtMs">]: number };

/**
 * The columns of `state` in the order of the SQL, what each is called here, and, of those counts
 * that each row of packets has as well, where they stand in it.
 */
export const STATE_COLUMNS: readonly (readonly [string, keyof Counts, inRow?: string])[] = [
  ["queued_packets", "packets", "newer.queued_packets"],
  ["queued_bytes", "bytes", "newer.queued_bytes"],
  ["last_id", "lastId", "newer.last_id - ?1"],
  ["removed_through", "removedThrough", "newer.removed_through"],
  ["sent_through", "sentThrough", "newer.sent_through"],
  ["dropped_packets", "droppedPackets"],
  ["dropped_bytes", "droppedBytes"],
  ["dead_packets", "deadPackets"],
  ["dead_bytes", "deadBytes"],
  ["expired_packets", "expiredPackets"],
  ["gave_up_packets", "gaveUpPackets"],
  ["damaged_packets", "damagedPackets"],
  ["refused_packets", "refusedPackets"],
  ["stored_bytes", "storedBytes", "newer.stored_bytes"],
  ["written_at_ms", "writtenAtMs", "newer.enqueued_at_ms"],
  ["clock_offset_ms", "clockOffsetMs"],
];

const WITHIN = "last_id > ?2 AND last_id <= ?3";

export const COUNT_COLUMNS: readonly string[] = STATE_COLUMNS.map(([column]) => column);

/**
 * The counts that hold: see `schema.ts`. Behind them the first and the last row's ids. To be bound:
 * see `WindowStatement`, and the queue's number.
 */
export const COUNTS_SQL: string = `SELECT ${
  STATE_COLUMNS.map(([column, , inRow]) => {
    const value = `state.${column}`;
    return `${inRow === undefined ? value : `coalesce(${inRow}, ${value})`} AS ${column}`;
  }).join(", ")
}, (SELECT min(last_id) FROM packets WHERE ${WITHIN}) - ?1, ` +
  `(SELECT max(last_id) FROM packets WHERE ${WITHIN}) - ?1 FROM state ` +
  `LEFT JOIN packets AS newer ON newer.last_id = (SELECT max(last_id) FROM packets WHERE ${WITHIN}) ` +
  "AND newer.last_id - ?1 > state.last_id AND newer.stored_bytes IS NOT NULL " +
  "AND newer.queue = state.queue WHERE state.queue = ?4";

export class StateTable {
  readonly #queue: number;
  readonly #select: SqliteStatement;
  readonly #selectSize: SqliteStatement;
  readonly #update: SqliteStatement;

  constructor(database: SqliteDatabase, window: IdWindow) {
    this.#queue = window.queue;
    this.#select = new WindowStatement(database, COUNTS_SQL, window);
    this.#selectSize = new LazyStatement(
      database,
      "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    );
    this.#update = new LazyStatement(
      database,
      `UPDATE state SET ${COUNT_COLUMNS.map((column) => `${column} = ?`).join(", ")} ` +
        "WHERE queue = ?",
    );
  }

  /** @throws {ContradictionError} They cannot be true. */
  read(): Counts {
    const row = this.#select.all([this.#queue])[0];
    // It was made in the transaction that made the table, and is never removed.
    if (row === undefined) throw new ContradictionError("its row of counts is missing");
    const counts = { ...NO_COUNTS };
    for (const [i, [column, name]] of STATE_COLUMNS.entries()) {
      counts[name] = countOf(column, row[i]);
    }
    checkCounts(counts);
    checkIds(counts, row.slice(STATE_COLUMNS.length));
    return counts;
  }

  /**
   * Compares them with the file's size as well, which takes too long for each transaction.
   *
   * @throws {ContradictionError}
   */
  checkSize(): void {
    const { bytes } = this.read();
    const fileBytes = Number(this.#selectSize.all([])[0]?.[0]);
    if (bytes <= fileBytes) return;
    throw new ContradictionError(
      `it counts ${bytes} bytes of packets, and has ${fileBytes} bytes in all`,
    );
  }

  write(counts: Counts): void {
    this.#update.run([...STATE_COLUMNS.map(([, name]) => counts[name]), this.#queue]);
  }
}

/** Whether the rows of packets begin and end where the counts say. */
function checkIds(counts: Counts, ids: readonly SqliteValue[]): void {
  const [lowest, highest] = ids;
  const { packets, lastId, removedThrough } = counts;
  if ((typeof lowest !== "number" && typeof lowest !== "bigint") || highest === undefined) {
    if (packets === 0) return;
    throw new ContradictionError(`it counts ${packets} packets, and has none`);
  }
  if (packets === 0) throw new ContradictionError("it counts no packets, and has some");
  if (Number(highest) > lastId) {
    throw new ContradictionError(`there is id ${highest}, and the highest is ${lastId}`);
  }
  if (Number(lowest) <= removedThrough) {
    throw new ContradictionError(
      `ids up to ${removedThrough} were removed, and ${lowest} is still there`,
    );
  }
}

function countOf(column: string, value: SqliteValue | undefined): number {
  const number = typeof value === "number" || typeof value === "bigint" ? Number(value) : NaN;
  if (Number.isSafeInteger(number)) return number;
  throw new ContradictionError(`its count ${column} is ${String(value)}`);
}

/** Those of a queue in which there was never anything. */
export const NO_COUNTS: Counts = {
  packets: 0,
  bytes: 0,
  lastId: 0,
  removedThrough: 0,
  sentThrough: 0,
  droppedPackets: 0,
  droppedBytes: 0,
  deadPackets: 0,
  deadBytes: 0,
  expiredPackets: 0,
  gaveUpPackets: 0,
  damagedPackets: 0,
  refusedPackets: 0,
  storedBytes: 0,
  writtenAtMs: 0,
  clockOffsetMs: 0,
};

/** @throws {ContradictionError} They cannot be true. */
export function checkCounts(counts: Counts): void {
  const { packets, bytes, lastId, removedThrough, sentThrough } = counts;
  for (const [column, name] of STATE_COLUMNS) {
    if (counts[name] < 0 && name !== "clockOffsetMs") {
      throw new ContradictionError(`its count ${column} would be ${counts[name]}`);
    }
  }
  if (removedThrough > lastId || sentThrough > lastId) {
    throw new ContradictionError(
      `ids up to ${removedThrough} were removed and up to ${sentThrough} sent, ` +
        `and the highest is ${lastId}`,
    );
  }
  // Each packet has a byte, and an id of its own above those that were removed. That
  // an empty queue has removed all its ids is not held: a repair by version 2 left some.
  if (
    packets > lastId - removedThrough || bytes < packets || (packets === 0) !== (bytes === 0)
  ) {
    throw new ContradictionError(
      `it counts ${packets} packets of ${bytes} bytes above id ${removedThrough}, ` +
        `and the highest id is ${lastId}`,
    );
  }
}

/** Those of the counts that everybody is shown. */
export function keptCountsOf(counts: KeptCounts): KeptCounts {
  const { packets, bytes, lastId, droppedPackets, droppedBytes, deadPackets, deadBytes } = counts;
  const { expiredPackets, gaveUpPackets, damagedPackets, refusedPackets } = counts;
  return {
    ...{ packets, bytes, lastId, droppedPackets, droppedBytes, deadPackets, deadBytes },
    ...{ expiredPackets, gaveUpPackets, damagedPackets, refusedPackets },
  };
}
