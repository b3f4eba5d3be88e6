import assert from "node:assert/strict";
import type { SenderOptions } from "../../src/sender/options.ts";
import { Sender } from "../../src/sender/sender.ts";
import { until } from "../support/until.ts";
import { ScriptedServer } from "./scripted_server.ts";

const PACKET = new Uint8Array(100).fill(46);

/** How long `packets` take to drain; they wait in the queue before the sender starts, or after. */
async function timeToDeliver(
  packets: number,
  pace: Partial<SenderOptions>,
  when: "before" | "after",
): Promise<number> {
  const directory = await Deno.makeTempDir();
  await using server = new ScriptedServer().start();
  const texts = server.readAll();
  const sender = await Sender.open({
    queue: `${directory}/outbox.db`,
    remote: server.remote,
    ...(when === "after" ? { connect: "always" } : {}),
    ...pace,
  });
  try {
    if (when === "after") await until("connected", () => sender.state === "connected");
    const startMs = performance.now();
    await sender.enqueueMany(Array<Uint8Array>(packets).fill(PACKET));
    await sender.drained();
    const tookMs = performance.now() - startMs;
    await until("all is read", () => texts.join("").length === packets * PACKET.length);
    return tookMs;
  } finally {
    await sender.close({ deliverTimeoutMs: 0 });
    await Deno.remove(directory, { recursive: true });
  }
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
  const directory = await Deno.makeTempDir();
  await using server = new ScriptedServer().start();
  server.readAll();
  const queue = `${directory}/outbox.db`;
  const sender = await Sender.open({ queue, remote: server.remote, maxPacketsPerSecond: 0.001 });
  await sender.enqueueMany([PACKET, PACKET, PACKET]);
  await until("the first has drained", () => sender.stats().drainedPackets === 1);
  await sender.close({ deliverTimeoutMs: 20 });
  assert.equal(sender.stats().queue.packets >= 2, true);
  await Deno.remove(directory, { recursive: true });
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
