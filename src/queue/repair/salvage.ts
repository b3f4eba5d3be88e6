/** What the rows of a damaged queue mean. */

import type { StoredPacket } from "../../base/ports.ts";
import { crcOf, letterCrcOf, packetsApart, sureEnds } from "../store/row.ts";
import { type Counts, NO_COUNTS, STATE_COLUMNS } from "../store/state_table.ts";
import { type DeathReason, type IdRange, isDeathReason } from "../store/types.ts";
import type { FoundRows } from "./queue_rows.ts";
import type { Cell, CellBytes, Gap, Interval, Row } from "./sqlite_rows.ts";

/** Packets that follow each other and are whole. */
export interface SavedBatch {
  readonly firstId: number;
  /** Where each packet ends. */
  readonly ends: Uint32Array;
  readonly bytes: Uint8Array;
  readonly enqueuedAtMs: number;
  /** Right or not; `null`: there is none, or it was made of more than this. */
  readonly crc: number | null;
}

/** What a row of packets still holds. */
export interface SavedPackets {
  /** Those of the row. */
  readonly ids: IdRange;
  /** What is whole; one batch when all of it is. */
  readonly batches: readonly SavedBatch[];
  readonly enqueuedAtMs: number;
  /** Ids of packets that are not. */
  readonly lost: readonly IdRange[];
  /** All of its packets, where their ends cannot be right: which of them are whole nobody knows. */
  readonly damaged: readonly StoredPacket[];
}

/** Whether a batch is what was stored, as far as it has a checksum. */
export function isIntact({ firstId, ends, bytes, crc }: SavedBatch): boolean {
  return crc === null || crc === crcOf(firstId + ends.length - 1, endsBlobOf(ends), bytes);
}

/** Where the packets of a batch end, as a row has it: `null` for a single packet. */
export function endsBlobOf(ends: Uint32Array): Uint8Array | null {
  return ends.length === 1 ? null : new Uint8Array(ends.buffer);
}

/** A dead letter's row, as it is stored. */
export type SavedLetter = readonly [
  id: number,
  enqueuedAtMs: number,
  diedAtMs: number,
  reason: DeathReason,
  sent: number,
  attempts: number,
  words: string | null,
  payload: Uint8Array,
];

/** How many counts version 1 has, and a row that was written before the change. */
const COUNTS_OF_VERSION_1 = 7;
const COUNTS_OF_VERSION_2 = 11;

/** The columns of a row of packets, in whichever order the file has them. */
function packetColumnsOf(cells: readonly Cell[]): readonly (Cell | undefined)[] | undefined {
  const [first, enqueuedAtMs, ...more] = cells;
  if (first !== null) return undefined;
  // From version 1 or 2; with the columns of version 3 behind it; made as version 3.
  if (cells.length === 4) return [enqueuedAtMs, ...more, null];
  if (cells.length !== 11) return undefined;
  if (isBytes(more[8])) {
    const [, crc, stored, packets, bytes, removed, sent, ends, payload] = more;
    return [enqueuedAtMs, ends, payload, crc, stored, packets, bytes, removed, sent];
  }
  const [ends, payload, , crc, ...counts] = more;
  return [enqueuedAtMs, ends, payload, crc, ...counts];
}

/** The counts that each row of packets has. */
export type RowCounts = Pick<
  Counts,
  "packets" | "bytes" | "lastId" | "removedThrough" | "sentThrough" | "writtenAtMs"
>;

/** The counts after a row of packets, by its id; `undefined`: it has none. */
function rowCountsOf({ key, cells }: Row): RowCounts | undefined {
  const columns = packetColumnsOf(cells) ?? [];
  const [writtenAtMs, , , , stored, packets, bytes, removedThrough, sentThrough] = columns;
  if (
    !isCount(writtenAtMs) || !isCount(stored) || !isCount(packets) || !isCount(bytes) ||
    !isCount(removedThrough) || !isCount(sentThrough) || removedThrough > key || sentThrough > key
  ) return undefined;
  return { packets, bytes, lastId: key, removedThrough, sentThrough, writtenAtMs };
}

/**
 * The counts after the last row of packets that has any: those of `state` may be older. Where the
 * table's end is damaged, also after a row that nothing leads to, if it is as it was stored.
 *
 * @param rows Of which no page was visited yet.
 * @param root The table's first page; `undefined`: nobody knows it any more.
 */
export function lastRowCounts(rows: FoundRows, root: number | undefined): RowCounts | undefined {
  let last: RowCounts | undefined;
  let hasEnd = root !== undefined;
  for (const row of root === undefined ? [] : rows.table(root)) {
    if (!("key" in row)) hasEnd &&= row.through !== Infinity;
    else if (row.key > (last?.lastId ?? 0)) last = rowCountsOf(row) ?? last;
  }
  if (hasEnd) return last;
  for (const row of rows.orphans()) {
    if (row.key > (last?.lastId ?? 0) && isWhole(row)) last = rowCountsOf(row) ?? last;
  }
  return last;
}

/** Whether a row is one of packets, and its checksum says that it is as it was stored. */
function isWhole(row: Row): boolean {
  const { batches = [] } = savedPacketsOf(row) ?? {};
  const [batch] = batches;
  return batch !== undefined && batch.crc !== null && isIntact(batch);
}

/** The packets of a row of `packets`; `undefined`: it is none. */
export function savedPacketsOf({ key, cells }: Row): SavedPackets | undefined {
  const [enqueuedAtMs, ends, payload, stored] = packetColumnsOf(cells) ?? [];
  if (!isCount(enqueuedAtMs)) return undefined;
  if (!isBytes(payload) || payload.length === 0) return undefined;
  if (ends !== null && (!isBytes(ends) || ends.length % 4 !== 0)) return undefined;
  const count = ends === null ? 1 : (ends?.length ?? 0) / 4;
  const firstId = key + 1 - count;
  if (count < 1 || firstId < 1) return undefined;
  const endAt = (i: number) => endOf(ends ?? null, payload, i);
  const batches: SavedBatch[] = [];
  const lost: IdRange[] = [];
  const told = Uint32Array.from({ length: count }, (_, i) => endAt(i) ?? 0);
  // Without a page that is known to be damaged the ends themselves are all there is to go by.
  const sure = ends === null || ends === undefined || ends.damaged.length > 0
    ? undefined
    : sureEnds(told, payload.length);
  const ids = { firstId, lastId: key };
  const isWrong = sure?.includes(false) === true || told.at(-1) !== payload.length;
  if (sure !== undefined && payload.damaged.length === 0 && isWrong) {
    const damaged = packetsApart(firstId, told, payload.bytes);
    return { ids, batches, enqueuedAtMs, lost, damaged };
  }
  let from = 0;
  const flush = (to: number) => {
    const start = from === 0 ? 0 : endAt(from - 1);
    if (to > from && start !== undefined) {
      const list = Uint32Array.from(
        { length: to - from },
        (_, i) => (endAt(from + i) ?? 0) - start,
      );
      const bytes = payload.bytes.slice(start, start + (list.at(-1) ?? 0));
      const crc = from === 0 && to === count && isCount(stored) ? stored : null;
      batches.push({ firstId: firstId + from, ends: list, bytes, enqueuedAtMs, crc });
    }
  };
  for (let i = 0; i < count; i++) {
    const start = i === 0 ? 0 : endAt(i - 1);
    const end = endAt(i);
    const whole = start !== undefined && end !== undefined && start < end &&
      end <= payload.length && !isDamaged(payload, start, end) &&
      (i < count - 1 || end === payload.length) &&
      (sure === undefined || (sure[i] === true && (i === 0 || sure[i - 1] === true)));
    if (whole) continue;
    flush(i);
    from = i + 1;
    addId(lost, firstId + i);
  }
  flush(count);
  return { ids, batches, enqueuedAtMs, lost, damaged: [] };
}

/** Where a packet ends; `undefined` where that is not known any more. */
function endOf(ends: CellBytes | null, payload: CellBytes, i: number): number | undefined {
  if (ends === null) return payload.length;
  if (isDamaged(ends, 4 * i, 4 * i + 4)) return undefined;
  const { buffer, byteOffset, byteLength } = ends.bytes;
  return new DataView(buffer, byteOffset, byteLength).getUint32(4 * i, true);
}

function isDamaged({ damaged }: CellBytes, from: number, to: number): boolean {
  return damaged.some((interval: Interval) => interval.from < to && interval.to > from);
}

/** The dead letter of a row of `dead_letters`; `undefined`: it is none, or not whole. */
export function savedLetterOf({ key, cells }: Row): SavedLetter | undefined {
  const [first, enqueuedAtMs, diedAtMs, reason, sent, attempts, ...more] = cells;
  // Its queue, checksum and words stand before or behind the payload, or are not there.
  const payload = more.find(isBytes);
  const [, crc, words] = more.filter((cell) => cell !== payload);
  if (!isLetter(cells) || first !== null || key < 1) return undefined;
  if (!isCount(enqueuedAtMs) || !isCount(diedAtMs) || !isCount(sent) || !isCount(attempts)) {
    return undefined;
  }
  if (!isDeathReason(reason) || sent > 1) return undefined;
  if (payload === undefined || payload.damaged.length > 0) return undefined;
  if (payload.length === 0 && reason !== "damaged") return undefined;
  const isSound = typeof crc !== "number" || crc === letterCrcOf(key, payload.bytes);
  const death = isSound ? reason : "damaged";
  const said = typeof words === "string" ? words : null;
  return [key, enqueuedAtMs, diedAtMs, death, sent, attempts, said, payload.bytes];
}

/** Whether a row has as many columns as a dead letter. */
export function isLetter(cells: readonly Cell[]): boolean {
  return cells.length === 7 || cells.length === 10;
}

/** When the packets that end with `key` expire, by a row of `expiry`; `undefined`: it is none. */
export function expiryOf({ cells }: Row): number | undefined {
  const [first, expiresAtMs] = cells;
  return cells.length === 2 && first === null && isCount(expiresAtMs) ? expiresAtMs : undefined;
}

/** The counts of the row of `state`; `undefined`: it is none. */
export function countsOf({ key, cells }: Row): Counts | undefined {
  const [first, ...values] = cells;
  // Rows of versions 1 and 2 have the key 1, one of version 3 the number of its queue.
  const isOld = key === 1 && values.length >= COUNTS_OF_VERSION_1 &&
    values.length <= COUNTS_OF_VERSION_2;
  const isNew = key === 0 && values.length > COUNTS_OF_VERSION_2;
  if (first !== null || !(isOld || isNew)) return undefined;
  const counts = { ...NO_COUNTS };
  for (const [i, [, name]] of STATE_COLUMNS.entries()) {
    const value = i < values.length ? values[i] : 0;
    // The queue's clock may be behind the wall clock.
    const isSound = name === "clockOffsetMs" ? Number.isSafeInteger(value) : isCount(value);
    if (typeof value !== "number" || !isSound) return undefined;
    counts[name] = value;
  }
  const { packets, lastId, removedThrough, sentThrough } = counts;
  return Math.max(packets, removedThrough, sentThrough) > lastId ? undefined : counts;
}

function isCount(cell: Cell | undefined): cell is number {
  return typeof cell === "number" && Number.isSafeInteger(cell) && cell >= 0;
}

function isBytes(cell: Cell | undefined): cell is CellBytes {
  return typeof cell === "object" && cell !== null;
}

/** Adds an id to ranges in ascending order. */
function addId(ranges: IdRange[], id: number): void {
  const last = ranges.at(-1);
  if (last?.lastId === id - 1) ranges[ranges.length - 1] = { firstId: last.firstId, lastId: id };
  else ranges.push({ firstId: id, lastId: id });
}

export function isInGap(gaps: readonly Gap[], key: number): boolean {
  return gaps.some(({ after, through }) => key > after && key <= through);
}
