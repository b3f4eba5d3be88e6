/**
 * Packets out of rows of the database.
 *
 * @module
 */

import type { PacketBatch } from "../base/ports.ts";
import type { ReadResult } from "../queue/store/contract.ts";
import type { Row } from "./database.ts";

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
