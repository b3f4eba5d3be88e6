/**
 * The tables `packets` and `expiry`. The caller has begun a transaction and ends it. Every method
 * tells how many packets it concerned, so that the counts stay exact.
 */

import { cutBatches, lastIdOf, sliceBatch } from "../../base/packet_batch.ts";
import type { PacketBatch, StoredPacket } from "../../base/ports.ts";
import {
  isSqliteError,
  SqliteCode,
  type SqliteDatabase,
  type SqliteValue,
} from "../sqlite/driver.ts";
import type { ReadResult } from "./contract.ts";
import { type IdWindow, lastIdIn, queueOfKey, WHOLE_FILE, WindowStatement } from "./id_window.ts";
import { batchOf, crcOf, DamagedRowError, packetsOfDamaged, shapeOf } from "./row.ts";
import { ContradictionError, type Counts } from "./state_table.ts";
import { type Due, type IdRange, mergeRanges, type PacketCount } from "./types.ts";

/** The packet that was stored first, of those that are still there. */
export interface OldestPacket {
  readonly id: number;
  readonly enqueuedAtMs: number;
}

/** How many rows a read looks at: enough for most, and then, where rows are small, for the rest. */
const READ_ROWS = [32, 1024] as const;
const DROP_ROWS = 64;
/** How much one transaction moves at most, unless a single batch is larger. */
export const MOVE_PACKETS = 4096;
/**
 * The same in bytes: 2 MiB store large packets no faster, and hold up the event loop, and with it
 * delivery, four times as long.
 */
export const MOVE_BYTES = 512 * 1024;
/** Of a dead letter's row, beside the packet: small ones take several times their bytes. */
export const LETTER_BYTES_BESIDE = 64;
/** How many rows a search for expired ones finds and, in the order of ids, looks at. */
const DUE_ROWS = 256;
const DUE_SEARCH_ROWS = 1024;

const NONE: PacketCount = { packets: 0, bytes: 0 };

/** The packets on disk. Ids up to `removedThrough` count as gone, whatever the rows say. */
export class PacketTable {
  readonly #window: IdWindow;

  readonly #sql: ReturnType<typeof statementsOf>;

  constructor(database: SqliteDatabase, window: IdWindow) {
    this.#window = window;
    this.#sql = statementsOf(database, window);
  }

  /**
   * Stores batches behind all others.
   *
   * @param batches Their ids follow those given so far.
   * @param counts Those before; counts the batches in.
   * @throws {ContradictionError} The queue has no more ids.
   */
  insert(batches: readonly PacketBatch[], enqueuedAtMs: number, counts: Counts): void {
    for (const batch of batches) {
      counts.lastId += batch.ends.length;
      if (counts.lastId > lastIdIn(this.#window)) {
        throw new ContradictionError("it has given all ids that a queue in a spool has");
      }
      counts.packets += batch.ends.length;
      counts.bytes += batch.bytes.length;
      counts.storedBytes += batch.bytes.length;
      this.#insert(batch, enqueuedAtMs, counts);
    }
  }

  #insert(batch: PacketBatch, enqueuedAtMs: number, counts: Counts | undefined): void {
    const { bytes, expiresAtMs } = batch;
    const lastId = lastIdOf(batch);
    const ends = endsBlob(batch.ends);
    this.#sql.insertBatch.run([
      lastId,
      enqueuedAtMs,
      this.#window.queue,
      crcOf(lastId, ends, bytes),
      counts?.storedBytes ?? null,
      counts?.packets ?? null,
      counts?.bytes ?? null,
      counts?.removedThrough ?? null,
      counts?.sentThrough ?? null,
      ends,
      bytes,
    ]);
    if (expiresAtMs !== Infinity) this.#sql.insertExpiry.run([lastId, expiresAtMs]);
  }

  /**
   * See `QueueStore.read`.
   *
   * @param afterId Not below `removedThrough`.
   * @throws {ContradictionError} The rows are not in the order of their ids.
   */
  read(afterId: number, maxBytes: number): ReadResult {
    let rows: SqliteValue[][];
    try {
      rows = this.#sql.selectBatches.all([afterId, this.#rowsToRead(afterId, maxBytes)]);
    } catch (error) {
      if (!isSqliteError(error, SqliteCode.CORRUPT)) throw error;
      rows = this.#sql.selectBatches.all([afterId, 1]);
    }
    const batches: PacketBatch[] = [];
    let before = afterId;
    let damaged: ReadResult["damaged"];
    for (const row of rows) {
      const lastId = Number(row[0]);
      if (!(lastId > before)) {
        throw new ContradictionError(`id ${lastId} comes behind id ${before}`);
      }
      try {
        const batch = batchOf(row);
        this.#refuseOverlap(batch, batches.length === 0 ? undefined : before);
        batches.push(batch);
      } catch (error) {
        if (!(error instanceof DamagedRowError)) throw error;
        damaged = { lastId, words: error.message };
        break;
      }
      before = lastId;
    }
    const fitting = cutBatches(batches, afterId, maxBytes);
    return { batches: fitting.map((batch) => ({ ...batch, ownsMemory: true })), damaged };
  }

  /** @param before The id of the row before it; `undefined`: to be looked up. */
  #refuseOverlap(batch: PacketBatch, before: number | undefined): void {
    const lastId = lastIdOf(batch);
    const above = before ?? this.#idBefore(lastId);
    if (batch.firstId > above) return;
    throw new DamagedRowError(lastId, `its ids begin with ${batch.firstId}, like earlier ones`);
  }

  /**
   * Takes out a row that is not as it was stored.
   *
   * @param each Is shown its packets: one by one, as far as it can be told where they end.
   * @returns What is left; `undefined`: it is sound.
   * @throws {ContradictionError} There is no such row, or it cannot be taken out.
   */
  takeDamaged(
    lastId: number,
    { packets, removedThrough }: Pick<Counts, "packets" | "removedThrough">,
    each: (packet: StoredPacket, enqueuedAtMs: number) => void,
  ): PacketCount | undefined {
    const row = this.#sql.selectRow.all([lastId])[0];
    if (row === undefined) {
      throw new ContradictionError(`there are packets that end with id ${lastId}, and are not`);
    }
    const enqueuedAtMs = Number(row[5]);
    const time = Number.isSafeInteger(enqueuedAtMs) && enqueuedAtMs >= 0 ? enqueuedAtMs : 0;
    try {
      this.#refuseOverlap(batchOf(row), undefined);
      return undefined;
    } catch (error) {
      if (!(error instanceof DamagedRowError)) throw error;
    }
    const idBefore = this.#idBefore(lastId);
    this.#sql.deleteBetween.run([lastId, lastId]);
    this.#sql.deleteExpiryBetween.run([lastId, lastId]);
    const left = this.measure(removedThrough);
    const missingPackets = packets - left.packets;
    const found = row[6] instanceof Uint8Array ? row[6] : new Uint8Array(0);
    const rest = packetsOfDamaged(row, found, { idBefore, removedThrough, missingPackets });
    for (const packet of rest) each(packet, time);
    if (this.#sql.selectRow.all([lastId]).length > 0) {
      throw new ContradictionError(`the packets that end with id ${lastId} cannot be taken out`);
    }
    return left;
  }

  #idBefore(lastId: number): number {
    return Number(this.#sql.selectIdBefore.all([lastId])[0]?.[0] ?? 0);
  }

  /** Counts what is there, row by row. */
  measure(removedThrough: number): PacketCount {
    const all = countOf(this.#sql.measureAll.all([])[0]);
    let part = NONE;
    try {
      part = this.#partThrough(removedThrough);
    } catch (error) {
      // That row is the next one to be taken out, and all is counted anew then.
      if (!(error instanceof DamagedRowError)) throw error;
    }
    return { packets: all.packets - part.packets, bytes: all.bytes - part.bytes };
  }

  /** How many rows from `afterId` on hold `maxBytes`, roughly: at least 1. */
  #rowsToRead(afterId: number, maxBytes: number): number {
    let rows = 0;
    for (const limit of READ_ROWS) {
      const sizes = this.#sql.selectSizes.all([afterId, limit]);
      rows = 0;
      for (let bytes = 0; rows < sizes.length && bytes < maxBytes; rows++) {
        const [rowBytes, firstId] = sizes[rows] ?? [];
        // Of a row that begins before `afterId` only a part counts: how much, nobody asks.
        if (Number(firstId) > afterId) bytes += Number(rowBytes);
      }
      if (rows < limit) break;
    }
    return Math.max(1, rows);
  }

  /** @throws {ContradictionError} It was removed. */
  oldest(removedThrough: number): OldestPacket | undefined {
    const row = this.#sql.selectOldest.all([])[0];
    if (row === undefined) return undefined;
    const [lastId = 0, packets = 0, enqueuedAtMs = 0] = row.map(Number);
    if (lastId <= removedThrough) {
      throw new ContradictionError(
        `ids up to ${removedThrough} were removed, and ${lastId} is still there`,
      );
    }
    // A damaged row may say that it has none.
    const firstId = lastId + 1 - Math.max(1, packets);
    return { id: Math.max(removedThrough + 1, firstId), enqueuedAtMs };
  }

  /** When a packet was stored; `undefined`: no row has it. */
  enqueuedAtMs(id: number): number | undefined {
    const row = this.#sql.selectTime.all([id])[0];
    if (row === undefined) return undefined;
    const [firstId = 0, enqueuedAtMs = 0] = row.map(Number);
    return firstId <= id ? enqueuedAtMs : undefined;
  }

  /** See `QueueStore.due`. */
  due(afterId: number, nowMs: number, order: "by-id" | "by-time", mostBytes: number): Due {
    const rows = order === "by-id"
      ? this.#sql.selectDueById.all([afterId, nowMs, DUE_ROWS, DUE_SEARCH_ROWS])
      : this.#sql.selectDueByTime.all([afterId, nowMs, DUE_ROWS]);
    const ranges: IdRange[] = [];
    let packets = 0, bytes = 0;
    for (const row of rows) {
      const [lastId = 0, rowPackets = 0, rowBytes = 0] = row.map(Number);
      const firstId = Math.max(afterId + 1, lastId + 1 - rowPackets);
      packets += lastId + 1 - firstId;
      bytes += rowBytes + LETTER_BYTES_BESIDE * (lastId + 1 - firstId);
      if (ranges.length > 0 && (packets > MOVE_PACKETS || bytes > mostBytes)) break;
      ranges.push({ firstId, lastId });
    }
    const next = this.#sql.selectNextDue.all([afterId, nowMs])[0];
    return {
      ranges: mergeRanges(ranges),
      nextAtMs: next === undefined ? Infinity : Number(next[0]),
    };
  }

  /** Removes packets up to and including `through`; their row only with its last packet. */
  removeThrough(removedThrough: number, through: number): PacketCount {
    if (through <= removedThrough) return NONE;
    const before = this.#partThrough(removedThrough);
    const after = this.#partThrough(through);
    const whole = countOf(this.#sql.measureThrough.all([through])[0]);
    this.#sql.deleteThrough.run([through]);
    this.#sql.deleteExpiryThrough.run([through]);
    return {
      packets: whole.packets + after.packets - before.packets,
      bytes: whole.bytes + after.bytes - before.bytes,
    };
  }

  /** Of the batch that `id` lies in, unless as its last packet: the packets up to `id`. */
  #partThrough(id: number): PacketCount {
    const row = this.#sql.selectEnds.all([id, 1])[0];
    if (row === undefined) return NONE;
    const { firstId, ends } = shapeOf(row);
    const packets = Math.max(0, id + 1 - firstId);
    return { packets, bytes: packets === 0 ? 0 : ends[packets - 1] ?? 0 };
  }

  /** The id through which to remove the oldest, towards getting rid of both excesses. */
  idToDrop(removedThrough: number, over: PacketCount): number {
    let packets = 0, bytes = 0, id = removedThrough;
    for (const row of this.#sql.selectEnds.all([removedThrough, DROP_ROWS])) {
      const { firstId, ends } = shapeOf(row);
      let startByte = 0;
      for (let i = 0; i < ends.length; i++) {
        const endByte = ends[i] ?? startByte;
        if (firstId + i > removedThrough) {
          if (packets >= over.packets && bytes >= over.bytes) return id;
          id = firstId + i;
          packets++;
          bytes += endByte - startByte;
        }
        startByte = endByte;
      }
    }
    return id;
  }

  /**
   * Takes a range out of the middle. The batches at its two ends are cut, so that
   * what lies before and behind stays as it was.
   *
   * @param each Is shown each batch once it is gone: what is stored instead has its place.
   */
  excise(
    { firstId, lastId }: IdRange,
    removedThrough: number,
    each?: (batch: PacketBatch, enqueuedAtMs: number) => void,
  ): PacketCount {
    const first = Math.max(firstId, removedThrough + 1);
    if (lastId < first) return NONE;
    this.#cutBefore(first, removedThrough);
    this.#cutBefore(lastId + 1, removedThrough);
    const count = countOf(this.#sql.measureBetween.all([first, lastId])[0]);
    if (each !== undefined) {
      // One row at a time: each may be large.
      for (let after = first - 1;;) {
        const row = this.#sql.selectBatches.all([after, 1])[0];
        if (row === undefined || Number(row[0]) > lastId) break;
        after = Number(row[0]);
        this.#sql.deleteBetween.run([after, after]);
        each(batchOf(row), Number(row[5]));
      }
    } else if (count.packets > 0) {
      this.#sql.deleteBetween.run([first, lastId]);
    }
    this.#sql.deleteExpiryBetween.run([first, lastId]);
    return count;
  }

  /** Makes `id` the first of its batch, where it is not; what lies before gets a row of its own. */
  #cutBefore(id: number, removedThrough: number): void {
    const shape = this.#sql.selectEnds.all([id - 1, 1])[0];
    if (shape === undefined || shapeOf(shape).firstId >= id) return;
    const row = this.#sql.selectBatches.all([id - 1, 1])[0];
    if (row === undefined) return;
    const batch = batchOf(row);
    const at = id - batch.firstId;
    const behind = sliceBatch(batch, at, batch.ends.length);
    const ends = endsBlob(behind.ends);
    const lastId = Number(row[0]);
    this.#sql.updateBatch.run([ends, behind.bytes, crcOf(lastId, ends, behind.bytes), lastId]);
    const from = Math.max(0, removedThrough + 1 - batch.firstId);
    // Whoever excises writes the row of counts, so that this one needs none.
    if (from < at) this.#insert(sliceBatch(batch, from, at), Number(row[5]), undefined);
  }
}

function statementsOf(database: SqliteDatabase, window: IdWindow) {
  const prepare = (sql: string) => new WindowStatement(database, sql, window);
  // length() of a BLOB reads the row's header only, never its overflow pages.
  const measure = "SELECT coalesce(sum(coalesce(length(ends) / 4, 1)), 0), " +
    "coalesce(sum(length(payload)), 0) FROM packets";
  const within = "WHERE last_id > ?2 AND last_id <= ?3";
  const through = "WHERE last_id > ?2 AND last_id <= min(?1 + ?4, ?3)";
  const between = "WHERE last_id BETWEEN ?1 + ?4 AND min(?1 + ?5, ?3)";
  const behind = "WHERE last_id > ?1 + ?4 AND last_id <= ?3 ORDER BY last_id LIMIT ?5";
  const withExpiry = "FROM packets LEFT JOIN expiry ON expiry.last_id = packets.last_id " +
    "WHERE packets.last_id";
  // An older sendq leaves rows of `expiry` behind whose batch is gone: hence the joins.
  const due = "SELECT due.last_id - ?1, coalesce(length(ends) / 4, 1), length(payload) FROM";
  const join = "AS due CROSS JOIN packets ON packets.last_id = due.last_id";
  const ofQueue = window === WHOLE_FILE
    ? ""
    : `${queueOfKey("due.last_id")} = ${queueOfKey("?1")} AND `;
  // The sign keeps SQLite from searching by id: by time it finds at once.
  const byTime = `WHERE ${ofQueue}+due.last_id > ?1 + ?4 AND due.expires_at_ms`;
  return {
    insertBatch: prepare(
      "INSERT INTO packets (last_id, enqueued_at_ms, queue, crc, stored_bytes, queued_packets, " +
        "queued_bytes, removed_through, sent_through, ends, payload) " +
        "VALUES (?1 + ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    ),
    insertExpiry: prepare(
      "INSERT OR REPLACE INTO expiry (last_id, expires_at_ms) VALUES (?1 + ?4, ?5)",
    ),
    updateBatch: prepare(
      "UPDATE packets SET ends = ?4, payload = ?5, crc = ?6 WHERE last_id = ?1 + ?7",
    ),
    measureAll: prepare(`${measure} ${within}`),
    measureThrough: prepare(`${measure} ${through}`),
    measureBetween: prepare(`${measure} ${between}`),
    deleteThrough: prepare(`DELETE FROM packets ${through}`),
    deleteExpiryThrough: prepare(`DELETE FROM expiry ${through}`),
    deleteBetween: prepare(`DELETE FROM packets ${between}`),
    deleteExpiryBetween: prepare(`DELETE FROM expiry ${between}`),
    selectOldest: prepare(
      "SELECT last_id - ?1, coalesce(length(ends) / 4, 1), enqueued_at_ms " +
        `FROM packets ${within} ORDER BY last_id LIMIT 1`,
    ),
    selectTime: prepare(
      "SELECT last_id - ?1 + 1 - coalesce(length(ends) / 4, 1), enqueued_at_ms FROM packets " +
        "WHERE last_id >= ?1 + ?4 AND last_id <= ?3 ORDER BY last_id LIMIT 1",
    ),
    selectEnds: prepare(`SELECT last_id - ?1, ends, length(payload) FROM packets ${behind}`),
    selectSizes: prepare(
      "SELECT length(payload), last_id - ?1 + 1 - coalesce(length(ends) / 4, 1) FROM packets " +
        behind,
    ),
    selectBatches: prepare(
      "SELECT packets.last_id - ?1, ends, payload, expires_at_ms, crc, enqueued_at_ms " +
        `${withExpiry} > ?1 + ?4 AND packets.last_id <= ?3 ORDER BY packets.last_id LIMIT ?5`,
    ),
    selectRow: prepare(
      "SELECT packets.last_id - ?1, ends, payload, expires_at_ms, crc, enqueued_at_ms, " +
        `coalesce(CAST(payload AS BLOB), x'') ${withExpiry} = ?1 + ?4`,
    ),
    selectIdBefore: prepare(
      "SELECT last_id - ?1 FROM packets WHERE last_id < ?1 + ?4 AND last_id > ?2 " +
        "ORDER BY last_id DESC LIMIT 1",
    ),
    selectDueById: prepare(
      `${due} (SELECT * FROM expiry WHERE last_id > ?1 + ?4 AND last_id <= ?3 ` +
        `ORDER BY last_id LIMIT ?7) ${join} ` +
        "WHERE due.expires_at_ms <= ?5 ORDER BY due.last_id LIMIT ?6",
    ),
    selectDueByTime: prepare(
      `${due} expiry ${join} ${byTime} <= ?5 ORDER BY due.expires_at_ms LIMIT ?6`,
    ),
    selectNextDue: prepare(
      `SELECT due.expires_at_ms FROM expiry ${join} ${byTime} > ?5 ` +
        "ORDER BY due.expires_at_ms LIMIT 1",
    ),
  };
}

/** Little-endian uint32 as they lie in memory; a single packet needs none. */
function endsBlob(ends: Uint32Array): Uint8Array | null {
  if (ends.length === 1) return null;
  return new Uint8Array(ends.buffer, ends.byteOffset, ends.byteLength);
}

/** Packets and bytes in the first two columns of a row. */
export function countOf(row: readonly SqliteValue[] | undefined): PacketCount {
  return { packets: Number(row?.[0]), bytes: Number(row?.[1]) };
}
