/**
 * What the columns of a row mean, checked: whoever reads a row of packets or a dead
 * letter, the queue or an inspector, understands it by these functions.
 *
 * @module
 */

import type { PacketBatch } from "../../base/ports.ts";
import { SqliteCode, SqliteError, type SqliteValue } from "../sqlite/driver.ts";
import type { DeadLetter } from "./types.ts";

/**
 * Reads the column `ends` of a row of packets.
 *
 * @param blob Little-endian uint32, one a packet; `null`: a single packet.
 * @param payloadBytes The bytes of all packets.
 * @returns Where each ends; a text: what contradicts what.
 */
export function endsOf(blob: unknown, payloadBytes: number): Uint32Array | string {
  if (!(payloadBytes > 0)) return "it holds no bytes";
  if (blob === null) return Uint32Array.of(payloadBytes);
  if (!(blob instanceof Uint8Array) || blob.length === 0 || blob.length % 4 !== 0) {
    return "it does not say where its packets end";
  }
  const ends = new Uint32Array(blob.slice().buffer);
  let before = 0;
  for (const end of ends) {
    if (end <= before) return "its packets do not end one behind the other";
    before = end;
  }
  if (before !== payloadBytes) {
    return `its packets end at byte ${before}, its payload at ${payloadBytes}`;
  }
  return ends;
}

/**
 * The ids of a row of packets, and where each packet ends.
 *
 * @param row Begins with `last_id, ends, payload`; in place of the payload its length.
 * @throws {SqliteError} The row contradicts itself.
 */
export function shapeOf(
  [lastId, blob, payload]: readonly SqliteValue[],
): Pick<PacketBatch, "firstId" | "ends"> {
  const ends = endsOf(blob, payload instanceof Uint8Array ? payload.length : Number(payload));
  if (typeof ends === "string") {
    throw new SqliteError(SqliteCode.CORRUPT, `the packets that end with ${lastId}: ${ends}`);
  }
  return { firstId: Number(lastId) + 1 - ends.length, ends };
}

/** The columns of a dead letter that {@linkcode letterOf} reads, in its order. */
export const LETTER_COLUMNS = "id, enqueued_at_ms, died_at_ms, reason, sent, attempts";

/**
 * A dead letter but for its payload.
 *
 * @param row Begins with {@linkcode LETTER_COLUMNS}.
 * @throws {SqliteError} No sendq has written such a one.
 */
export function letterOf(row: readonly SqliteValue[]): Omit<DeadLetter, "payload"> {
  const [id, enqueuedAtMs, diedAtMs, reason, sent, attempts] = row;
  if (reason !== "expired" && reason !== "gave-up") {
    throw new SqliteError(SqliteCode.CORRUPT, `dead letter ${String(id)} cannot be understood`);
  }
  return {
    id: Number(id),
    enqueuedAtMs: Number(enqueuedAtMs),
    diedAtMs: Number(diedAtMs),
    reason,
    sent: Number(sent) === 1,
    attempts: Number(attempts),
  };
}
