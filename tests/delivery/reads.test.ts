import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { Reads } from "../../src/delivery/reads.ts";

interface Step {
  readonly sends: readonly number[];
  readonly acks: number;
  readonly reads: number;
}

const STEP = fc.record<Step>({
  sends: fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 4 }),
  acks: fc.integer({ min: 0, max: 30 }),
  reads: fc.integer({ min: -10, max: 30 }),
});

Deno.test("against a model: a packet is confirmed once its last byte is read, in order", () => {
  fc.assert(fc.property(fc.array(STEP, { maxLength: 40 }), (steps) => {
    const reads = new Reads();
    const ends: number[] = [];
    let assigned = 0, acked = 0, most = 0;
    for (const { sends, acks, reads: more } of steps) {
      if (sends.length > 0) {
        let end = 0;
        const batchEnds = sends.map((size) => end += size);
        const bytes = new Uint8Array(end);
        const batch = {
          firstId: ends.length + 1,
          bytes,
          ends: Uint32Array.from(batchEnds),
          expiresAtMs: Infinity,
        };
        reads.assigned([batch], assigned);
        for (const at of batchEnds) ends.push(assigned + at);
        assigned += end;
      }
      acked = Math.min(assigned, acked + acks);
      const read = Math.min(acked, most + more);
      const readOn = read > most;
      most = Math.max(most, read);
      const drained = ends.filter((end) => end <= acked).length;
      const through = ends.filter((end) => end <= most).length;
      assert.equal(reads.settle(read, drained), readOn);
      assert.equal(reads.confirmedThroughId, through);
      assert.equal(reads.openPackets, ends.length - through);
      assert.equal(reads.heldPackets, drained - through);
    }
  }));
});
