/** Packets of an edge's file, as one call stores them. */

import { crc32 } from "node:zlib";
import { lastIdOf, packetsWithin, sliceBatch } from "../base/packet_batch.ts";
import type { PacketBatch } from "../base/ports.ts";
import { BatchPacker } from "../queue/store/batches.ts";

export interface BatchBounds {
  /** At least 1. */
  readonly maxPackets: number;
  /** A single packet may have more. */
  readonly maxBytes: number;
}

export interface EdgeBatch {
  /** In the file. */
  readonly lastId: number;
  /** The last packet's checksum. */
  readonly lastCrc: number;
  readonly packets: number;
  readonly payload: Uint8Array;
  /** The same as rows of the database have them. */
  readonly runs: readonly PacketBatch[];
}

/** The first of some packets, as many as the bounds allow, and at least one. */
export function takeWithin(
  batches: readonly PacketBatch[],
  { maxPackets, maxBytes }: BatchBounds,
): PacketBatch[] {
  const taken: PacketBatch[] = [];
  let packets = 0, bytes = 0;
  for (const batch of batches) {
    const fitting = Math.min(packetsWithin(batch, maxBytes - bytes), maxPackets - packets);
    const count = packets === 0 ? Math.max(1, fitting) : fitting;
    if (count > 0) taken.push(sliceBatch(batch, 0, count));
    if (count < batch.ends.length) break;
    packets += count;
    bytes += batch.bytes.length;
  }
  return taken;
}

/**
 * Puts them together: those that expire together share a row, up to a bound.
 *
 * @param batches At least one.
 */
export function packForEdge(batches: readonly PacketBatch[]): EdgeBatch {
  const payload = new Uint8Array(batches.reduce((sum, { bytes }) => sum + bytes.length, 0));
  const packer = new BatchPacker(1);
  let start = 0, packets = 0, lastId = 0, lastStart = 0;
  for (const batch of batches) {
    const { bytes, ends, expiresAtMs } = batch;
    payload.set(bytes, start);
    const sizes = ends.map((end, i) => end - (i === 0 ? 0 : ends[i - 1] ?? 0));
    packer.add({
      ...{ block: payload, start, bytes: bytes.length, packets: ends.length, sizes, expiresAtMs },
    });
    lastStart = start + bytes.length - (sizes.at(-1) ?? 0);
    start += bytes.length;
    packets += ends.length;
    lastId = lastIdOf(batch);
  }
  const lastCrc = crc32(payload.subarray(lastStart));
  return { lastId, lastCrc, packets, payload, runs: packer.finish() };
}
