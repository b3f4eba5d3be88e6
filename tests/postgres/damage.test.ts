import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import { postgresInspector, postgresQueue } from "../../src/postgres/postgres.ts";
import type { DeadPackets } from "../../src/queue/options.ts";
import { type OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { Sender } from "../../src/sender/sender.ts";
import { unless } from "../queue/helpers.ts";
import { text } from "../support/bytes.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { until } from "../support/until.ts";
import { LossyProxy } from "./lossy_proxy.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

interface Place {
  readonly server: PostgresServer;
  readonly url: string;
  /** The row of packets 4 to 6, or another one, as SQL. */
  row(lastId?: number): string;
}

const parts: [name: string, run: (place: Place) => Promise<void>][] = [];
const part = (name: string, run: (place: Place) => Promise<void>) => parts.push([name, run]);

const open = (url: string) => postgresQueue({ url, durability: "power-loss" });

/** Three rows of three packets, ids 1 to 9, and a row of one, id 10. */
async function makeRows(url: string): Promise<void> {
  await using queue = await open(url);
  for (let first = 1; first < 10; first += 3) {
    await queue.enqueueMany([first, first + 1, first + 2].map((id) => `packet ${id}\n`));
  }
  await queue.enqueue("packet 10\n");
}

/** What the sender is given, piece by piece. */
async function sendable(queue: OutboundQueue): Promise<number[]> {
  const ids: number[] = [];
  const sending = sendingSideOf(queue);
  for (let after = sending.removedThroughId;;) {
    const batches = await sending.readBatches(after, 1000);
    if (batches.length === 0) return ids;
    for (const { firstId, ends } of batches) {
      for (let i = 0; i < ends.length; i++) ids.push(firstId + i);
    }
    after = ids.at(-1) ?? Infinity;
  }
}

async function lettersOf(queue: OutboundQueue): Promise<string[]> {
  const letters = await queue.deadLetters(0, 1000);
  return letters.map(({ id, reason, payload }) => `${id} ${reason}: ${text(payload).trim()}`);
}

async function problemsOf(url: string): Promise<string[]> {
  using inspector = await postgresInspector({ url });
  return (await inspector.check()).map(({ words }) => words);
}

/** What is done to the row of packets 4 to 6, and which letters come of it. */
const DAMAGES: readonly [name: string, set: string, letters: string[]][] = [
  [
    "another payload",
    "payload = set_byte(payload, 0, 80)",
    ["4 damaged: Packet 4", "5 damaged: packet 5", "6 damaged: packet 6"],
  ],
  [
    "other ends that are in order",
    "ends = '{9, 16, 27}'",
    ["4 damaged: packet 4", "5 damaged: packet", "6 damaged: 5\npacket 6"],
  ],
  ["ends that descend", "ends = '{18, 9, 27}'", [
    ...["4 damaged: ", "5 damaged: "],
    "6 damaged: packet 4\npacket 5\npacket 6",
  ]],
  ["ends beyond the payload", "ends = '{9, 18, 99}'", [
    ...["4 damaged: ", "5 damaged: "],
    "6 damaged: packet 4\npacket 5\npacket 6",
  ]],
  ["another checksum", "checksum = '\\x00'", [
    "4 damaged: packet 4",
    "5 damaged: packet 5",
    "6 damaged: packet 6",
  ]],
  ["no checksum", "checksum = NULL", [
    "4 damaged: packet 4",
    "5 damaged: packet 5",
    "6 damaged: packet 6",
  ]],
];

for (const [name, set, letters] of DAMAGES) {
  part(`a row with ${name} is set aside, and not sent`, async ({ server, url, row }) => {
    await makeRows(url);
    await server.damage(`UPDATE sendq.run SET ${set} WHERE ${row()}`);
    await using queue = await open(url);
    const heard: DeadPackets[] = [];
    queue.subscribeDead((dead) => heard.push(dead));
    await assert.rejects(queue.read(3, 1000), (error) => {
      assert(error instanceof QueueFileError && error.reason === "corrupt", String(error));
      assert.match(error.message, /end with id 6 are damaged: .*behind id 6/s);
      return true;
    });
    const tenure = await sendingSideOf(queue).takeTenure(systemClock);
    assert.deepEqual(await sendable(queue), [1, 2, 3, 7, 8, 9, 10]);
    assert.deepEqual(await lettersOf(queue), letters);
    assert.deepEqual(
      heard.map(({ packets, reason, ids }) => ({ packets, reason, lastId: ids.lastId })),
      [{ packets: letters.length, reason: "damaged", lastId: 6 }],
    );
    const { packets, bytes, deadPackets, damagedPackets } = queue.stats();
    assert.deepEqual([packets, bytes, deadPackets], [7, 64, letters.length]);
    assert.equal(damagedPackets, letters.length);
    assert.deepEqual(await problemsOf(url), []);
    await sendingSideOf(queue).removeThrough(10);
    assert.equal(queue.stats().packets, 0);
    await tenure.release();
    assert.deepEqual(await problemsOf(url), []);
  });
}

part("of a damaged row only what was not removed becomes dead letters", async ({
  server,
  url,
  row,
}) => {
  await makeRows(url);
  await using queue = await open(url);
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  await sendable(queue);
  await sendingSideOf(queue).removeThrough(4);
  await server.damage(`UPDATE sendq.run SET payload = set_byte(payload, 12, 80) WHERE ${row()}`);
  assert.deepEqual(await sendable(queue), [7, 8, 9, 10]);
  assert.deepEqual(await lettersOf(queue), ["5 damaged: pacPet 5", "6 damaged: packet 6"]);
  await tenure.release();
  assert.deepEqual(await problemsOf(url), []);
});

part("the answer is lost: what was set aside is told once, and right", async ({
  server,
  url,
  row,
}) => {
  await makeRows(url);
  await server.damage(`UPDATE sendq.run SET payload = set_byte(payload, 0, 80) WHERE ${row(3)}`);
  await using proxy = new LossyProxy(server.port);
  await using queue = await open(url.replace(`:${server.port}/`, `:${proxy.port}/`));
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  const heard: DeadPackets[] = [];
  queue.subscribeDead((dead) => heard.push(dead));
  await assert.rejects(queue.read(0, 1000), QueueFileError);
  proxy.breakNext("answer");
  assert.deepEqual(await sendable(queue), [4, 5, 6, 7, 8, 9, 10]);
  assert(proxy.broken > 0);
  assert.deepEqual(
    heard.map(({ packets, bytes, ids }) => ({ packets, bytes, ids })),
    [{ packets: 3, bytes: 27, ids: { firstId: 1, lastId: 3 } }],
  );
  await tenure.release();
  assert.deepEqual(await problemsOf(url), []);
});

part("an operator's change does not make sound what is damaged", async ({ server, url, row }) => {
  await makeRows(url);
  await server.damage(`UPDATE sendq.run SET payload = set_byte(payload, 0, 80) WHERE ${row()}`);
  await using queue = await open(url);
  // Its first packet is damaged; the row is cut behind its second one.
  await queue.removePackets({ firstId: 6, lastId: 7 });
  assert.deepEqual(await lettersOf(queue), [
    "4 damaged: Packet 4",
    "5 damaged: packet 5",
    "6 damaged: packet 6",
  ]);
  const { packets, damagedPackets } = queue.stats();
  assert.deepEqual([packets, damagedPackets], [6, 3]);
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  assert.deepEqual(await sendable(queue), [1, 2, 3, 8, 9, 10]);
  await tenure.release();
  assert.deepEqual(await problemsOf(url), []);
});

part("a damaged dead letter is not put back", async ({ server, url }) => {
  await makeRows(url);
  await using queue = await open(url);
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  for (const id of [1, 2, 3]) await sendingSideOf(queue).giveUp(id, 1);
  await server.damage(
    "UPDATE sendq.dead_letter SET payload = set_byte(payload, 0, 80) WHERE id = 2 " +
      "AND queue = (SELECT max(id) FROM sendq.queue)",
  );
  const back = await queue.requeue({ firstId: 1, lastId: 3 });
  assert.deepEqual([back.packets, back.damagedPackets], [2, 1]);
  assert.deepEqual(await lettersOf(queue), ["2 gave-up: Packet 2"]);
  assert.deepEqual(await sendable(queue), [4, 5, 6, 7, 8, 9, 10, 11, 12]);
  await tenure.release();
});

part("a sender sends what is sound, in order, and says what it did not", async ({
  server,
  url,
  row,
}) => {
  await makeRows(url);
  await server.damage(`UPDATE sendq.run SET payload = set_byte(payload, 0, 80) WHERE ${row()}`);
  await using peer = new ReadingServer();
  const queue = await open(url);
  await using sender = await Sender.open(queue, peer.remote, { closesQueue: true });
  await sender.drained();
  await until("the last packet", () => peer.text.endsWith("packet 10\n"));
  assert.equal(peer.text, [1, 2, 3, 7, 8, 9, 10].map((id) => `packet ${id}\n`).join(""));
  assert.equal(queue.stats().damagedPackets, 3);
});

Deno.test({
  ...unless(NO_POSTGRES, "a queue on PostgreSQL in which rows are damaged"),
  async fn(t) {
    await using server = await PostgresServer.start();
    for (const [i, [name, run]] of parts.entries()) {
      await t.step(name, async () => {
        const url = await server.makeQueue(`q${i}`);
        const queue = `(SELECT id FROM sendq.queue WHERE name = 'q${i}')`;
        const row = (lastId = 6) => `queue = ${queue} AND last_id = ${lastId}`;
        await run({ server, url, row });
      });
    }
  },
});
