import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { Ledger } from "../../src/delivery/ledger.ts";

Deno.test("a packet drains with its last byte, not with one less", () => {
  const ledger = new Ledger(6);
  ledger.assign(7, 100);
  ledger.assign(8, 50);
  ledger.wrote(150, 0);
  assert.equal(ledger.drainedThroughId, 6);
  ledger.acknowledge(99);
  assert.equal(ledger.drainedThroughId, 6);
  assert.equal(ledger.inFlightPackets, 2);
  ledger.acknowledge(100);
  assert.equal(ledger.drainedThroughId, 7);
  ledger.acknowledge(149);
  assert.equal(ledger.drainedThroughId, 7);
  ledger.acknowledge(150);
  assert.equal(ledger.drainedThroughId, 8);
  assert.equal(ledger.inFlightPackets, 0);
  assert.equal(ledger.inFlightBytes, 0);
});

Deno.test("the kernel's figure is clamped to what was written: our FIN counts in it", () => {
  const ledger = new Ledger(0);
  ledger.assign(1, 10);
  ledger.assign(2, 10);
  ledger.wrote(10, 0);
  assert.equal(ledger.acknowledge(11), true);
  assert.equal(ledger.ackedBytes, 10);
  assert.equal(ledger.drainedThroughId, 1);
  assert.equal(ledger.acknowledge(11), false);
});

Deno.test("acknowledged bytes never shrink", () => {
  const ledger = new Ledger(0);
  ledger.assign(1, 10);
  ledger.wrote(10, 0);
  ledger.acknowledge(8);
  assert.equal(ledger.acknowledge(3), false);
  assert.equal(ledger.acknowledge(-1), false);
  assert.equal(ledger.ackedBytes, 8);
});

Deno.test("the kernel cannot take more than it was given", () => {
  const ledger = new Ledger(0);
  ledger.assign(1, 10);
  assert.throws(() => ledger.wrote(11, 0), RangeError);
});

Deno.test("the age of the oldest unacknowledged byte follows the writes", () => {
  const ledger = new Ledger(0);
  ledger.assign(1, 30);
  assert.equal(ledger.oldestUnackedAtMs, undefined);
  ledger.wrote(10, 1000);
  ledger.wrote(10, 1500);
  ledger.wrote(0, 1700);
  ledger.wrote(10, 2000);
  assert.equal(ledger.oldestUnackedAtMs, 1000);
  ledger.acknowledge(9);
  assert.equal(ledger.oldestUnackedAtMs, 1000);
  ledger.acknowledge(10);
  assert.equal(ledger.oldestUnackedAtMs, 1500);
  ledger.acknowledge(30);
  assert.equal(ledger.oldestUnackedAtMs, undefined);
});

Deno.test("model: any order of assigning, writing and acknowledging", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("assign" as const), bytes: fc.integer({ min: 1, max: 300 }) }),
    fc.record({
      kind: fc.constant("write" as const),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
    fc.record({
      kind: fc.constant("ack" as const),
      share: fc.double({ min: 0, max: 1.2, noNaN: true }),
    }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
    const ledger = new Ledger(100);
    const ends: { id: number; end: number }[] = [];
    let assigned = 0, written = 0, acked = 0, nowMs = 0;
    const writes: { end: number; atMs: number }[] = [];
    for (const step of steps) {
      nowMs += 5;
      if (step.kind === "assign") {
        assigned += step.bytes;
        ends.push({ id: 101 + ends.length, end: assigned });
        ledger.assign(100 + ends.length, step.bytes);
      } else if (step.kind === "write") {
        const taken = Math.floor((assigned - written) * step.share);
        written += taken;
        if (taken > 0) writes.push({ end: written, atMs: nowMs });
        ledger.wrote(taken, nowMs);
      } else {
        const reading = acked + Math.floor((written - acked) * step.share);
        const progressed = ledger.acknowledge(reading);
        const before = acked;
        acked = Math.max(acked, Math.min(reading, written));
        assert.equal(progressed, acked > before);
      }
      const drained = ends.filter(({ end }) => end <= acked);
      assert.equal(ledger.drainedThroughId, drained.at(-1)?.id ?? 100);
      assert.equal(ledger.drainedPackets, drained.length);
      assert.equal(ledger.inFlightPackets, ends.length - drained.length);
      assert.equal(ledger.inFlightBytes, assigned - acked);
      assert.equal(ledger.oldestUnackedAtMs, writes.find(({ end }) => end > acked)?.atMs);
    }
  }));
});
