import assert from "node:assert/strict";
import type { SenderOptions } from "../../src/sender/options.ts";
import { Sender } from "../../src/sender/sender.ts";
import { SenderBench } from "../support/sender_bench.ts";
import { until, within } from "../support/until.ts";

const PACKET = new Uint8Array(100).fill(46);

/** How long `packets` take to drain; they wait in the queue before the sender starts, or after. */
async function timeToDeliver(
  packets: number,
  pace: Partial<SenderOptions>,
  when: "before" | "after",
): Promise<number> {
  await using bench = new SenderBench();
  const texts = bench.server.readAll();
  const sender = await bench.open({ ...(when === "after" ? { connect: "always" } : {}), ...pace });
  if (when === "after") await until("connected", () => sender.state === "connected");
  const startMs = performance.now();
  await sender.enqueueMany(Array<Uint8Array>(packets).fill(PACKET));
  await within("every packet has drained", sender.drained());
  const tookMs = performance.now() - startMs;
  await until("all is read", () => texts.join("").length === packets * PACKET.length);
  return tookMs;
}

// Only lower bounds: a slow machine makes nothing arrive earlier. The first
// burst, 50 ms' worth, goes at once.
Deno.test("packets go out no faster than allowed", async () => {
  const tookMs = await timeToDeliver(60, { maxPacketsPerSecond: 200 }, "after");
  assert(tookMs >= 60 / 200 * 1000 - 55, `${tookMs} ms`);
});

Deno.test("bytes go out no faster than allowed", async () => {
  const tookMs = await timeToDeliver(60, { maxBytesPerSecond: 20_000 }, "after");
  assert(tookMs >= 60 * 100 / 20_000 * 1000 - 55, `${tookMs} ms`);
});

Deno.test("a backlog has a pace of its own", async () => {
  const pace = { backlogPacketsPerSecond: 200 };
  const tookMs = await timeToDeliver(60, pace, "before");
  assert(tookMs >= 60 / 200 * 1000 - 55, `${tookMs} ms`);
});

Deno.test("what is enqueued on a connection is no backlog", async () => {
  // At the backlog's pace this would take two weeks.
  await timeToDeliver(60, { backlogPacketsPerSecond: 0.00005 }, "after");
});

Deno.test("close does not wait for the pace beyond its deadline", async () => {
  await using bench = new SenderBench();
  bench.server.readAll();
  const sender = await bench.open({ maxPacketsPerSecond: 0.001 });
  await sender.enqueueMany([PACKET, PACKET, PACKET]);
  await until("the first has drained", () => sender.stats().drainedPackets === 1);
  await within("the close", sender.close({ deliverTimeoutMs: 20 }));
  assert.equal(sender.stats().queue.packets >= 2, true);
});

Deno.test("a pace is checked", async () => {
  for (
    const name of [
      "maxPacketsPerSecond",
      "maxBytesPerSecond",
      "backlogPacketsPerSecond",
      "backlogBytesPerSecond",
    ]
  ) {
    for (const value of [0, -1, NaN]) {
      await assert.rejects(
        Sender.open({ queue: "q.db", remote: "tcp://127.0.0.1:1", [name]: value }),
        { name: "OptionError", message: new RegExp(`${name} must be more than 0`) },
      );
    }
  }
});
