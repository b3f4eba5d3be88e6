import assert from "node:assert/strict";
import { Sender } from "../../src/sender/sender.ts";
import { bytes } from "../support/bytes.ts";
import type { ScriptedServer, ServedConnection } from "../support/scripted_server.ts";
import { SenderBench } from "../support/sender_bench.ts";
import { until } from "../support/until.ts";

/** What the server reads at a time: one packet of those that do it no harm. */
const PACKET_BYTES = 8;
/** Longer, so that a part of it is unread when the program dies: that makes a reset. */
const POISON = bytes("poison".padEnd(200, "!"));

function packet(n: number): Uint8Array {
  return bytes(String(n).padStart(PACKET_BYTES - 1, "0") + "\n");
}

/** A server that dies of poison, and is started again at once. Collects what it has understood. */
function serveUntilPoisoned(
  server: ScriptedServer,
): { readonly seen: Set<number>; deaths: number } {
  const result = { seen: new Set<number>(), deaths: 0 };
  const serve = async (connection: ServedConnection): Promise<void> => {
    let text = "";
    for (;;) {
      const part = await connection.read(PACKET_BYTES - text.length);
      text += part;
      if (part === "" || text.startsWith("p")) break;
      if (text.length < PACKET_BYTES) continue;
      result.seen.add(Number(text));
      text = "";
    }
    if (text.startsWith("p")) result.deaths++;
    connection.close();
  };
  server.serve(serve);
  return result;
}

Deno.test("a packet that kills the server each time becomes a dead letter, the others arrive", async () => {
  await using bench = new SenderBench();
  const { server } = bench;
  const served = serveUntilPoisoned(server);
  const sender = await bench.open({
    holdMs: 50,
    maxAttempts: 3,
    backoffFirstMs: 1,
    backoffCapMs: 5,
  });
  const packets = Array.from({ length: 40 }, (_, i) => packet(i + 1));
  packets.splice(17, 0, POISON);
  await sender.enqueueMany(packets);
  await until("all but one are confirmed", () => sender.stats().queue.packets === 0);
  const { deadPackets, deadBytes, gaveUpPackets, expiredPackets } = sender.stats().queue;
  assert.deepEqual({ deadPackets, deadBytes, gaveUpPackets, expiredPackets }, {
    deadPackets: 1,
    deadBytes: POISON.length,
    gaveUpPackets: 1,
    expiredPackets: 0,
  });
  assert.equal(served.seen.size, 40);
  assert(served.deaths >= 3, `${served.deaths} deaths`);

  // Put back, it is tried again behind the others, and found again.
  await sender.queue.requeue({ firstId: 18, lastId: 18 });
  await until("it is dead again", () => sender.stats().queue.gaveUpPackets === 2);
  assert.equal(sender.stats().queue.deadPackets, 1);
  await sender.enqueue(packet(41));
  await until("the next one is confirmed", () => sender.stats().queue.packets === 0);
  assert(served.seen.has(41));
  await sender.close();
});

Deno.test("without maxAttempts nothing is given up", async () => {
  await using bench = new SenderBench();
  const { server } = bench;
  const served = serveUntilPoisoned(server);
  const sender = await bench.open({
    backoffFirstMs: 1,
    backoffCapMs: 5,
  });
  await sender.enqueueMany([packet(1), POISON, packet(2)]);
  const { queue } = sender;
  // What stands before it is tried alone, too, and is confirmed.
  await until("it has died often", () => served.deaths >= 20 && queue.stats().packets === 2);
  assert.equal(queue.stats().deadPackets, 0);
  assert.deepEqual([...served.seen], [1]);
  await sender.close({ deliverTimeoutMs: 0 });
});

Deno.test("what expires while the server is away is not sent, and not lost", async () => {
  await using bench = new SenderBench();
  const { server } = bench;
  server.stop();
  const warnings: string[] = [];
  const sender = await bench.open({
    backoffFirstMs: 1,
    backoffCapMs: 20,
    logger: { debug() {}, info() {}, error() {}, warn: (words) => warnings.push(words) },
  });
  await sender.enqueue(bytes("for ever 1\n"));
  await sender.enqueue(bytes("for a moment\n"), { ttlMs: 1 });
  await sender.enqueue(bytes("for ever 2\n"));
  await until("it is a dead letter", () => sender.stats().queue.deadPackets === 1);
  assert(
    warnings.some((words) => /packet 2 expired and became a dead letter/.test(words)),
    warnings.join("\n"),
  );
  const texts = server.start().readAll();
  await until("the others are confirmed", () => sender.stats().queue.packets === 0);
  assert.equal(texts.join(""), "for ever 1\nfor ever 2\n");
  await sender.close();
});

Deno.test("maxAttempts is checked", async () => {
  for (const maxAttempts of [0, 1, 2.5, NaN, -3]) {
    await assert.rejects(
      Sender.open({ queue: "q.db", remote: "tcp://127.0.0.1:1", maxAttempts }),
      { name: "OptionError", message: /maxAttempts must be an integer of 2 or more/ },
    );
  }
});

Deno.test("a transform that throws what has no words, or words that nobody can keep, costs its packet alone", async () => {
  await using bench = new SenderBench();
  const { server } = bench;
  server.serve(async (connection) => {
    while (await connection.read(100) !== "");
    connection.close();
  });
  const mute = () => {
    throw new RangeError("no words");
  };
  const thrown: unknown[] = [
    Object.create(null),
    { toString: mute },
    Object.defineProperty(new Error(), "message", { get: mute }),
    Object.defineProperty(new Error(), "message", { value: Symbol("words") }),
    new Error(`NUL \0 and ${"very ".repeat(10_000)}long`),
  ];
  const sender = await bench.open({
    holdMs: 0,
    transform: ({ id, payload }) => {
      if (id <= thrown.length) throw thrown[id - 1];
      return payload;
    },
  });
  await sender.enqueueMany(Array.from({ length: thrown.length + 1 }, (_, i) => packet(i + 1)));
  await until("all have left the queue", () => sender.stats().queue.packets === 0);
  const letters = await sender.queue.deadLetters(0, Infinity);
  assert.deepEqual(
    letters.map(({ id, words }) => ({ id, words })),
    thrown.map((_, i) => ({
      id: i + 1,
      words: i < 4
        ? "an object without words was thrown"
        : `NUL \ufffd and ${"very ".repeat(1998)}`,
    })),
  );
  await sender.close();
});
