import assert from "node:assert/strict";
import { Sender } from "../../src/sender/sender.ts";
import { bytes } from "../support/bytes.ts";
import { SenderBench } from "../support/sender_bench.ts";
import { until, within } from "../support/until.ts";

const REQUEST = bytes("request\n");

Deno.test("a server that owes a response is left, and gets the packet again", async () => {
  await using bench = new SenderBench();
  const { server } = bench;
  const sender = await bench.open({
    responseTimeoutMs: 300,
    backoffFirstMs: 1,
    backoffCapMs: 1,
  });
  const verdicts: string[] = [];
  const watching = (async () => {
    for await (const { verdict } of sender.status()) verdicts.push(verdict.kind);
  })();
  await sender.enqueue(REQUEST);
  const deaf = await server.accept();
  assert.equal(await deaf.readUntil("\n"), "request\n");
  // Acknowledged by its kernel, and yet not confirmed.
  await until("the packet has drained", () => sender.stats().drainedPackets === 1);
  assert.equal(sender.stats().queue.packets, 1);

  // From here on every connection is answered, however long this test is held up.
  server.serve(async (connection) => {
    for (let part = await connection.read(); part !== ""; part = await connection.read()) {
      await connection.write("response\n").catch(() => {});
    }
    connection.close();
  });
  await until("the packet is confirmed", () => sender.stats().queue.packets === 0);
  assert(verdicts.includes("no-response"), verdicts.join(" "));
  assert(sender.stats().redeliveredPackets >= 1);
  await sender.close();
  await within("the status ends", watching);
  deaf.close();
});

Deno.test("responses in time leave the connection alone", async () => {
  await using bench = new SenderBench();
  const { server } = bench;
  const sender = await bench.open({
    // Longer than any test machine is held up for.
    responseTimeoutMs: 60_000,
    holdMs: 60_001,
  });
  await sender.enqueue(REQUEST);
  const connection = await server.accept();
  await connection.readUntil("\n");
  await connection.write("response\n");
  await until("the response", () => sender.stats().receivedBytes === 9);
  await until("the drain", () => sender.stats().heldPackets === 1);
  const closing = sender.close({ deliverTimeoutMs: 0 });
  await connection.readToEnd();
  await closing;
  assert.equal(sender.stats().connections, 1);
});

Deno.test("responseTimeoutMs must leave time before a packet is confirmed", async () => {
  for (const [holdMs, responseTimeoutMs] of [[1000, 1000], [0, 5]] as const) {
    await assert.rejects(
      Sender.open({ queue: "q.db", remote: "tcp://127.0.0.1:1", holdMs, responseTimeoutMs }),
      { name: "OptionError", message: /holdMs must be more than responseTimeoutMs/ },
    );
  }
});
