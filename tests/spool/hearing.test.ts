/** How the queues of a spool hear of packets: those of this process, and those of others. */
import assert from "node:assert/strict";
import { inotify } from "../../src/kernel/inotify.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import type { SqliteDriver } from "../../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { spoolQueue } from "../../src/spool/spool.ts";
import { settle } from "../queue/helpers.ts";
import { tenureOf } from "../queue/threads.ts";
import { text } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { within } from "../support/until.ts";
import { child, NO_TIMERS, openAll } from "./helpers.ts";

/** node:sqlite that notes the numbers of the queues whose counts are read. */
class WatchedDriver implements SqliteDriver {
  readonly name = nodeSqlite.name;
  readonly read: number[] = [];

  open(path: string, options: { readOnly: boolean; busyTimeoutMs: number }) {
    const database = nodeSqlite.open(path, options);
    return {
      close: () => database.close(),
      prepare: (sql: string) => {
        const statement = database.prepare(sql);
        if (!sql.includes("LEFT JOIN packets AS newer")) return statement;
        return {
          run: statement.run.bind(statement),
          all: (params: Parameters<typeof statement.all>[0]) => {
            this.read.push(Number(params[3]));
            return statement.all(params);
          },
        };
      },
    };
  }
}

for (const syncIn of ["loop", "threads"] as const) {
  Deno.test(`a queue that is open twice: a sender on the one hears of the other's packets at once (syncIn ${syncIn})`, async () => {
    using dir = new TempDir();
    const options = { syncIn, clock: NO_TIMERS };
    await using queues = await openAll(dir.queue, ["a", "a", "b"], options);
    const [one, other, b] = queues.all;
    const sending = sendingSideOf(one);
    await using tenure = await tenureOf(one, NO_TIMERS);
    const bell = sending.answerDoorbell(tenure);
    let told = Promise.withResolvers<void>();
    let rings = 0;
    sending.subscribe(() => {
      rings++;
      told.resolve();
    });
    for (let round = 1; round <= 3; round++) {
      told = Promise.withResolvers();
      assert.equal(await other.enqueue(`${round}`), round);
      await within("the sender hears of it", told.promise);
      assert.equal(one.lastId, round);
      const batches = await sending.readBatches(round - 1, 1000);
      assert.deepEqual(batches.map(({ bytes }) => text(bytes)), [`${round}`]);
    }
    const before = rings;
    await b.enqueue("b1");
    await settle();
    assert.equal(rings, before, "the other queue is none of its business");
    // And the other way round: what the sender removes is gone there, too.
    await sending.removeThrough(2);
    await sendingSideOf(other).pollOtherProcesses();
    assert.deepEqual([other.stats().packets, other.removedThroughId], [1, 2]);
    await one.enqueue("4");
    await sendingSideOf(other).pollOtherProcesses();
    assert.equal(other.lastId, 4);
    await bell.stop();
  });
}

for (const [how, watch] of [["the kernel", inotify], ["the runtime", () => undefined]] as const) {
  Deno.test(`of three senders of a process the one reads whose queue another process stores into; told by ${how}`, async () => {
    using dir = new TempDir();
    const driver = new WatchedDriver();
    const names = ["a", "b", "c"] as const;
    await using queues = await openAll(dir.queue, names, { driver, clock: NO_TIMERS });
    await using stack = new AsyncDisposableStack();
    const heard: string[] = [];
    const told = Promise.withResolvers<void>();
    for (const [i, queue] of queues.all.entries()) {
      const tenure = stack.use(await tenureOf(queue, NO_TIMERS));
      const sending = sendingSideOf(queue);
      const bell = sending.answerDoorbell(tenure, watch());
      assert.equal(bell.mode, "watch", bell.pollReason);
      stack.defer(() => bell.stop());
      sending.subscribe(() => {
        heard.push(names[i] ?? "");
        if (queue.lastId === 20) told.resolve();
      });
    }
    await settle();
    driver.read.length = 0;
    // No timer goes off here: it is the ring that is heard, or nothing.
    const storer = child("storer.ts", dir.queue, "x", "20", "loop", "b");
    await storer.stdin.close();
    await within("the sender hears of them", told.promise);
    assert((await storer.output()).success);
    await settle();
    assert.deepEqual([...new Set(heard)], ["b"]);
    assert.deepEqual([...new Set(driver.read)], [2]);
    assert.deepEqual(queues.all.map(({ lastId }) => lastId), [0, 20, 0]);
  });
}

Deno.test("a process that may not ring is heard within the second", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queues = await openAll(dir.queue, ["a", "b"], { clock });
  const [a, b] = queues.all;
  await using tenure = await tenureOf(b, clock);
  // Nobody tells of rings.
  const bell = sendingSideOf(b).answerDoorbell(tenure, {
    touches: () => () => Promise.resolve(),
    nextWrite: () => () => Promise.resolve(),
  });
  const storer = child("storer.ts", dir.queue, "x", "3", "loop", "b");
  await storer.stdin.close();
  assert((await storer.output()).success);
  assert.equal(b.lastId, 0);
  clock.advance(1000);
  await settle();
  assert.deepEqual([a.lastId, b.lastId], [0, 3]);
  await bell.stop();
  assert.equal(clock.timers.size, 0);
});

Deno.test("what was stored between a sender's look and its listening is heard", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queues = await openAll(dir.queue, ["a", "b"], { clock });
  const [a, b] = queues.all;
  const silent = {
    touches: () => () => Promise.resolve(),
    nextWrite: () => () => Promise.resolve(),
  };
  await using tenureOfA = await tenureOf(a, clock);
  const bellOfA = sendingSideOf(a).answerDoorbell(tenureOfA, silent);
  await using tenure = await tenureOf(b, clock);
  const storer = child("storer.ts", dir.queue, "x", "3", "loop", "b");
  await storer.stdin.close();
  assert((await storer.output()).success);
  // The other queue's sender is told, and there is nothing for it.
  clock.advance(1000);
  await settle();
  assert.equal(b.lastId, 0);
  const bell = sendingSideOf(b).answerDoorbell(tenure, silent);
  clock.advance(1000);
  await settle();
  assert.equal(b.lastId, 3);
  await bell.stop();
  await bellOfA.stop();
});

Deno.test("a sender learns of dead letters that another process removes", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await spoolQueue(dir.queue, "a", { clock });
  await queue.enqueueMany(["1", "2"]);
  await using tenure = await tenureOf(queue, clock);
  await sendingSideOf(queue).giveUp(1, 1);
  const bell = sendingSideOf(queue).answerDoorbell(tenure);
  assert.equal(queue.stats().deadPackets, 1);
  const remover = child("remover.ts", dir.queue, "a");
  await remover.stdin.close();
  assert((await remover.output()).success);
  clock.advance(1000);
  await settle();
  assert.equal(queue.stats().deadPackets, 0);
  await bell.stop();
});
