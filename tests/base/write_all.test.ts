import assert from "node:assert/strict";
import { writeAll, writeAllSync } from "../../src/base/write_all.ts";
import { bytes, text } from "../support/bytes.ts";

/** Takes as many bytes as it is told, one call after the other, and then all. */
function sinkOf(...counts: number[]) {
  const taken: string[] = [];
  const writeSync = (part: Uint8Array): number => {
    const count = counts.shift() ?? part.length;
    taken.push(text(part.subarray(0, count)));
    return count;
  };
  return { taken, writeSync, write: (part: Uint8Array) => Promise.resolve(writeSync(part)) };
}

Deno.test("what a sink takes in parts is written whole, in order", async () => {
  const [first, second] = [sinkOf(1, 3), sinkOf(1, 3)];
  await writeAll(first, bytes("packet"));
  writeAllSync(second, bytes("packet"));
  for (const { taken } of [first, second]) assert.deepEqual(taken, ["p", "ack", "et"]);
});

Deno.test("a write that takes nothing is a failure, and not tried for ever", async () => {
  await assert.rejects(writeAll(sinkOf(2, 0), bytes("packet")), /took nothing/);
  assert.throws(() => writeAllSync(sinkOf(0), bytes("packet")), /took nothing/);
});
