/** Each queue has a window of the file's ids: what one does touches nothing of its neighbours. */
import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import { lastIdOf } from "../../src/base/packet_batch.ts";
import type { QueueOptions } from "../../src/queue/options.ts";
import { type OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { lastIdIn } from "../../src/queue/store/id_window.ts";
import { windowOf } from "../../src/spool/queue_names.ts";
import { spooledQueues, spoolInspector, spoolQueue } from "../../src/spool/spool.ts";
import { settle } from "../queue/helpers.ts";
import { text } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { openAll, rows, sql } from "./helpers.ts";

/** The highest id that a queue of a spool can give. */
const END = lastIdIn(windowOf(2));
const MAX = Number.MAX_SAFE_INTEGER;
const ALL = { firstId: 0, lastId: MAX };
/** Below each of them, the last one of the window before. */
const NAMES = ["below", "tested", "above"] as const;
const TTL_MS = 60_000;

/**
 * A spool whose three queues have packets and dead letters at both ends of their windows: ids 1 to
 * 4 and the last four that there are, of which the first and the last are dead letters.
 *
 * @param free How many ids the tested one has left.
 */
async function fill(file: string, clock: ManualClock, free = 0): Promise<void> {
  for (const [i, name] of NAMES.entries()) {
    const left = name === "tested" ? free : 0;
    {
      await using queue = await spoolQueue(file, name, { clock });
      for (let n = 1; n <= 4; n++) await queue.enqueue(`${name} ${n}`, { ttlMs: TTL_MS });
      await sendingSideOf(queue).giveUp(1, 1);
    }
    // As if all those in between had come and gone.
    sql(file, `UPDATE state SET last_id = ${END - 4 - left} WHERE queue = ${i + 1}`);
    await using queue = await spoolQueue(file, name, { clock });
    for (let n = 1; n <= 4; n++) {
      const id = await queue.enqueue(`${name} ${END - left - 4 + n}`, { ttlMs: TTL_MS });
      assert.equal(id, END - left - 4 + n);
    }
    await sendingSideOf(queue).giveUp(END - left, 1);
  }
}

/** All that the file has of the neighbours. */
function neighboursIn(file: string): unknown[] {
  const others = [1, 3];
  const isTheirs = (key: string) =>
    others.map((queue) => `${key} BETWEEN ${windowOf(queue).baseId} AND ${windowOf(queue).endId}`)
      .join(" OR ");
  return [
    rows(file, `SELECT * FROM state WHERE queue IN (1, 3)`),
    rows(file, `SELECT *, hex(payload) FROM packets WHERE ${isTheirs("last_id")} OR queue <> 2`),
    rows(file, `SELECT * FROM expiry WHERE ${isTheirs("last_id")}`),
    rows(file, `SELECT *, hex(payload) FROM dead_letters WHERE ${isTheirs("id")} OR queue <> 2`),
  ];
}

interface Deed {
  readonly name: string;
  readonly free?: number;
  readonly options?: QueueOptions;
  /** Does it. Returns what should be in the queue and among the dead letters. */
  readonly run: (queue: OutboundQueue, clock: ManualClock) => Promise<[number[], number[]]>;
}

const PACKETS = [2, 3, 4, END - 3, END - 2, END - 1];
const LETTERS = [1, END];

async function idsIn(queue: OutboundQueue): Promise<[number[], number[]]> {
  return [
    (await queue.read(0, 1e9)).map(({ id }) => id),
    (await queue.deadLetters(0, 1e9)).map(({ id }) => id),
  ];
}

const DEEDS: readonly Deed[] = [
  {
    name: "all packets and dead letters are read",
    async run(queue) {
      const packets = await queue.read(0, 1e9);
      assert.deepEqual(
        packets.map(({ payload }) => text(payload)),
        PACKETS.map((id) => `tested ${id}`),
      );
      const batches = await sendingSideOf(queue).readBatches(0, 1e9);
      assert.equal(batches.length, PACKETS.length);
      for (const after of [END - 1, END, MAX]) assert.deepEqual(await queue.read(after, 1e9), []);
      for (const after of [END, MAX]) assert.deepEqual(await queue.deadLetters(after, 1e9), []);
      return [PACKETS, LETTERS];
    },
  },
  {
    name: "all packets are removed",
    async run(queue) {
      assert.equal((await queue.removePackets(ALL)).packets, 6);
      return [[], LETTERS];
    },
  },
  {
    name: "all packets are removed by the sender",
    async run(queue) {
      await sendingSideOf(queue).removeThrough(MAX);
      assert.equal(queue.removedThroughId, END);
      return [[], LETTERS];
    },
  },
  {
    name: "those at the ends are removed",
    async run(queue) {
      assert.equal((await queue.removePackets({ firstId: 0, lastId: 2 })).packets, 1);
      assert.equal((await queue.removePackets({ firstId: END - 1, lastId: MAX })).packets, 1);
      return [PACKETS.slice(1, -1), LETTERS];
    },
  },
  {
    name: "what is beyond all ids is removed",
    async run(queue) {
      const nothing = { packets: 0, bytes: 0 };
      for (const firstId of [END + 1, END + 2, 2 * END, MAX - 1, MAX]) {
        const range = { firstId, lastId: MAX };
        assert.deepEqual(await queue.removePackets(range), nothing);
        assert.deepEqual(await queue.removeDeadLetters(range), nothing);
        assert.equal((await queue.requeue(range)).packets, 0);
        await sendingSideOf(queue).giveUp(firstId, 1);
      }
      return [PACKETS, LETTERS];
    },
  },
  {
    name: "all dead letters are removed",
    async run(queue) {
      assert.equal((await queue.removeDeadLetters(ALL)).packets, 2);
      return [PACKETS, []];
    },
  },
  {
    name: "all dead letters are put back",
    free: 10,
    async run(queue) {
      const last = END - 10;
      assert.deepEqual((await queue.requeue(ALL)).ids, { firstId: last + 1, lastId: last + 2 });
      return [[2, 3, 4, last - 3, last - 2, last - 1, last + 1, last + 2], []];
    },
  },
  {
    name: "all packets are given up",
    async run(queue) {
      for (const id of PACKETS) await sendingSideOf(queue).giveUp(id, 1);
      return [[], [1, 2, 3, 4, END - 3, END - 2, END - 1, END]];
    },
  },
  {
    name: "the oldest packets make room",
    free: 1,
    options: { overflow: "drop-oldest", maxPackets: 1 },
    async run(queue) {
      assert.equal(await queue.enqueue("tested"), END);
      return [[END], [1, END - 1]];
    },
  },
  {
    name: "the oldest dead letters make room",
    options: { maxDeadPackets: 1 },
    async run(queue) {
      await sendingSideOf(queue).giveUp(END - 1, 1);
      return [PACKETS.slice(0, -1), [END]];
    },
  },
  {
    name: "what has expired dies",
    async run(queue, clock) {
      clock.advance(TTL_MS);
      const end = sendingSideOf(queue).sweepExpired();
      for (let i = 0; i < 5; i++) {
        await queue.deadLetters(0, 1);
        await settle();
      }
      end();
      return [[], [1, 2, 3, 4, END - 3, END - 2, END - 1, END]];
    },
  },
  {
    name: "a damaged row is set aside, and all is counted anew",
    async run(queue) {
      sql(
        queue.path.slice("spool:".length, queue.path.indexOf("#")),
        [
          "UPDATE packets SET payload = x'00' WHERE last_id IN (",
          [3, END - 2].map((id) => Number(windowOf(2).baseId) + id).join(),
          ")",
        ].join(""),
      );
      for (let after = 0;;) {
        const last = (await sendingSideOf(queue).readBatches(after, 1e9)).at(-1);
        if (last === undefined) break;
        after = lastIdOf(last);
      }
      return [[2, 4, END - 3, END - 1], [1, 3, END - 2, END]];
    },
  },
];

for (const { name, free, options, run } of DEEDS) {
  Deno.test(`${name}, and the queues beside it keep what they have`, async () => {
    using dir = new TempDir();
    const clock = new ManualClock();
    await fill(dir.queue, clock, free);
    const before = neighboursIn(dir.queue);
    {
      await using queue = await spoolQueue(dir.queue, "tested", { clock, ...options });
      const expected = await run(queue, clock);
      assert.deepEqual(await idsIn(queue), expected);
      const { packets, deadPackets } = queue.stats();
      assert.deepEqual([packets, deadPackets], expected.map(({ length }) => length));
    }
    assert.deepEqual(neighboursIn(dir.queue), before);
    for (const name of NAMES) {
      using inspector = await spoolInspector(dir.queue, name);
      assert.deepEqual(await inspector.check(), [], name);
    }
  });
}

Deno.test("whoever looks sees the one queue that was named, to both ends of its window", async () => {
  using dir = new TempDir();
  await fill(dir.queue, new ManualClock());
  for (const name of NAMES) {
    using inspector = await spoolInspector(dir.queue, name);
    assert.equal(inspector.path, `spool:${dir.queue}#${name}`);
    const packets = await Array.fromAsync(inspector.packets({ payloadBytes: Infinity }));
    assert.deepEqual(packets.map(({ id }) => id), PACKETS);
    assert.equal(text(packets[0]?.payload ?? assert.fail()), `${name} 2`);
    const letters = await Array.fromAsync(inspector.deadLetters({ payloadBytes: Infinity }));
    assert.deepEqual(letters.map(({ id }) => id), LETTERS);
    assert.equal((await inspector.packet(END - 1))?.id, END - 1);
    assert.equal(await inspector.packet(END + 2), undefined);
    assert.deepEqual(await Array.fromAsync(inspector.packets({ fromId: END, toId: MAX })), []);
    assert.deepEqual(await inspector.check(), []);
  }
  assert.deepEqual(
    (await spooledQueues(dir.queue)).map(({ name, packets, deadPackets, lastId }) => (
      { name, packets, deadPackets, lastId }
    )),
    ["above", "below", "tested"].map((name) => ({ name, packets: 6, deadPackets: 2, lastId: END })),
  );
});

Deno.test("a queue that has given all its ids says so, and the others go on", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await fill(dir.queue, clock, 2);
  const before = neighboursIn(dir.queue);
  {
    await using queues = await openAll(dir.queue, ["tested", "fresh"], { clock });
    const [tested, fresh] = queues.all;
    const isUsedUp = (error: unknown) =>
      error instanceof QueueFileError && error.path === tested.path &&
      /has given all ids/.test(error.message);
    // All of it or nothing.
    await assert.rejects(tested.enqueueMany(["1", "2", "3"]), isUsedUp);
    assert.deepEqual(await tested.enqueueMany(["1", "2"]), { firstId: END - 1, lastId: END });
    const ends = await Promise.allSettled([tested.enqueue("3"), fresh.enqueue("1")]);
    assert(ends[0].status === "rejected" && isUsedUp(ends[0].reason));
    assert.deepEqual(ends[1], { status: "fulfilled", value: 1 });
    await assert.rejects(tested.requeue(ALL), isUsedUp);
    assert.equal((await tested.deadLetters(0, 1e9)).length, 2);
    // What is in it can still be delivered.
    await sendingSideOf(tested).removeThrough(END);
    assert.equal(tested.stats().packets, 0);
  }
  assert.deepEqual(neighboursIn(dir.queue).slice(2), before.slice(2));
  using inspector = await spoolInspector(dir.queue, "tested");
  assert.deepEqual(await inspector.check(), []);
});
