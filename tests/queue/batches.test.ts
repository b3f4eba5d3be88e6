import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { cutBatches, lastIdOf, packetsOf } from "../../src/base/packet_batch.ts";
import { PendingEnqueue, PendingEnqueues } from "../../src/queue/commit/pending_enqueues.ts";
import { Arena, BatchPacker } from "../../src/queue/store/batches.ts";

const sizes = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 40_000 })),
  { minLength: 1, maxLength: 60 },
);

/** A packet whose bytes tell its id. */
const packet = (id: number, size: number) => new Uint8Array(size).fill(id & 0xff);

Deno.test("packets go into batches and come out as they were, wherever they are cut", () => {
  fc.assert(fc.property(
    fc.array(sizes, { minLength: 1, maxLength: 6 }),
    fc.nat(),
    fc.integer({ min: 1, max: 100_000 }),
    fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
    (groups, seed, maxBytes, withdrawn) => {
      const arena = new Arena(() => 0);
      const packer = new BatchPacker(101);
      const stored: { id: number; payload: Uint8Array }[] = [];
      for (const [g, group] of groups.entries()) {
        const payloads = group.map((size, i) => packet(101 + stored.length + i, size));
        const [first] = payloads;
        assert(first);
        const bytes = group.reduce((sum, size) => sum + size, 0);
        const isOne = payloads.length === 1;
        const start = isOne ? arena.copy(first) : arena.copyAll(payloads, bytes);
        if (withdrawn[g]) continue; // A hole in the block.
        const sizes = isOne ? undefined : Uint32Array.from(group);
        packer.add(new PendingEnqueue(arena.block, start, bytes, Infinity, sizes));
        for (const payload of payloads) stored.push({ id: 101 + stored.length, payload });
      }
      const batches = packer.finish();
      assert.deepEqual(packetsOf(batches), stored);
      for (const [i, batch] of batches.entries()) {
        assert(batch.bytes.length <= 16_384 || batch.ends.length === 1);
        assert.equal(batch.ends.at(-1), batch.bytes.length);
        const next = batches[i + 1];
        if (next !== undefined) assert.equal(next.firstId, lastIdOf(batch) + 1);
      }
      if (stored.length === 0) return;
      const afterId = 100 + seed % stored.length;
      const from = batches.findIndex((batch) => lastIdOf(batch) > afterId);
      const expected: typeof stored = [];
      let bytes = 0;
      for (const one of stored.slice(afterId - 100)) {
        bytes += one.payload.length;
        if (expected.length > 0 && bytes > maxBytes) break;
        expected.push(one);
      }
      assert.deepEqual(packetsOf(cutBatches(batches.slice(from), afterId, maxBytes)), expected);
    },
  ));
});

Deno.test("a line that is never empty keeps its order and its counts", () => {
  const arena = new Arena(() => 0);
  const line = new PendingEnqueues();
  const units: PendingEnqueue[] = [];
  const push = (size: number) => {
    const start = arena.copy(new Uint8Array(size));
    const unit = new PendingEnqueue(arena.block, start, size, Infinity);
    units.push(unit);
    line.push(unit);
  };
  for (let i = 0; i < 10; i++) push(3);
  const taken: PendingEnqueue[] = [];
  for (let round = 0; round < 100; round++) {
    push(3);
    push(5);
    const some = line.take(2, 1000);
    assert.equal(some.length, 2);
    for (const unit of some) line.uncount(unit);
    taken.push(...some);
    assert(!line.isEmpty);
    assert.equal(line.packets, units.length - taken.length);
  }
  line.putBack(taken.splice(-1));
  taken.push(...line.take(Infinity, Infinity));
  assert(line.isEmpty);
  assert.deepEqual(taken, units);
  assert.equal(line.bytes, units.slice(-10).reduce((sum, { bytes }) => sum + bytes, 0));
});

Deno.test("blocks are as large as what comes at a time, between 4 and 64 KiB", () => {
  let nowMs = 0;
  const arena = new Arena(() => nowMs);
  const blocks = (packets: number, everyMs: number) => {
    const sizes = new Set<number>();
    for (let i = 0; i < packets; i++) {
      nowMs += everyMs;
      arena.copy(new Uint8Array(100));
      sizes.add(arena.block.length);
    }
    return [...sizes];
  };
  assert.deepEqual(blocks(200, 1000), [4096]);
  assert.deepEqual(blocks(5000, 0), [4096, 16_384, 65_536]);
  assert.equal(blocks(5000, 1000).at(-1), 4096);
  // One that fits into no block of the moment has one of its own size.
  arena.copy(new Uint8Array(10_000));
  assert.equal(arena.block.length, 10_000);
});
