/**
 * What the columns of a row mean, checked: whoever reads a row of packets or a dead
 * letter, the queue or an inspector, understands it by these functions.
 *
 * @module
 */

import type { PacketBatch } from "../../base/ports.ts";
import { SqliteCode, SqliteError, type SqliteValue } from "../sqlite/driver.ts";
import { crc32 } from "./crc32.ts";
import { type DeadLetter, isDeathReason } from "./types.ts";

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
  const isAligned = blob.byteOffset % Uint32Array.BYTES_PER_ELEMENT === 0;
  const { buffer, byteOffset, length } = isAligned ? blob : blob.slice();
  const ends = new Uint32Array(buffer, byteOffset, length / Uint32Array.BYTES_PER_ELEMENT);
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

/** A row of packets that contradicts itself, or is not as it was stored. */
export class DamagedRowError extends SqliteError {
  /** Its id. */
  readonly lastId: number;

  /**
   * Makes the error.
   *
   * @param lastId The row's id.
   * @param words What is wrong with it.
   */
  constructor(lastId: number, words: string) {
    super(SqliteCode.CORRUPT, `the packets that end with id ${lastId} are damaged: ${words}`);
    this.lastId = lastId;
  }
}

/**
 * The ids of a row of packets, and where each packet ends.
 *
 * @param row Begins with `last_id, ends, payload`; in place of the payload its length.
 * @throws {DamagedRowError} The row contradicts itself.
 */
export function shapeOf(
  [last, blob, payload]: readonly SqliteValue[],
): Pick<PacketBatch, "firstId" | "ends"> {
  const lastId = Number(last);
  const ends = endsOf(blob, payload instanceof Uint8Array ? payload.length : Number(payload));
  if (typeof ends === "string") throw new DamagedRowError(lastId, ends);
  const firstId = lastId + 1 - ends.length;
  if (firstId < 1) throw new DamagedRowError(lastId, `it has ${ends.length} packets`);
  return { firstId, ends };
}

const idBytes = new Uint8Array(8);
const idView = new DataView(idBytes.buffer);

/** The checksum of a row of packets: column `crc`. */
export function crcOf(lastId: number, ends: Uint8Array | null, payload: Uint8Array): number {
  idView.setBigUint64(0, BigInt(lastId), true);
  const crc = crc32(idBytes);
  return crc32(payload, ends === null ? crc : crc32(ends, crc));
}

/**
 * A row of packets as a batch, if it is as it was stored.
 *
 * @param row `last_id, ends, payload, expires_at_ms, crc`.
 * @throws {DamagedRowError} It is not.
 */
export function batchOf(row: readonly SqliteValue[]): PacketBatch {
  const [last, ends, payload, expiresAt, crc] = row;
  const lastId = Number(last);
  if (!(payload instanceof Uint8Array)) throw new DamagedRowError(lastId, "it holds no bytes");
  const shape = shapeOf(row);
  checkCrc(lastId, { ends, payload, crc });
  const expires = typeof expiresAt === "number" || typeof expiresAt === "bigint";
  return { ...shape, bytes: payload, expiresAtMs: expires ? Number(expiresAt) : Infinity };
}

/**
 * Sees to it that a row's bytes are those that were stored. Rows of versions 1 and 2
 * have no checksum.
 *
 * @throws {DamagedRowError} They are others.
 */
export function checkCrc(
  lastId: number,
  { ends, payload, crc }: {
    readonly ends: SqliteValue | undefined;
    readonly payload: Uint8Array;
    readonly crc: SqliteValue | undefined;
  },
): void {
  if (crc === null || Number(crc) === crcOf(lastId, bytesOrNull(ends), payload)) return;
  throw new DamagedRowError(lastId, "its bytes do not match their checksum");
}

function bytesOrNull(value: SqliteValue | undefined): Uint8Array | null {
  return value instanceof Uint8Array ? value : null;
}

/** The first columns of a dead letter that {@linkcode letterOf} reads, in its order. */
export const LETTER_COLUMNS = "id, enqueued_at_ms, died_at_ms, reason, sent, attempts";

/** The checksum of a dead letter: column `crc`. */
export function letterCrcOf(id: number, payload: Uint8Array): number {
  return crcOf(id, null, payload);
}

/**
 * A dead letter but for its payload. Where that is in the row and is not what was
 * stored, the letter is damaged, whatever it died of.
 *
 * @param row {@linkcode LETTER_COLUMNS}, `crc`, `words`, and the payload or its length.
 * @throws {SqliteError} No sendq has written such a one.
 */
export function letterOf(row: readonly SqliteValue[]): Omit<DeadLetter, "payload"> {
  const [id, enqueuedAtMs, diedAtMs, reason, sent, attempts, crc, words, payload] = row;
  if (!isDeathReason(reason)) {
    throw new SqliteError(SqliteCode.CORRUPT, `dead letter ${String(id)} cannot be understood`);
  }
  const isSound = crc === null || !(payload instanceof Uint8Array) ||
    Number(crc) === letterCrcOf(Number(id), payload);
  return {
    id: Number(id),
    enqueuedAtMs: Number(enqueuedAtMs),
    diedAtMs: Number(diedAtMs),
    reason: isSound ? reason : "damaged",
    sent: Number(sent) === 1,
    attempts: Number(attempts),
    words: typeof words === "string" ? words : undefined,
  };
}
