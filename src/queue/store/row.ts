/**
 * What the columns of a row mean, checked: the queue and an inspector understand it by these
 * functions.
 */

import type { PacketBatch, StoredPacket } from "../../base/ports.ts";
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
  readonly lastId: number;

  /** @param words What is wrong with it. */
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
 * Sees to it that a row's bytes are those that were stored, where it has a checksum.
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
  const bytesOfEnds = ends instanceof Uint8Array ? ends : null;
  if (crc === null || Number(crc) === crcOf(lastId, bytesOfEnds, payload)) return;
  throw new DamagedRowError(lastId, "its bytes do not match their checksum");
}

/** The first columns of a dead letter that `letterOf` reads, in its order. */
export const LETTER_COLUMNS = "id, enqueued_at_ms, died_at_ms, reason, sent, attempts";

/** The checksum of a dead letter: that of a row that holds it alone. */
export function letterCrcOf(id: number, payload: Uint8Array): number {
  return crcOf(id, null, payload);
}

/**
 * A dead letter but for its payload. Where that is in the row and is not what was
 * stored, the letter is damaged, whatever it died of.
 *
 * @param row `LETTER_COLUMNS`, `crc`, `words`, and the payload or its length.
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

/** A row of several packets has no more bytes than this, and each of them has one at least. */
const ROW_PACKETS = 16 * 1024;

/** What is known of a damaged row without it. */
export interface Surroundings {
  /** The row before it ends with this id; 0: there is none. */
  readonly idBefore: number;
  /** Ids up to this one are not there any more. */
  readonly removedThrough: number;
  /** How many packets the counts have, and no other row does. */
  readonly missingPackets: number;
}

/**
 * The packets that a damaged row had, without those that were removed: each with its bytes, as
 * far as it can be told where it ends; see `packetsApart`.
 *
 * @param row Begins with `last_id, ends, payload`.
 * @param found The payload, whatever it is, as bytes.
 */
export function packetsOfDamaged(
  [last, blob, payload]: readonly SqliteValue[],
  found: Uint8Array,
  { idBefore, removedThrough, missingPackets }: Surroundings,
): StoredPacket[] {
  const lastId = Number(last);
  const room = lastId - Math.max(idBefore, removedThrough);
  const ends = endsIn(blob);
  const isPossible = (count: number) => count >= 1 && count <= Math.min(room, ROW_PACKETS);
  // The counts are older than the damage.
  const packets = [missingPackets, ends?.length ?? 1].find(isPossible) ?? 1;
  const endsFit = ends !== undefined && payload instanceof Uint8Array &&
    lastId - ends.length >= idBefore &&
    packets === Math.min(ends.length, lastId - removedThrough);
  const told = endsFit ? ends : new Uint32Array(packets);
  return packetsApart(lastId + 1 - told.length, told, found).slice(told.length - packets);
}

/**
 * Packets by ends that need not be right: of those that cannot be told apart the last has the
 * bytes of all, and the others none.
 */
export function packetsApart(
  firstId: number,
  ends: Uint32Array,
  payload: Uint8Array,
): StoredPacket[] {
  const sure = sureEnds(ends, payload.length);
  let start = 0;
  return Array.from(ends, (end, i): StoredPacket => {
    const from = start;
    if (sure[i]) start = i === ends.length - 1 ? payload.length : end;
    return { id: firstId + i, payload: payload.subarray(from, start) };
  });
}

/** The column `ends`, whatever its numbers are. */
function endsIn(blob: unknown): Uint32Array | undefined {
  if (blob === null) return new Uint32Array(1);
  if (!(blob instanceof Uint8Array) || blob.length === 0 || blob.length % 4 !== 0) return undefined;
  const { buffer, byteOffset, byteLength } = blob;
  const view = new DataView(buffer, byteOffset, byteLength);
  return Uint32Array.from({ length: byteLength / 4 }, (_, i) => view.getUint32(4 * i, true));
}

/**
 * Which of these ends are where their packets end: the most that can be together, each packet
 * having a byte at least. The last packet ends with the payload, whatever is said.
 */
export function sureEnds(ends: Uint32Array, payloadBytes: number): boolean[] {
  const last = ends.length - 1;
  /** By their number less one: the index at which the best list of so many ends stops. */
  const tips: number[] = [];
  const before: number[] = [];
  /** How many bytes lie before packet `i` beyond one for each: must not fall. */
  const slackOf = (i: number) => (ends[i] ?? 0) - i;
  for (let i = 0; i < last; i++) {
    const slack = slackOf(i);
    if (slack < 1 || slack > payloadBytes - last) continue;
    let low = 0, high = tips.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (slackOf(tips[middle] ?? 0) <= slack) low = middle + 1;
      else high = middle;
    }
    before[i] = tips[low - 1] ?? -1;
    tips[low] = i;
  }
  const sure = new Array<boolean>(ends.length).fill(false);
  sure[last] = true;
  for (let i = tips.at(-1) ?? -1; i >= 0; i = before[i] ?? -1) sure[i] = true;
  return sure;
}
