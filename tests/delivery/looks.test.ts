import assert from "node:assert/strict";
import { lookInMs } from "../../src/delivery/looks.ts";

const QUIET = {
  nowMs: 100_000,
  rttMs: 40,
  lastAckMs: 3000,
  waitingSinceMs: undefined,
  waits: false,
  keepAliveTimeoutMs: 19_000,
};

Deno.test("an idle connection is looked at when its silence can be death, not before", () => {
  assert.equal(lookInMs(QUIET), 16_020);
  assert.equal(lookInMs({ ...QUIET, lastAckMs: 18_500 }), 1000);
  // The kernel counts its probes late: the verdict waits for them.
  assert.equal(lookInMs({ ...QUIET, lastAckMs: 25_000 }), 1000);
  assert.equal(lookInMs({ ...QUIET, keepAliveTimeoutMs: undefined }), 60_000);
});

Deno.test("once a second while something is waited for that is no acknowledgement", () => {
  assert.equal(lookInMs({ ...QUIET, waits: true }), 1000);
});

Deno.test("soon while an acknowledgement is due, coarser the longer it is overdue", () => {
  const due = (sinceMs: number) => lookInMs({ ...QUIET, waitingSinceMs: 100_000 - sinceMs });
  assert.deepEqual([0, 40, 140, 10_000].map(due), [1.25, 1.25, 12.5, 50]);
  assert.equal(lookInMs({ ...QUIET, rttMs: 0.1, waitingSinceMs: 100_000 }), 1);
});
