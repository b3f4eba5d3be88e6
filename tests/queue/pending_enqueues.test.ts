import assert from "node:assert/strict";
import { PendingEnqueue, PendingEnqueues } from "../../src/queue/commit/pending_enqueues.ts";

/** A unit of one packet. */
function unitOf(bytes: number): PendingEnqueue {
  return new PendingEnqueue(new Uint8Array(bytes), 0, bytes, Infinity);
}

Deno.test("what was withdrawn leaves the line without a transaction, and the order stays", () => {
  const pending = new PendingEnqueues();
  const all = Array.from({ length: 9 }, (_, i) => unitOf(i + 1));
  for (const unit of all) pending.push(unit);
  const inTransaction = pending.take(2, 100);
  assert.deepEqual(inTransaction, all.slice(0, 2));
  for (const [i, unit] of all.entries()) if (i !== 4 && i !== 7) pending.withdraw(unit);
  assert.deepEqual([pending.packets, pending.bytes, pending.isEmpty], [2, 5 + 8, false]);
  assert.deepEqual(pending.take(100, 100), [all[4], all[7]]);
  assert.equal(pending.isEmpty, true);

  const late = [unitOf(1), unitOf(1), unitOf(1)];
  for (const unit of late) pending.push(unit);
  assert.equal(pending.isEmpty, false);
  for (const unit of late) pending.withdraw(unit);
  assert.equal(pending.isEmpty, true, "they are kept in memory");
});
