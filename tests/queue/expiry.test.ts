import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { SqliteStore } from "../../src/queue/store/sqlite_store.ts";
import { bytes } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FaultDriver, settle } from "./helpers.ts";

const FULL = 13;

function packets(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => bytes(`${i}`));
}

async function handedOut(queue: OutboundQueue, afterId: number, maxBytes = 1e6): Promise<number[]> {
  const ids: number[] = [];
  for (const { firstId, ends } of await sendingSideOf(queue).readBatches(afterId, maxBytes)) {
    for (let i = 0; i < ends.length; i++) ids.push(firstId + i);
  }
  return ids;
}

async function deadIds(queue: OutboundQueue): Promise<number[]> {
  return (await queue.deadLetters(0, Infinity)).map(({ id }) => id);
}

/** Lets time pass, and what it sets off happen. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  clock.advance(ms);
  await settle();
}

Deno.test("ttlMs: an integer from 1 or Infinity, for the queue and for each call", async () => {
  using dir = new TempDir();
  for (const ttlMs of [0, -1, 1.5, NaN, -Infinity, 2 ** 53]) {
    await assert.rejects(OutboundQueue.open(dir.queue, { ttlMs }), RangeError);
    await using queue = await OutboundQueue.open(dir.queue);
    await assert.rejects(queue.enqueue(bytes("x"), { ttlMs }), RangeError);
    await assert.rejects(queue.enqueueMany([bytes("x")], { ttlMs }), RangeError);
    assert.equal(queue.stats().packets, 0);
  }
});

for (const source of ["memory", "the file", "the file, reopened"]) {
  Deno.test(`each packet expires when it should, read from ${source}`, async () => {
    using dir = new TempDir();
    const clock = new ManualClock();
    let queue = await OutboundQueue.open(dir.queue, { clock, ttlMs: 100 });
    if (source === "memory") sendingSideOf(queue).subscribe(() => {});
    await queue.enqueueMany(packets(2)); // 1, 2: at 100
    await queue.enqueue(bytes("x"), { ttlMs: 50 }); // 3
    await queue.enqueue(bytes("x"), { ttlMs: Infinity }); // 4
    clock.wall += 10;
    await Promise.all([queue.enqueue(bytes("y")), queue.enqueue(bytes("z"), { ttlMs: 1 })]); // 5: 110, 6: 11
    if (source === "the file, reopened") {
      await queue.close();
      queue = await OutboundQueue.open(dir.queue, { clock });
    }
    assert.deepEqual(await handedOut(queue, 0), [1, 2, 3, 4, 5, 6]);
    const batches = await sendingSideOf(queue).readBatches(0, 1e6);
    const expiries = batches.map(({ expiresAtMs }) => expiresAtMs - clock.wallMs());
    assert.deepEqual(expiries, [90, 40, Infinity, 100, 1]);

    clock.wall += 1; // 6 is over, but not next.
    assert.deepEqual(await handedOut(queue, 0), [1, 2, 3, 4, 5]);
    assert.deepEqual(await deadIds(queue), []);
    assert.deepEqual(await handedOut(queue, 5), []);
    assert.deepEqual(await deadIds(queue), [6]);
    clock.wall += 39; // 3 as well.
    assert.deepEqual(await handedOut(queue, 0), [1, 2]);
    assert.deepEqual(await handedOut(queue, 2), [4, 5]);
    assert.deepEqual(await deadIds(queue), [3, 6]);
    clock.wall += 49;
    assert.deepEqual(await handedOut(queue, 1), [2, 4, 5], "one millisecond is left");
    clock.wall += 1;
    assert.deepEqual(await handedOut(queue, 1), [4, 5], "1 was in flight and stays");
    assert.deepEqual(await deadIds(queue), [2, 3, 6]);
    assert.deepEqual(await handedOut(queue, 0), [4, 5], "not any more");
    assert.deepEqual(await deadIds(queue), [1, 2, 3, 6]);
    const stats = queue.stats();
    assert.deepEqual([stats.packets, stats.deadPackets, stats.expiredPackets], [2, 4, 4]);
    assert.equal(queue.removedThroughId, 3);
    await queue.close();
  });
}

Deno.test("a look at the queue moves nothing", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock, ttlMs: 1 });
  await queue.enqueueMany(packets(3));
  clock.wall += 10;
  assert.equal((await queue.read(0, 100)).length, 3);
  assert.equal(queue.stats().packets, 3);
  assert.equal(clock.timers.size, 0, "without a sender there is no sweep");
});

Deno.test("many expired packets before a live one: moved in bounded transactions, tiny reads or not", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { clock, driver });
  for (let i = 0; i < 6; i++) {
    // Some that do not expire lie between those that do.
    await queue.enqueueMany(Array.from({ length: 1000 }, () => new Uint8Array(1000)), { ttlMs: 5 });
    if (i > 2) await queue.enqueue(bytes("live"));
  }
  clock.wall += 5;
  driver.log.length = 0;
  assert.deepEqual(await handedOut(queue, 0, 1), [4001]);
  const commits = driver.log.filter((word) => word === "COMMIT").length;
  assert(commits >= 8 && commits <= 12, `${commits} transactions for 4 MB`);
  assert.deepEqual(await handedOut(queue, 4001, 1), [5002]);
  assert.deepEqual(await handedOut(queue, 5002, 1), [6003]);
  assert.deepEqual(await handedOut(queue, 6003, 1), []);
  assert.equal(queue.stats().expiredPackets, 6000);
});

Deno.test("what has expired and cannot be moved is not given out", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { clock, driver, ttlMs: 1 });
  await queue.enqueue(bytes("late"));
  await queue.enqueue(bytes("live"), { ttlMs: Infinity });
  clock.wall += 1;
  driver.failNext("COMMIT", FULL);
  await assert.rejects(sendingSideOf(queue).readBatches(0, 100), { reason: "disk-full" });
  assert.deepEqual(await deadIds(queue), []);
  assert.deepEqual(await handedOut(queue, 0), [2]);
});

Deno.test("a sweep moves what expires soon after it does, and sleeps until the next", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  const end = sendingSideOf(queue).sweepExpired();
  await queue.enqueue(bytes("never"));
  await pass(clock, 1000);
  assert.equal(clock.timers.size, 0, "nothing expires: no timer");
  await queue.enqueue(bytes("at 5000"), { ttlMs: 5000 });
  await queue.enqueue(bytes("at 3000"), { ttlMs: 3000 });
  await pass(clock, 1000);
  assert.equal(clock.nextInMs, 2000);
  await pass(clock, 1999);
  assert.deepEqual(await deadIds(queue), []);
  await pass(clock, 1);
  assert.deepEqual(await deadIds(queue), [3]);
  // Not more often than once a second, however soon the next one is over.
  await queue.enqueue(bytes("at 3001"), { ttlMs: 1 });
  await pass(clock, 999);
  assert.deepEqual(await deadIds(queue), [3]);
  await pass(clock, 1);
  assert.deepEqual(await deadIds(queue), [3, 4]);
  await pass(clock, 1000);
  assert.deepEqual(await deadIds(queue), [2, 3, 4]);
  // By then the file was looked at, too, whether it has become much smaller.
  await pass(clock, 6000);
  assert.equal(clock.timers.size, 0, "nothing is left that expires");
  await queue.enqueue(bytes("later"), { ttlMs: 100_000 });
  await pass(clock, 1000);
  assert.equal(clock.nextInMs, 59_000, "the wall clock may be set meanwhile");
  end();
  end();
  assert.equal(clock.timers.size, 0);
  await queue.enqueue(bytes("soon"), { ttlMs: 1 });
  await pass(clock, 1000);
  assert.equal(clock.timers.size, 0, "nobody sweeps");
  assert.equal(queue.stats().packets, 3);
});

Deno.test("a sweep starts with what has expired before; a clock that is set changes nothing", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  await queue.enqueueMany(packets(3), { ttlMs: 10 });
  await queue.enqueueMany(packets(2), { ttlMs: 100_000 });
  clock.advance(10);
  const heard: unknown[] = [];
  queue.subscribeDead((dead) => heard.push(dead));
  using _sweeping = { [Symbol.dispose]: sendingSideOf(queue).sweepExpired() };
  await settle();
  assert.deepEqual(heard, [
    { packets: 3, bytes: 3, reason: "expired", ids: { firstId: 1, lastId: 3 } },
  ]);
  clock.wall += 2e9;
  await pass(clock, 60_000);
  assert.deepEqual(await deadIds(queue), [1, 2, 3]);
  clock.wall -= 3e9;
  await pass(clock, 39_989);
  assert.deepEqual(await deadIds(queue), [1, 2, 3]);
  await pass(clock, 1001);
  assert.deepEqual(await deadIds(queue), [1, 2, 3, 4, 5]);
});

Deno.test("what has expired is told by ascending ids, and nothing of a row that has lost its ids", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const queue = await OutboundQueue.open(dir.queue, { clock });
  for (const ttlMs of [30, 20, 10, Infinity, 40]) await queue.enqueue("x", { ttlMs });
  await queue.close();
  const due = (): readonly unknown[] => {
    const store = SqliteStore.open(dir.queue, { driver: nodeSqlite, durability: "process-crash" });
    try {
      return store.due(0, clock.wallMs() + 100, "by-time").ranges;
    } finally {
      store.close();
    }
  };
  assert.deepEqual(due(), [{ firstId: 1, lastId: 3 }, { firstId: 5, lastId: 5 }]);
  // A sweep that were given an empty range would bury it again and again.
  const database = new DatabaseSync(dir.queue);
  database.exec("UPDATE packets SET ends = x'' WHERE last_id = 5");
  database.close();
  assert.deepEqual(due(), [{ firstId: 1, lastId: 3 }]);
});

Deno.test("a sweep leaves what was given out, until it is asked for again", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock, ttlMs: 2000 });
  using _sweeping = { [Symbol.dispose]: sendingSideOf(queue).sweepExpired() };
  await queue.enqueueMany(packets(10));
  assert.deepEqual(await handedOut(queue, 0, 4), [1, 2, 3, 4]);
  await pass(clock, 2000);
  assert.deepEqual(await deadIds(queue), [5, 6, 7, 8, 9, 10], "the batch was cut");
  assert.equal(queue.stats().packets, 4);
  await pass(clock, 60_000);
  assert.equal(queue.stats().packets, 4, "still in flight");
  await sendingSideOf(queue).removeThrough(2);
  // The connection is gone: what follows 2 is asked for anew.
  assert.deepEqual(await handedOut(queue, 2), []);
  assert.deepEqual(await deadIds(queue), [3, 4, 5, 6, 7, 8, 9, 10]);
  assert.deepEqual([queue.stats().packets, queue.removedThroughId], [0, 10]);
});

Deno.test("after a rewind the sweep also takes what was given out before and is not again", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock, ttlMs: 5000 });
  using _sweeping = { [Symbol.dispose]: sendingSideOf(queue).sweepExpired() };
  await queue.enqueueMany(packets(10));
  await queue.enqueue(bytes("x"), { ttlMs: 1000 });
  assert.equal((await handedOut(queue, 0, 10)).length, 10);
  await pass(clock, 1000);
  assert.deepEqual(await deadIds(queue), [11]);
  await pass(clock, 1000);
  assert.equal(clock.timers.size, 0, "what is in flight does not expire");
  assert.deepEqual(await handedOut(queue, 0, 3), [1, 2, 3]);
  await pass(clock, 2999);
  assert.deepEqual(await deadIds(queue), [11]);
  await pass(clock, 1000);
  assert.deepEqual(await deadIds(queue), [4, 5, 6, 7, 8, 9, 10, 11]);
});

Deno.test("a sweep that fails is tried again, and tells nobody", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { clock, driver });
  using _sweeping = { [Symbol.dispose]: sendingSideOf(queue).sweepExpired() };
  await queue.enqueue(bytes("x"), { ttlMs: 1000 });
  await settle();
  driver.failNext("COMMIT", FULL);
  await pass(clock, 1000);
  assert.deepEqual(await deadIds(queue), []);
  await pass(clock, 9999);
  assert.deepEqual(await deadIds(queue), []);
  await pass(clock, 1);
  assert.deepEqual(await deadIds(queue), [1]);
});

Deno.test("other processes' packets expire too", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  using _sweeping = { [Symbol.dispose]: sendingSideOf(queue).sweepExpired() };
  await settle();
  await using other = await OutboundQueue.open(dir.queue, { clock, ttlMs: 3000 });
  await other.enqueueMany(packets(3));
  await pass(clock, 1000);
  await sendingSideOf(queue).pollOtherProcesses();
  await pass(clock, 0);
  await pass(clock, 1999);
  assert.deepEqual(await deadIds(queue), []);
  await pass(clock, 1);
  assert.deepEqual(await deadIds(queue), [1, 2, 3]);
  assert.equal(other.stats().packets, 3);
  await sendingSideOf(other).pollOtherProcesses();
  assert.deepEqual([other.stats().packets, other.stats().expiredPackets], [0, 3]);
});

Deno.test("a read that comes while a sweep moves packets waits for it, even if the clock is set back", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  sendingSideOf(queue).subscribe(() => {});
  using _sweeping = { [Symbol.dispose]: sendingSideOf(queue).sweepExpired() };
  await settle();
  await queue.enqueueMany(packets(3), { ttlMs: 1000 });
  clock.advance(1000); // The sweep has begun.
  await Promise.resolve();
  clock.wall -= 1000;
  const reading = handedOut(queue, 0);
  assert.deepEqual(await reading, []);
  assert.deepEqual(await deadIds(queue), [1, 2, 3]);
});

Deno.test("close ends a sweep and a read under way", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const queue = await OutboundQueue.open(dir.queue, { clock, ttlMs: 1000 });
  sendingSideOf(queue).sweepExpired();
  await queue.enqueueMany(packets(5000));
  clock.advance(1000);
  const reading = sendingSideOf(queue).readBatches(0, 1).catch((error: Error) => error.name);
  await queue.close();
  const outcome = await reading;
  assert(outcome === "ClosedError" || Array.isArray(outcome), String(outcome));
  await settle();
  assert.equal(clock.timers.size, 0);
  await using again = await OutboundQueue.open(dir.queue, { clock });
  const { packets: left, deadPackets } = again.stats();
  assert.equal(left + deadPackets, 5000);
});
