/**
 * How fast packets may go out: a virtual schedule, as in the generic cell rate
 * algorithm (ITU-T I.371). Each packet moves the time at which the next one is
 * due by its own cost; what is due in the near future may go now, in a burst.
 */

import { packetsWithin } from "../base/packet_batch.ts";
import type { PacketBatch } from "../base/ports.ts";

/** Rates; `Infinity` where there is no limit. */
export interface PaceLimits {
  readonly maxPacketsPerSecond: number;
  readonly maxBytesPerSecond: number;
}

/** What may go ahead of its time: a timer is seldom more precise, and a wake-up not free. */
const BURST_MS = 50;

export class Pace {
  readonly #packetMs: number;
  readonly #bytesPerMs: number;
  #packetDueAtMs = -Infinity;
  #byteDueAtMs = -Infinity;

  constructor({ maxPacketsPerSecond, maxBytesPerSecond }: PaceLimits) {
    this.#packetMs = 1000 / maxPacketsPerSecond;
    this.#bytesPerMs = maxBytesPerSecond / 1000;
  }

  /** How many of the first packets of `batch` may go now. */
  packetsNow(batch: PacketBatch, nowMs: number): number {
    const packetLeadMs = Math.max(0, this.#packetDueAtMs - nowMs);
    const byteLeadMs = Math.max(0, this.#byteDueAtMs - nowMs);
    const byPackets = this.#packetMs === 0
      ? Infinity
      : Math.floor((BURST_MS - packetLeadMs) / this.#packetMs);
    const byBytes = packetsWithin(batch, (BURST_MS - byteLeadMs) * this.#bytesPerMs);
    // One that costs more than a burst goes when its time has come.
    const packets = packetLeadMs === 0 ? Math.max(1, byPackets) : byPackets;
    const bytes = byteLeadMs === 0 ? Math.max(1, byBytes) : byBytes;
    return Math.max(0, Math.min(packets, bytes, batch.ends.length));
  }

  spend(packets: number, bytes: number, nowMs: number): void {
    this.#packetDueAtMs = Math.max(this.#packetDueAtMs, nowMs) + packets * this.#packetMs;
    this.#byteDueAtMs = Math.max(this.#byteDueAtMs, nowMs) + bytes / this.#bytesPerMs;
  }

  /** When `packetsNow` will allow at least one packet of `bytes`, if not now. */
  readyInMs(bytes: number, nowMs: number): number {
    return Math.max(
      waitMs(this.#packetDueAtMs - nowMs, this.#packetMs),
      waitMs(this.#byteDueAtMs - nowMs, bytes / this.#bytesPerMs),
    );
  }
}

/** Small costs wait for half a burst, so that not each of them needs a wake-up. */
function waitMs(leadMs: number, costMs: number): number {
  return Math.max(0, costMs <= BURST_MS / 2 ? leadMs - BURST_MS / 2 : leadMs);
}
