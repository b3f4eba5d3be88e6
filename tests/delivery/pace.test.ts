import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import type { PacketBatch } from "../../src/base/ports.ts";
import { Pace } from "../../src/delivery/pace.ts";

function batchOf(sizes: readonly number[]): PacketBatch {
  const ends = new Uint32Array(sizes.length);
  let end = 0;
  sizes.forEach((size, i) => ends[i] = end += size);
  return { firstId: 1, bytes: new Uint8Array(end), ends, expiresAtMs: Infinity };
}

/** Sends as early as allowed, waking only when told to. Returns (time, bytes) of each packet. */
function play(
  sizes: readonly number[],
  limits: { maxPacketsPerSecond: number; maxBytesPerSecond: number },
  lateMs: () => number = () => 0,
): { readonly atMs: number; readonly bytes: number }[] {
  const pace = new Pace(limits);
  const sent: { atMs: number; bytes: number }[] = [];
  let nowMs = 1000;
  for (let next = 0; next < sizes.length;) {
    const batch = batchOf(sizes.slice(next, next + 100));
    const packets = pace.packetsNow(batch, nowMs);
    pace.spend(packets, batch.ends[packets - 1] ?? 0, nowMs);
    for (const bytes of sizes.slice(next, next + packets)) sent.push({ atMs: nowMs, bytes });
    next += packets;
    if (packets > 0) continue;
    const waitMs = pace.readyInMs(sizes[next] ?? 0, nowMs);
    assert.ok(waitMs > 0, "told to wait, and for no time");
    nowMs += Math.ceil(waitMs) + lateMs();
  }
  return sent;
}

const BURST_MS = 50;

Deno.test("no second sees more than its rate and one burst, and no rate is given away", () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 20, maxLength: 300 }),
    fc.constantFrom(1, 3, 10, 100, 1000, 50_000, Infinity),
    fc.constantFrom(500, 10_000, 1_000_000, Infinity),
    (sizes, maxPacketsPerSecond, maxBytesPerSecond) => {
      const sent = play(sizes, { maxPacketsPerSecond, maxBytesPerSecond });
      const largest = Math.max(...sizes);
      for (let from = 0; from < sent.length; from++) {
        let packets = 0, bytes = 0;
        for (let i = from; i < sent.length; i++) {
          const packet = sent[i];
          if (packet === undefined) break;
          packets++;
          bytes += packet.bytes;
          const withinMs = packet.atMs - (sent[from]?.atMs ?? 0) + BURST_MS;
          const allowedPackets = Math.max(1, maxPacketsPerSecond * withinMs / 1000) + 1;
          const allowedBytes = maxBytesPerSecond * withinMs / 1000 + largest;
          assert.ok(packets <= allowedPackets + 1e-6, `${packets} packets in ${withinMs} ms`);
          assert.ok(bytes <= allowedBytes + 1e-6, `${bytes} bytes in ${withinMs} ms`);
        }
      }
      const tookMs = (sent.at(-1)?.atMs ?? 0) - (sent[0]?.atMs ?? 0);
      // Where two limits take turns, each packet waits for the stricter one at most.
      const neededMs = sizes.reduce(
        (sum, size) => sum + Math.max(1000 / maxPacketsPerSecond, 1000 * size / maxBytesPerSecond),
        0,
      );
      // Whole milliseconds are lost by each wake-up, of which each serves half a burst at least.
      const lostMs = 1.1 + neededMs / (BURST_MS / 2);
      assert.ok(tookMs <= neededMs + lostMs, `took ${tookMs} ms instead of ${neededMs}`);
    },
  ));
});

Deno.test("a slow rate spaces packets evenly from the first on", () => {
  const sent = play([10, 10, 10, 10], { maxPacketsPerSecond: 10, maxBytesPerSecond: Infinity });
  assert.deepEqual(sent.map(({ atMs }) => atMs), [1000, 1100, 1200, 1300]);
});

Deno.test("late wake-ups do not lower the rate while they are within a burst", () => {
  const sizes = Array<number>(2000).fill(10);
  const sent = play(sizes, { maxPacketsPerSecond: 1000, maxBytesPerSecond: Infinity }, () => 20);
  const tookMs = (sent.at(-1)?.atMs ?? 0) - 1000;
  assert.ok(tookMs >= 1950 && tookMs <= 2000, `${tookMs}`);
});

Deno.test("idle time is not saved up", () => {
  const pace = new Pace({ maxPacketsPerSecond: 100, maxBytesPerSecond: Infinity });
  const batch = batchOf(Array<number>(1000).fill(1));
  assert.equal(pace.packetsNow(batch, 0), 5);
  pace.spend(5, 5, 0);
  assert.equal(pace.packetsNow(batch, 3_600_000), 5);
});

Deno.test("without limits everything goes at once", () => {
  const pace = new Pace({ maxPacketsPerSecond: Infinity, maxBytesPerSecond: Infinity });
  const batch = batchOf(Array<number>(1000).fill(1));
  pace.spend(1000, 1000, 5);
  assert.equal(pace.packetsNow(batch, 5), 1000);
  assert.equal(pace.readyInMs(1, 5), 0);
});
