import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import { type Inspector, postgresInspector, postgresQueue } from "../../src/postgres/postgres.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { unless } from "../queue/helpers.ts";
import { randomOf, randomPackets } from "../queue/inspector_helpers.ts";
import { text } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

/** A queue in a file, or on PostgreSQL. */
interface Place {
  readonly clock: ManualClock;
  /** Lets time pass, here and where the queue is. */
  pass(ms: number): Promise<void>;
  open(): Promise<OutboundQueue>;
  look(): Promise<Inspector>;
}

/** What has to be the same wherever a queue lies. */
const alike: [name: string, run: (place: Place) => Promise<void>][] = [];
const inBoth = (name: string, run: (place: Place) => Promise<void>) => alike.push([name, run]);

inBoth("what is in a queue, and in which state", async ({ clock, pass, open, look }) => {
  await using queue = await open();
  const storedAtMs = clock.wallMs();
  await queue.enqueueMany(["one", "two", "three"]);
  await queue.enqueue("four", { ttlMs: 1000 });
  const sending = sendingSideOf(queue);
  const tenure = await sending.takeTenure(systemClock);
  await sending.removeThrough(1);
  sending.rememberSent(2);
  await queue.enqueue("five");
  await sending.giveUp(5, 7, "too long");
  await queue.enqueue("six");

  using inspector = await look();
  const packets = await Array.fromAsync(inspector.packets({ payloadBytes: 4 }));
  assert.deepEqual(
    packets.map(({ id, state, bytes, payload }) => [id, state, bytes, text(payload)]),
    [
      [2, "sent", 3, "two"],
      [3, "waiting", 5, "thre"],
      [4, "waiting", 4, "four"],
      [6, "waiting", 3, "six"],
    ],
  );
  assert.deepEqual(packets.map(({ enqueuedAtMs }) => enqueuedAtMs), Array(4).fill(storedAtMs));
  assert.deepEqual(
    packets.map(({ expiresAtMs }) => expiresAtMs),
    [Infinity, Infinity, storedAtMs + 1000, Infinity],
  );
  assert.equal((await inspector.packets().next()).value?.payload.length, 0, "not asked for");
  assert.deepEqual(await inspector.counts(), {
    ...{ packets: 4, bytes: 15, lastId: 6, removedThroughId: 1, sentThroughId: 2 },
    ...{ droppedPackets: 0, droppedBytes: 0, deadPackets: 1, deadBytes: 4 },
    ...{ expiredPackets: 0, gaveUpPackets: 1, damagedPackets: 0, refusedPackets: 0 },
  });
  assert.deepEqual(await inspector.countPackets(), { packets: 4, bytes: 15 });
  assert.equal(await inspector.packet(1), undefined, "it was removed");
  assert.equal(text((await inspector.packet(3))?.payload), "three");
  assert.equal(await inspector.packet(5), undefined, "it is dead");
  const letter = {
    ...{ id: 5, enqueuedAtMs: storedAtMs, diedAtMs: storedAtMs, reason: "gave-up", sent: false },
    ...{ attempts: 7, words: "too long", bytes: 4, payload: new TextEncoder().encode("five") },
  };
  assert.deepEqual(await inspector.deadLetter(5), letter);
  const [part] = await Array.fromAsync(inspector.deadLetters({ payloadBytes: 2 }));
  assert.deepEqual(part, { ...letter, payload: new TextEncoder().encode("fi") });
  assert.deepEqual(await Array.fromAsync(inspector.deadLetters({ fromId: 6 })), []);
  assert.deepEqual(await Array.fromAsync(inspector.deadLetters({ toId: 4 })), []);
  assert.deepEqual(await inspector.countDeadLetters(), { packets: 1, bytes: 4 });
  assert.deepEqual(
    await inspector.countDeadLetters({ beforeMs: storedAtMs }),
    { packets: 0, bytes: 0 },
  );
  await pass(1000);
  assert.equal((await inspector.packet(4))?.state, "expired");
  assert.deepEqual(await inspector.check(), []);
  await tenure.release();
});

inBoth("ranges and ages, across many pages, agree with what is counted", async (place) => {
  const { clock, pass, open, look } = place;
  const sizes: number[] = [];
  let thirdAtMs = 0;
  await using queue = await open();
  const random = randomOf(1);
  for (let i = 0; i < 5; i++) {
    if (i === 2) thirdAtMs = clock.wallMs();
    // Rows of one packet, of many, and pages that are full by their bytes.
    const some = Array.from({ length: 150 }, () => i % 2 === 0 ? 20_000 : 7);
    await Promise.all(randomPackets(random, some).map((packet) => queue.enqueue(packet)));
    await queue.enqueueMany(randomPackets(random, [1, 2, 3]));
    sizes.push(...some, 1, 2, 3);
    await pass(10);
  }
  const all = sizes.map((bytes, i) => ({ id: i + 1, bytes }));
  const sending = sendingSideOf(queue);
  const tenure = await sending.takeTenure(systemClock);
  // In the middle of a row.
  await sending.removeThrough(152);
  await tenure.release();
  using inspector = await look();
  const cases: [object, typeof all][] = [
    [{}, all.slice(152)],
    [{ fromId: 1, toId: 153 }, all.slice(152, 153)],
    [{ fromId: 200, toId: 202 }, all.slice(199, 202)],
    [{ toId: 700 }, all.slice(152, 700)],
    [{ beforeMs: thirdAtMs }, all.slice(152, 2 * 153)],
    [{ fromId: sizes.length + 1 }, []],
  ];
  for (const [range, expected] of cases) {
    for (const payloadBytes of [0, Infinity]) {
      const found = await Array.fromAsync(inspector.packets({ ...range, payloadBytes }));
      assert.deepEqual(found.map(({ id, bytes }) => ({ id, bytes })), expected);
      for (const { bytes, payload } of found) {
        assert.equal(payload.length, Math.min(bytes, payloadBytes));
      }
    }
    const bytes = expected.reduce((sum, { bytes }) => sum + bytes, 0);
    assert.deepEqual(await inspector.countPackets(range), { packets: expected.length, bytes });
  }
});

for (const [name, run] of alike) {
  Deno.test(`inspector of a file: ${name}`, async () => {
    using dir = new TempDir();
    const clock = new ManualClock();
    await run({
      clock,
      pass: (ms) => Promise.resolve(clock.advance(ms)),
      open: () => OutboundQueue.open(dir.queue, { clock, durability: "process-crash" }),
      look: () => QueueInspector.open(dir.queue, { clock }),
    });
  });
}

const problemsOf = async (url: string) => {
  using inspector = await postgresInspector({ url });
  return (await inspector.check()).map(({ kind, words }) => `${kind}: ${words}`);
};
const isCorrupt = (words: RegExp) => (error: unknown) =>
  error instanceof QueueFileError && error.reason === "corrupt" && words.test(error.message);

/** Ids 1 to 9 in rows of three, of which 1 is gone, and dead letter 6. */
async function fill(url: string): Promise<void> {
  await using queue = await postgresQueue({ url, durability: "power-loss" });
  for (const some of [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]]) {
    await queue.enqueueMany(some.map((letter) => letter.repeat(100)));
  }
  const sending = sendingSideOf(queue);
  const tenure = await sending.takeTenure(systemClock);
  await sending.removeThrough(1);
  await sending.giveUp(6, 2);
  await tenure.release();
}

/** A flipped bit, a lost row: what no function of the schema does. */
const DAMAGES: [sql: string, problems: RegExp[]][] = [
  ["SELECT 1", []],
  [
    "UPDATE sendq.run SET payload = set_bit(payload, 9, 1 - get_bit(payload, 9)) WHERE last_id = 9",
    [/^packets: the packets that end with id 9 are damaged: their bytes do not match their check/],
  ],
  [
    "UPDATE sendq.run SET ends[2] = ends[2] + 1 WHERE last_id = 9",
    [/^packets: the packets that end with id 9 are damaged: their bytes do not match/],
  ],
  [
    "UPDATE sendq.run SET ends[2] = ends[1] WHERE last_id = 9",
    [/^packets: .* id 9 are damaged: its packets do not end one behind the other/],
  ],
  [
    "UPDATE sendq.run SET payload = payload || 'x' WHERE last_id = 9",
    [/id 9 are damaged: its packets end at byte 300, its payload at 301$/, /^counts: .* bytes of/],
  ],
  [
    "DELETE FROM sendq.run WHERE last_id = 9",
    [
      /^counts: the queue counts 7 packets, there are 4$/,
      /^counts: the queue counts 700 bytes of packets, there are 400$/,
    ],
  ],
  [
    "UPDATE sendq.run SET last_id = 4, first_id = 2 WHERE last_id = 9",
    [/ends? with id 4/, /^packets: ids 2 to 3 are there twice$/, /ids 4 to 4 are there twice/],
  ],
  ["UPDATE sendq.run SET enqueued_at_ms = -1 WHERE last_id = 9", [/^packets: ids 7 to 9 have no/]],
  ["UPDATE sendq.run SET expires_at_ms = -5 WHERE last_id = 9", [/id 9 expire at -5$/]],
  [
    "UPDATE sendq.queue SET packets = packets - 1",
    [/^counts: the queue counts 6 packets, there are 7$/],
  ],
  [
    "UPDATE sendq.queue SET dead_packets = 3, dead_bytes = 7",
    [/counts 3 dead letters, there are 1$/, /counts 7 bytes of dead letters, there are 100$/],
  ],
  ["UPDATE sendq.queue SET gave_up_packets = 0", [/^counts: there are 1 dead .* ever were 0$/]],
  [
    "UPDATE sendq.dead_letter SET payload = set_byte(payload, 0, 0)",
    [/^dead-letters: dead letter 6 is damaged: its bytes do not match their checksum$/],
  ],
  ["UPDATE sendq.dead_letter SET reason = 'bored'", [/^dead-letters: dead letter 6 is damaged$/]],
  [
    "UPDATE sendq.dead_letter SET id = 5, checksum = sendq.checksum_of(5, NULL, payload)",
    [/^dead-letters: id 5 is in the queue and a dead letter$/],
  ],
  [
    "UPDATE sendq.dead_letter SET id = 50, checksum = sendq.checksum_of(50, NULL, payload)",
    [/^counts: there is dead letter 50, and the highest id is 9$/],
  ],
];

Deno.test({
  ...unless(NO_POSTGRES, "inspector of a queue on PostgreSQL"),
  async fn(t) {
    await using server = await PostgresServer.start();
    for (const [i, [name, run]] of alike.entries()) {
      await t.step(name, async () => {
        const url = await server.makeQueue(`alike ${i}`);
        const clock = new ManualClock();
        await server.setClock(clock.wallMs());
        await run({
          clock,
          async pass(ms) {
            await server.setClock(clock.wallMs() + ms);
            clock.advance(ms);
          },
          open: () => postgresQueue({ url, clock, durability: "power-loss" }),
          look: () => postgresInspector({ url, clock }),
        });
      });
    }

    await t.step("check: each thing that can be wrong is named", async () => {
      await server.sql("CREATE DATABASE damaged");
      const { setUp } = await import("../../src/postgres/setup.ts");
      for (const [i, [sql, problems]] of DAMAGES.entries()) {
        const url = server.url(`q${i}`, "damaged");
        await setUp(url);
        await fill(url);
        await server.damage(sql, "damaged");
        const found = await problemsOf(url);
        assert.equal(found.length, problems.length, `${sql}: ${found.join("; ")}`);
        for (const [at, words] of problems.entries()) assert.match(found[at] ?? "", words, sql);
        await server.sql("DROP SCHEMA sendq CASCADE", "damaged");
      }
    });

    await t.step("what a damaged row holds is not given out as what was stored", async () => {
      const url = await server.makeQueue("flipped");
      await fill(url);
      const id = "(SELECT id FROM sendq.queue WHERE name = 'flipped')";
      await server.damage(`UPDATE sendq.run SET payload = set_byte(payload, 5, 0)
        WHERE queue = ${id} AND last_id = 5`);
      await server.damage(`UPDATE sendq.dead_letter SET payload = set_byte(payload, 5, 0)
        WHERE queue = ${id}`);
      using inspector = await postgresInspector({ url });
      const ids: number[] = [];
      await assert.rejects(async () => {
        for await (const packet of inspector.packets({ payloadBytes: Infinity })) {
          ids.push(packet.id);
        }
      }, isCorrupt(/the packets that end with id 5 are damaged: .* checksum\..*Fail over/));
      assert.deepEqual(ids, [2, 3]);
      // Where its bytes are not asked for, it can be counted and passed over.
      assert.equal((await Array.fromAsync(inspector.packets())).length, 7);
      const [letter] = await Array.fromAsync(inspector.deadLetters({ payloadBytes: 1 }));
      assert.deepEqual([letter?.id, letter?.reason], [6, "damaged"]);
    });
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "inspector: a page of the database that cannot be read"),
  async fn() {
    await using server = await PostgresServer.start();
    const url = await server.makeQueue("outbox");
    {
      await using queue = await postgresQueue({ url, durability: "power-loss" });
      // Each in a row of its own, several rows a page.
      for (let i = 0; i < 40; i++) await queue.enqueue(new Uint8Array(1000).fill(i));
    }
    const where = await server.sql(
      "CHECKPOINT; SELECT pg_relation_filepath('sendq.run'), " +
        "(SELECT min(last_id) FROM sendq.run WHERE ctid >= '(3,0)')",
    );
    const [path = "", first = ""] = where.split("\n").at(-1)?.split("|") ?? [];
    await server.down("fast");
    {
      using file = Deno.openSync(`${server.directory}/${path}`, { write: true });
      file.seekSync(3 * 8192 + 4000, Deno.SeekMode.Start);
      file.writeSync(new Uint8Array(100).fill(0xa5));
    }
    await server.up();
    const found = await problemsOf(url);
    assert(found.length > 0);
    for (const problem of found) assert.match(problem, /^pages: .*cannot be read: invalid page/);
    using inspector = await postgresInspector({ url });
    const ids: number[] = [];
    await assert.rejects(async () => {
      for await (const { id } of inspector.packets({ payloadBytes: Infinity })) ids.push(id);
    }, isCorrupt(/invalid page in block 3/));
    // All that comes before it.
    assert.deepEqual(ids, Array.from({ length: Number(first) - 1 }, (_, i) => i + 1));
    assert(ids.length > 0);
  },
});
