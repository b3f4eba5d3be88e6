import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { Hold, HOLD_GRAIN_MS } from "../../src/delivery/hold.ts";

function confirmedOf(hold: Hold): readonly number[] {
  return [hold.confirmedThroughId, hold.confirmedPackets, hold.heldPackets];
}

Deno.test("a packet is confirmed by a sign of life that is a hold younger than its acknowledgement", () => {
  const hold = new Hold(1000);
  hold.drained(7, 3, 5000);
  for (const untilMs of [5000, 6000 - HOLD_GRAIN_MS - 1]) {
    hold.confirm(untilMs);
    assert.deepEqual(confirmedOf(hold), [0, 0, 3]);
  }
  hold.confirm(6000);
  assert.deepEqual(confirmedOf(hold), [7, 3, 0]);
});

Deno.test("without a hold the acknowledgement itself is the sign of life", () => {
  const hold = new Hold(0);
  hold.drained(1, 1, 5000);
  hold.confirm(5000);
  assert.deepEqual(confirmedOf(hold), [1, 1, 0]);
});

Deno.test("after a stall everything is held anew", () => {
  const hold = new Hold(1000);
  hold.drained(1, 1, 5000);
  hold.drained(2, 2, 5500);
  hold.restart(65_000);
  hold.confirm(65_500);
  assert.deepEqual(confirmedOf(hold), [0, 0, 2]);
  hold.confirm(66_000);
  assert.deepEqual(confirmedOf(hold), [2, 2, 0]);
});

Deno.test("a hold looks when it ends, and then ever less often", () => {
  const hold = new Hold(1000);
  assert.equal(hold.dueInMs(0), Infinity);
  hold.drained(1, 1, 5000);
  const waits = [5000, 5990, 6000, 6040, 6120, 9000].map((nowMs) => hold.dueInMs(nowMs));
  assert.deepEqual(waits, [1000, 10, 20, 20, 30, 50]);
});

Deno.test("grouping never lets a packet go earlier than by itself", () => {
  fc.assert(fc.property(
    fc.integer({ min: 0, max: 3000 }),
    fc.array(fc.tuple(fc.integer({ min: 0, max: 400 }), fc.integer({ min: 1, max: 50 })), {
      minLength: 1,
      maxLength: 60,
    }),
    fc.integer({ min: 0, max: 20_000 }),
    (holdMs, steps, vouchedUntilMs) => {
      const hold = new Hold(holdMs);
      const single: { id: number; sinceMs: number }[] = [];
      let atMs = 0, id = 0;
      for (const [pauseMs, packets] of steps) {
        atMs += pauseMs;
        id += packets;
        hold.drained(id, id, atMs);
        single.push({ id, sinceMs: atMs });
      }
      hold.confirm(vouchedUntilMs);
      const throughId = hold.confirmedThroughId;
      const needMs = Math.max(0, holdMs - HOLD_GRAIN_MS);
      for (const { id, sinceMs } of single) {
        if (id <= throughId) assert.ok(sinceMs + needMs <= vouchedUntilMs);
        // A group waits for its last packet: at most a twentieth of the hold longer.
        else assert.ok(sinceMs + needMs + holdMs / 20 + 1 > vouchedUntilMs);
      }
      assert.equal(hold.heldPackets, id - throughId);
    },
  ));
});
