import type { PacketBatch } from "../base/ports.ts";
import type { QueueCounts } from "../queue/inspect/inspection.ts";
import type { ReadResult, StoreState } from "../queue/store/contract.ts";
import { type DeadLetter, isDeathReason } from "../queue/store/types.ts";
import type { Row } from "./database.ts";
import { STATE } from "./sql/shared.ts";

/** A count out of an answer; what is not there is 0. */
export function numberOf(value: unknown): number {
  const number = Number(value ?? 0);
  if (Number.isSafeInteger(number)) return number;
  throw new TypeError(`${String(value)} is no count`);
}

export function arrayOf(numbers: readonly number[]): string {
  return `{${numbers.join(",")}}`;
}

/** How a queue stands, as `sendq.state_of` says it. */
type StateFields = Readonly<Record<keyof typeof STATE, string>>;

const NAMES = Object.keys(STATE);

/** Tells its numbers apart, which come as `{1,2,NULL}`. */
export function stateFields(value: unknown): StateFields {
  const parts = String(value).slice(1, -1).split(",");
  if (parts.length !== NAMES.length) throw new TypeError(`${String(value)} is no queue's state`);
  return Object.fromEntries(NAMES.map((name, i) => [name, parts[i]])) as StateFields;
}

/** The counts of a queue, out of {@linkcode stateFields}. */
export function stateOf(fields: StateFields): StoreState {
  const count = (name: keyof StoreState) => numberOf(fields[name]);
  const oldest = fields.oldestEnqueuedAtMs;
  return {
    packets: count("packets"),
    bytes: count("bytes"),
    lastId: count("lastId"),
    removedThrough: count("removedThrough"),
    sentThrough: count("sentThrough"),
    droppedPackets: count("droppedPackets"),
    droppedBytes: count("droppedBytes"),
    deadPackets: count("deadPackets"),
    deadBytes: count("deadBytes"),
    expiredPackets: count("expiredPackets"),
    gaveUpPackets: count("gaveUpPackets"),
    damagedPackets: count("damagedPackets"),
    refusedPackets: count("refusedPackets"),
    storedBytes: count("storedBytes"),
    // The database keeps the time by itself.
    ...{ writtenAtMs: 0, clockOffsetMs: 0 },
    oldestEnqueuedAtMs: oldest === "NULL" ? undefined : numberOf(oldest),
  };
}

/** The same for those who look. */
export function countsOf(state: StoreState): QueueCounts {
  const { removedThrough, sentThrough, oldestEnqueuedAtMs: _oldest, ...others } = state;
  const { storedBytes: _bytes, writtenAtMs: _written, clockOffsetMs: _offset, ...counts } = others;
  return { ...counts, removedThroughId: removedThrough, sentThroughId: sentThrough };
}

/** A dead letter out of a row of `sendq.dead_letter`, without its bytes. */
export function letterOf(row: Readonly<Record<string, unknown>>): Omit<DeadLetter, "payload"> {
  const { id, reason, words } = row;
  if (!isDeathReason(reason)) throw new TypeError(`no dead letter dies of ${String(reason)}`);
  return {
    id: Number(id),
    enqueuedAtMs: Number(row["enqueued_at_ms"]),
    diedAtMs: Number(row["died_at_ms"]),
    reason,
    sent: row["sent"] === true,
    attempts: Number(row["attempts"]),
    words: typeof words === "string" ? words : undefined,
  };
}

/**
 * The packets of rows that follow each other, up to the first row that contradicts itself.
 *
 * @param nowMs The monotonic clock: what is left of a packet's time is counted from here on.
 */
export function packetsIn(rows: readonly Row[], nowMs: number): ReadResult {
  const batches: PacketBatch[] = [];
  for (const row of rows) {
    const batch = batchOf(row, nowMs);
    const fault = row["fault"] ?? faultOfEnds(batch.ends, batch.bytes.length);
    if (fault !== undefined) {
      const lastId = Number(row["last_id"]);
      const words = `the packets that end with id ${lastId} are damaged: ${String(fault)}`;
      return { batches, damaged: { lastId, words } };
    }
    batches.push(batch);
  }
  return { batches, damaged: undefined };
}

/** Where the packets of a row end, which comes as `1,2,3`. */
export function endsOf(row: Row): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(String(row["ends"]).split(","), Number);
}

/**
 * What contradicts itself in the ends of packets; `undefined`: nothing. A checksum says that they
 * are what was stored, and not that they can be right.
 *
 * @param bytes How long their payload is; left out: that is not known.
 */
export function faultOfEnds(ends: Uint32Array, bytes?: number): string | undefined {
  let before = 0;
  for (const end of ends) {
    if (end <= before) return "its packets do not end one behind the other";
    before = end;
  }
  if (bytes === undefined || before === bytes) return undefined;
  return `its packets end at byte ${before}, its payload at ${bytes}`;
}

/** Of the client's own kind of array, which may be part of a larger one. */
export function bytesOf(value: unknown): Uint8Array<ArrayBuffer> {
  if (!(value instanceof Uint8Array)) throw new TypeError("a column of bytes holds none");
  return new Uint8Array(value);
}

function batchOf(row: Row, nowMs: number): PacketBatch {
  const lastId = Number(row["last_id"]);
  const ends = endsOf(row);
  const expires = row["expires_at_ms"];
  return {
    firstId: lastId + 1 - ends.length,
    bytes: bytesOf(row["payload"]),
    ends,
    expiresAtMs: expires == null ? Infinity : nowMs + Number(expires) - Number(row["now_ms"]),
  };
}
