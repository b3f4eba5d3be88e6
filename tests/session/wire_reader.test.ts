import assert from "node:assert/strict";
import type { Wire } from "../../src/base/ports.ts";
import { WireReader } from "../../src/session/wire_reader.ts";

Deno.test("a server that says little is read into little, one that says much into more", async () => {
  const sizes: number[] = [];
  const said = [5, 1024, 1024, 16_384, 3];
  const wire: Pick<Wire, "read"> = {
    read(buffer) {
      sizes.push(buffer.length);
      const bytes = said.shift();
      if (bytes === undefined) return Promise.resolve(null);
      buffer.fill(sizes.length, 0, bytes);
      return Promise.resolve(bytes);
    },
  };
  const reader = new WireReader(wire);
  const chunks: number[][] = [];
  for (let chunk = await reader.next(); chunk !== null; chunk = await reader.next()) {
    chunks.push([chunk.length, chunk[0] ?? 0, chunk.at(-1) ?? 0]);
  }
  assert.deepEqual(chunks, [[5, 1, 1], [1024, 2, 2], [1024, 3, 3], [16_384, 4, 4], [3, 5, 5]]);
  assert.deepEqual(sizes, [1024, 1024, 16_384, 16_384, 16_384, 16_384]);
});

for (const read of [0, -1, NaN, 1e9, "x" as unknown as number]) {
  Deno.test(`a wire of one's own that has read ${read} bytes has failed: nobody asks it again and again`, async () => {
    const reader = new WireReader({ read: () => Promise.resolve(read) });
    await assert.rejects(reader.next(), { name: "WireError", code: "UNKNOWN" });
  });
}
