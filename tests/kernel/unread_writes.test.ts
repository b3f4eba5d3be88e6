import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { UnreadWrites } from "../../src/kernel/unread_writes.ts";

/** One turn of a socket's life: a write, and then a read. */
const turn = fc.record({
  bytes: fc.integer({ min: 1, max: 40_000 }),
  /** What the kernel counts beyond the bytes. */
  overheadBytes: fc.integer({ min: 0, max: 3000 }),
  /** How much of that had gone from Send-Q by the second reading: a reader was quicker. */
  missedBytes: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 100_000 })),
  readBytes: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 100_000 })),
  /** Whether Send-Q is looked at. */
  looks: fc.boolean(),
});

Deno.test("unread writes: never less than is unread, and exactly that where nothing is read in part", () => {
  let exact = 0;
  fc.assert(
    fc.property(fc.array(turn, { maxLength: 60 }), (turns) => {
      const writes = new UnreadWrites();
      const pieces: { leftBytes: number; readonly bytes: number; readonly memoryBytes: number }[] =
        [];
      let missed = false;
      for (const { bytes, overheadBytes, missedBytes, readBytes, looks } of turns) {
        const memoryBytes = bytes + overheadBytes;
        missed ||= missedBytes > 0;
        pieces.push({ leftBytes: bytes, bytes, memoryBytes });
        writes.took(bytes, memoryBytes - missedBytes);
        for (let left = readBytes; left > 0 && pieces[0] !== undefined;) {
          const count = Math.min(left, pieces[0].leftBytes);
          pieces[0].leftBytes -= count;
          left -= count;
          if (pieces[0].leftBytes === 0) pieces.shift();
        }
        if (!looks) continue;
        const sendQueueBytes = pieces.reduce((sum, piece) => sum + piece.memoryBytes, 0);
        const unreadBytes = pieces.reduce((sum, { leftBytes }) => sum + leftBytes, 0);
        const said = writes.unreadBytes(sendQueueBytes);
        assert.ok(said >= unreadBytes, `${said} of ${unreadBytes}`);
        if (pieces.length === 0) assert.equal(said, 0);
        // Of a piece that is read in part nobody knows the part.
        if (!missed) assert.equal(said, pieces.reduce((sum, piece) => sum + piece.bytes, 0));
        if (!missed && pieces.length > 1) exact++;
      }
    }),
    { numRuns: 1000 },
  );
  assert.ok(exact > 0, "nothing was known exactly: that tests half of it");
});

Deno.test("unread writes: a write that waited is known by its bytes alone", () => {
  const writes = new UnreadWrites();
  writes.took(100, 0);
  writes.took(100, 768);
  assert.equal(writes.unreadBytes(1536), 200);
  // 768 are the second one's, and no more.
  assert.equal(writes.unreadBytes(768), 100);
  assert.equal(writes.unreadBytes(0), 0);
});
