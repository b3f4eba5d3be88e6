/** Batches of packets taken apart: always between two packets. */

import type { PacketBatch, StoredPacket } from "./ports.ts";

/** The id of a batch's last packet. */
export function lastIdOf(batch: PacketBatch): number {
  return batch.firstId + batch.ends.length - 1;
}

/** Where each packet of a batch lies among its bytes, in order. */
export function* placesOf(
  { firstId, ends }: Pick<PacketBatch, "firstId" | "ends">,
): Generator<{ readonly id: number; readonly start: number; readonly end: number }> {
  let start = 0;
  let id = firstId;
  for (const end of ends) {
    yield { id: id++, start, end };
    start = end;
  }
}

/** Copies of the packets of batches, one by one. */
export function packetsOf(batches: readonly PacketBatch[]): StoredPacket[] {
  const packets: StoredPacket[] = [];
  for (const batch of batches) {
    for (const { id, start, end } of placesOf(batch)) {
      packets.push({ id, payload: batch.bytes.slice(start, end) });
    }
  }
  return packets;
}

/** Packets `from` to `to` (exclusive) of a batch, by index. */
export function sliceBatch(batch: PacketBatch, from: number, to: number): PacketBatch {
  if (from === 0 && to === batch.ends.length) return batch;
  const startByte = from === 0 ? 0 : batch.ends[from - 1] ?? 0;
  const ends = batch.ends.slice(from, to);
  if (startByte > 0) { for (let i = 0; i < ends.length; i++) ends[i] = (ends[i] ?? 0) - startByte; }
  return {
    firstId: batch.firstId + from,
    bytes: batch.bytes.subarray(startByte, startByte + (ends.at(-1) ?? 0)),
    ends,
    expiresAtMs: batch.expiresAtMs,
  };
}

/**
 * The packets of `batches` that follow `afterId`, up to `maxBytes` in all; at least
 * one when there is one.
 *
 * @param batches In order, perhaps with holes between them; the first holds the packet that
 *   follows `afterId`.
 */
export function cutBatches(
  batches: readonly PacketBatch[],
  afterId: number,
  maxBytes: number,
): PacketBatch[] {
  const cut: PacketBatch[] = [];
  let roomBytes = maxBytes;
  for (const whole of batches) {
    const batch = sliceBatch(whole, Math.max(0, afterId + 1 - whole.firstId), whole.ends.length);
    if (batch.bytes.length <= roomBytes) {
      cut.push(batch);
      roomBytes -= batch.bytes.length;
      continue;
    }
    const fitting = packetsWithin(batch, roomBytes);
    const packets = cut.length === 0 ? Math.max(1, fitting) : fitting;
    if (packets > 0) cut.push(sliceBatch(batch, 0, packets));
    break;
  }
  return cut;
}

/** How many of a batch's first packets have no more than `maxBytes` in all. */
export function packetsWithin({ ends }: PacketBatch, maxBytes: number): number {
  let low = 0, high = ends.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ends[middle] ?? Infinity) <= maxBytes) low = middle + 1;
    else high = middle;
  }
  return low;
}
