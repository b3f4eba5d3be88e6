/**
 * Only the hold confirms: what servers do at their end that looks like "I have
 * read everything", over real sockets.
 */
import assert from "node:assert/strict";
import { lines, packet, packets } from "../support/packets.ts";
import { seen, SenderBench } from "../support/sender_bench.ts";
import { until, within } from "../support/until.ts";

Deno.test("a server that reads and closes in order has confirmed nothing: it is sent again", async () => {
  await using bench = new SenderBench();
  const sender = await bench.open({ holdMs: 60_000 });
  await sender.enqueueMany(packets(10));
  const first = await bench.server.accept();
  assert.equal(await first.readUntil("packet 10\n"), lines(10));
  first.close();
  const second = await bench.server.accept();
  assert.equal(await second.readUntil("packet 10\n"), lines(10));
  assert.equal(sender.stats().queue.packets, 10);
  assert.equal(sender.stats().redeliveredPackets, 10);
});

Deno.test("three such ends in a row are named, with what they may be and the option for it", async () => {
  await using bench = new SenderBench();
  const sender = await bench.open({ holdMs: 60_000, backoffFirstMs: 1, backoffCapMs: 10 });
  const named = seen(sender, ({ verdict }) => verdict.kind === "closes-early");
  await sender.enqueue(packet(1));
  for (let round = 0; round < 3; round++) {
    const connection = await bench.server.accept();
    await connection.readUntil("packet 1\n");
    connection.close();
  }
  const { verdict, words, level } = await named;
  assert.deepEqual(verdict, { kind: "closes-early", times: 3 });
  assert.equal(level, "warn");
  assert.match(
    words,
    /3 connections in a row.*refuses.*proxy.*onPeerFin \(--on-peer-fin\) "confirm"/,
  );
});

Deno.test('onPeerFin "confirm": a server known to close after each message, nothing repeated', async () => {
  await using bench = new SenderBench();
  const sender = await bench.open({ holdMs: 50, onPeerFin: "confirm" });
  for (let round = 1; round <= 2; round++) {
    await sender.enqueue(packet(round));
    const connection = await bench.server.accept();
    assert.equal(await connection.readUntil("\n"), lines(1, round));
    connection.close();
    await until("the packet is confirmed", () => sender.stats().queue.packets === 0);
  }
  assert.equal(sender.stats().redeliveredPackets, 0);
  assert.equal(sender.stats().connections, 2);
});

Deno.test('onPeerFin "confirm": shutdown() and then close() with unread bytes is a reset, not a proof', async () => {
  await using bench = new SenderBench();
  const sender = await bench.open({ holdMs: 60_000, onPeerFin: "confirm" });
  await sender.enqueueMany(packets(5));
  const first = await bench.server.accept();
  await within("drained", sender.drained());
  assert.equal(await first.read(9), lines(1));
  // As Python's socketserver and Deno's own close() end: FIN first, then what is unread.
  first.close();
  const second = await bench.server.accept();
  assert.equal(await second.readUntil("packet 5\n"), lines(5));
  assert.equal(sender.stats().queue.packets, 5);
});

Deno.test("close() waits for the hold before it sends its FIN, and keeps what did not live it out", async () => {
  await using bench = new SenderBench();
  const sender = await bench.open({ holdMs: 60_000 });
  await sender.enqueueMany(packets(3));
  const connection = await bench.server.accept();
  await connection.readUntil("packet 3\n");
  await within("drained", sender.drained());
  await within("close", sender.close({ deliverTimeoutMs: 50 }));
  assert.equal(sender.stats().queue.packets, 3);
});

Deno.test("a program that speaks all the time and never reads confirms nothing, however long it lives", async () => {
  await using bench = new SenderBench();
  const holdMs = 100;
  const sender = await bench.open({
    holdMs,
    maxInFlightBytes: 64 * 1024 * 1024,
    socket: { sendBufferBytes: 4 * 1024 * 1024 },
  });
  const payload = new Uint8Array(64 * 1024).fill(120);
  await sender.enqueueMany(Array.from({ length: 400 }, () => payload));
  const connection = await bench.server.accept();
  let over = false;
  const chunk = new Uint8Array(64 * 1024);
  const speaking = (async () => {
    while (!over) await connection.write(chunk).catch(() => (over = true));
  })();
  await seen(sender, ({ verdict }) => verdict.kind === "peer-stalled");
  const stalledMs = () => {
    const { verdict } = sender;
    return verdict.kind === "peer-stalled" ? verdict.stalledMs : 0;
  };
  await until("many holds have passed", () => stalledMs() > 10 * holdMs);
  // What drained before the window shut had its hold only if it drained long before.
  const confirmed = 400 - sender.stats().queue.packets;
  await until("many more have passed", () => stalledMs() > 20 * holdMs);
  assert.equal(400 - sender.stats().queue.packets, confirmed);
  assert.ok(sender.stats().heldPackets > 0, "nothing was acknowledged: the test tests nothing");
  over = true;
  connection.close();
  await speaking;
});
