/**
 * Cutting runs of packets: always between two packets.
 *
 * @module
 */

import type { PacketRun } from "./ports.ts";

/** The id of a run's last packet. */
export function lastIdOf(run: PacketRun): number {
  return run.firstId + run.ends.length - 1;
}

/** Packets `from` to `to` (exclusive) of a run, by index. */
export function sliceRun(run: PacketRun, from: number, to: number): PacketRun {
  if (from === 0 && to === run.ends.length) return run;
  const startByte = from === 0 ? 0 : run.ends[from - 1] ?? 0;
  const ends = run.ends.slice(from, to);
  if (startByte > 0) { for (let i = 0; i < ends.length; i++) ends[i] = (ends[i] ?? 0) - startByte; }
  return {
    firstId: run.firstId + from,
    bytes: run.bytes.subarray(startByte, startByte + (ends.at(-1) ?? 0)),
    ends,
    expiresAtMs: run.expiresAtMs,
  };
}

/**
 * The packets of `runs` that follow `afterId`, up to `maxBytes` in all; at least
 * one when there is one.
 *
 * @param runs In order, perhaps with holes between them; the first holds the packet that
 *   follows `afterId`.
 */
export function cutRuns(
  runs: readonly PacketRun[],
  afterId: number,
  maxBytes: number,
): PacketRun[] {
  const cut: PacketRun[] = [];
  let roomBytes = maxBytes;
  for (const whole of runs) {
    const run = sliceRun(whole, Math.max(0, afterId + 1 - whole.firstId), whole.ends.length);
    if (run.bytes.length <= roomBytes) {
      cut.push(run);
      roomBytes -= run.bytes.length;
      continue;
    }
    const fitting = packetsWithin(run, roomBytes);
    const packets = cut.length === 0 ? Math.max(1, fitting) : fitting;
    if (packets > 0) cut.push(sliceRun(run, 0, packets));
    break;
  }
  return cut;
}

/** How many of a run's first packets have no more than `maxBytes` in all. */
export function packetsWithin({ ends }: PacketRun, maxBytes: number): number {
  let low = 0, high = ends.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ends[middle] ?? Infinity) <= maxBytes) low = middle + 1;
    else high = middle;
  }
  return low;
}
