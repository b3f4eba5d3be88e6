/** When a connection carries nothing more of what was said beside packets. */
import assert from "node:assert/strict";
import { acknowledged } from "../../src/base/acknowledged.ts";
import { KernelCallError, WireError } from "../../src/base/errors.ts";
import { type SocketSample, TcpState, type Wire } from "../../src/base/ports.ts";
import { ManualClock } from "../support/manual_clock.ts";

type Reading = Pick<SocketSample, "bytesAcked" | "sendQueueBytes" | "state">;
const { ESTABLISHED, CLOSE } = TcpState;

/** Takes these readings one after the other; returns how many pauses lay between. */
async function settle(readings: readonly Reading[], pauseMs = 10): Promise<number> {
  const clock = new ManualClock();
  let pauses = 0;
  const wire = {
    sample: () => readings[Math.min(pauses, readings.length - 1)],
    takeSocketError: () => "ECONNRESET",
  } as unknown as Wire;
  const said = { baseBytes: 1, writtenBytes: 20, of: "the login", doing: "it logged in" };
  await acknowledged(wire, said, clock, (ms) => {
    assert.ok(ms >= 1 && ms <= 50, `${ms}`);
    pauses++;
    clock.advance(pauseMs);
    return Promise.resolve();
  });
  return pauses;
}

const reading = (bytesAcked: number, sendQueueBytes: number, state: number = ESTABLISHED) => ({
  ...{ bytesAcked, sendQueueBytes, state },
});

Deno.test("both counters have to say so: one alone may be read in between", async () => {
  assert.equal(await settle([reading(21, 0)]), 0);
  assert.equal(await settle([reading(1, 20), reading(8, 13), reading(21, 0)]), 2);
  assert.equal(await settle([reading(8, 0), reading(8, 0), reading(21, 0)]), 2);
  assert.equal(await settle([reading(21, 1), reading(21, 0)]), 1);
});

Deno.test("a connection that has ended acknowledges nothing any more", async () => {
  await assert.rejects(settle([reading(1, 20), reading(21, 0, CLOSE)]), (error) => {
    assert.ok(error instanceof WireError);
    assert.equal(error.message, "the connection ended while it logged in (ECONNRESET)");
    return true;
  });
});

Deno.test("counters that contradict each other are no proof", async () => {
  await assert.rejects(settle([reading(22, 0)]), KernelCallError);
  // A kernel that does not count: Send-Q is empty, and nothing was ever acknowledged.
  await assert.rejects(settle([reading(0, 20), reading(0, 0)], 400), {
    name: "KernelCallError",
    message: /says that -1 bytes of the login were acknowledged, written were 20/,
  });
});
