import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import type { PacketBatch } from "../../src/base/ports.ts";
import { RecentBatches } from "../../src/queue/read/recent_batches.ts";

/** Packet `id` is `size` bytes that tell it from its neighbours. */
function batchOf(firstId: number, sizes: readonly number[]): PacketBatch {
  const ends = new Uint32Array(sizes.length);
  let end = 0;
  sizes.forEach((size, i) => ends[i] = end += size);
  const bytes = new Uint8Array(end);
  sizes.forEach((size, i) => bytes.fill((firstId + i) % 251, (ends[i] ?? 0) - size, ends[i]));
  return { firstId, bytes, ends, expiresAtMs: Infinity };
}

function packetsOf(batches: readonly PacketBatch[]): [id: number, size: number][] {
  return batches.flatMap(({ firstId, bytes, ends }) =>
    [...ends].map((end, i): [number, number] => {
      const start = i === 0 ? 0 : ends[i - 1] ?? 0;
      const id = firstId + i;
      assert(bytes.subarray(start, end).every((byte) => byte === id % 251), `bytes of ${id}`);
      return [id, end - start];
    })
  );
}

type Step =
  | { readonly do: "append"; readonly gap: number; readonly sizes: readonly number[] }
  | { readonly do: "remove"; readonly share: number }
  | { readonly do: "excise"; readonly share: number; readonly count: number }
  | { readonly do: "read"; readonly share: number; readonly maxBytes: number }
  | { readonly do: "clear" };

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 });
const share = fc.integer({ min: 0, max: 1000 }).map((share) => share / 1000);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant("append" as const), gap: fc.constant(0), sizes }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("append" as const),
      gap: fc.integer({ min: 1, max: 5 }),
      sizes,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("remove" as const),
      share: share.map((share) => share ** 4),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("excise" as const),
      share,
      count: fc.integer({ min: 1, max: 12 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("read" as const),
      share,
      maxBytes: fc.integer({ min: 1, max: 400 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("clear" as const) }) },
);

/** What a read has to give: the next packets, within the bytes, one at least. */
function following(
  file: ReadonlyMap<number, number>,
  afterId: number,
  maxBytes: number,
): [number, number][] {
  const found: [number, number][] = [];
  let bytes = 0;
  for (const [id, size] of [...file].sort(([a], [b]) => a - b)) {
    if (id <= afterId) continue;
    bytes += size;
    if (found.length > 0 && bytes > maxBytes) break;
    found.push([id, size]);
  }
  return found;
}

Deno.test("what is read from memory is what the file has, and nothing is passed over", () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.constantFrom(0, 1000, 3000, Infinity),
      (steps, maxMemory) => {
        const recent = new RecentBatches(maxMemory);
        const file = new Map<number, number>();
        let lastId = 0;
        let removedThrough = 0;
        /** Since then everything has been told, so that with memory enough it is all there. */
        let knownFrom = 1;
        for (const step of steps) {
          switch (step.do) {
            case "append": {
              // Behind a hole at the end it starts afresh, too: that is rare, and only costs a read.
              const isGap = step.gap > 0 || (lastId > removedThrough && !file.has(lastId));
              if (isGap) knownFrom = lastId + step.gap + 1;
              // Another process has stored those of the gap.
              for (let i = 0; i < step.gap; i++) file.set(++lastId, 7);
              const batch = batchOf(lastId + 1, step.sizes);
              for (const size of step.sizes) file.set(++lastId, size);
              recent.append([batch]);
              break;
            }
            case "remove": {
              const throughId = Math.floor(step.share * lastId);
              for (const id of [...file.keys()]) if (id <= throughId) file.delete(id);
              recent.removeThrough(throughId);
              removedThrough = Math.max(removedThrough, throughId);
              break;
            }
            case "excise": {
              const firstId = 1 + Math.floor(step.share * lastId);
              const range = { firstId, lastId: firstId + step.count - 1 };
              for (let id = range.firstId; id <= range.lastId; id++) file.delete(id);
              recent.excise(range);
              break;
            }
            case "clear":
              recent.clear();
              knownFrom = lastId + 1;
              break;
            case "read": {
              // Nobody asks for what was removed; a batch goes as a whole.
              const afterId = Math.max(removedThrough, Math.floor(step.share * lastId));
              const read = recent.read(afterId, step.maxBytes);
              const expected = following(file, afterId, step.maxBytes);
              if (read !== undefined) assert.deepEqual(packetsOf(read), expected);
              // It may only not know what it was never told, has forgotten, or is not there.
              const oldest = Math.min(...[...file.keys()].filter((id) => id >= knownFrom));
              if (maxMemory === Infinity && expected.length > 0 && afterId + 1 >= oldest) {
                assert.notEqual(read, undefined, `nothing after ${afterId}`);
              }
            }
          }
        }
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("memory is bounded: the oldest go, and the newest are still known", () => {
  const recent = new RecentBatches(10_000);
  for (let firstId = 1; firstId <= 1000; firstId += 10) {
    recent.append([batchOf(firstId, Array<number>(10).fill(50))]);
  }
  let held = 0;
  for (let id = 1000; id > 0 && recent.read(id - 1, 1) !== undefined; id--) held++;
  // A batch of ten costs 500 bytes, 40 for where they end, and 300.
  assert.equal(held, 110);
});
