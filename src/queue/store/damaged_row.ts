/**
 * What a row of packets that is not as it was stored still tells of itself: how many packets it
 * had, and where each of them ends.
 *
 * @module
 */

import type { StoredPacket } from "../../base/ports.ts";
import type { SqliteValue } from "../sqlite/driver.ts";

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
 * far as it can be told where it ends. Of those that cannot be told apart the last has the
 * bytes of all, and the others none.
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
  const sure = sureEnds(told, found.length);
  let start = 0;
  const all = Array.from(told, (end, i): StoredPacket => {
    const from = start;
    if (sure[i]) start = i === told.length - 1 ? found.length : end;
    return { id: lastId + 1 - told.length + i, payload: found.subarray(from, start) };
  });
  return all.slice(told.length - packets);
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
