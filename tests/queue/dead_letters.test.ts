import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import fc from "../support/properties.ts";
import { systemClock } from "../../src/base/clock.ts";
import { ClosedError, QueueFileError, QueueFullError } from "../../src/base/errors.ts";
import type { DeadPackets } from "../../src/queue/options.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { bytes, text } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FaultDriver } from "./helpers.ts";

const BUSY = 5, FULL = 13;
const ALL = { firstId: 0, lastId: Number.MAX_SAFE_INTEGER };

/** `count` packets whose texts are their ids. */
function numbered(count: number, from = 1): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => bytes(String(from + i)));
}

/** Every packet in the file, as `id=text`. */
async function contents(queue: OutboundQueue): Promise<string[]> {
  const found: string[] = [];
  for (let after = 0;;) {
    const packets = await queue.read(after, 50);
    if (packets.length === 0) return found;
    found.push(...packets.map(({ id, payload }) => `${id}=${text(payload)}`));
    after = packets.at(-1)?.id ?? Infinity;
  }
}

async function dead(queue: OutboundQueue): Promise<string[]> {
  const letters = await queue.deadLetters(0, Infinity);
  return letters.map(({ id, payload, reason }) => `${id}=${text(payload)} ${reason}`);
}

Deno.test("a packet that is given up leaves the middle of its batch, and the file tells why", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const queue = await OutboundQueue.open(dir.queue, { clock });
  await queue.enqueueMany(numbered(5));
  const enqueuedAtMs = clock.wallMs();
  clock.wall += 77;
  const heard: DeadPackets[] = [];
  const unsubscribe = queue.subscribeDead((some) => heard.push(some));
  sendingSideOf(queue).rememberSent(3);
  await sendingSideOf(queue).giveUp(3, 4);
  assert.deepEqual(await contents(queue), ["1=1", "2=2", "4=4", "5=5"]);
  assert.deepEqual(await queue.deadLetters(0, 1), [{
    id: 3,
    enqueuedAtMs,
    diedAtMs: enqueuedAtMs + 77,
    reason: "gave-up",
    sent: true,
    attempts: 4,
    words: undefined,
    payload: bytes("3"),
  }]);
  assert.deepEqual(heard, [
    { packets: 1, bytes: 1, reason: "gave-up", ids: { firstId: 3, lastId: 3 } },
  ]);
  // Gone already, or never there: harmless, and not worth a word.
  await sendingSideOf(queue).giveUp(3, 9);
  await sendingSideOf(queue).giveUp(99, 9);
  unsubscribe();
  await sendingSideOf(queue).giveUp(5, 0);
  assert.equal(heard.length, 1);
  assert.equal((await queue.deadLetters(3, 1))[0]?.sent, false);
  const { packets, bytes: size, deadPackets, deadBytes, gaveUpPackets, expiredPackets } = queue
    .stats();
  assert.deepEqual([packets, size, deadPackets, deadBytes, gaveUpPackets, expiredPackets], [
    3,
    3,
    2,
    2,
    2,
    0,
  ]);
  await queue.close();
  await using again = await OutboundQueue.open(dir.queue);
  assert.deepEqual(await contents(again), ["1=1", "2=2", "4=4"]);
  assert.deepEqual(await dead(again), ["3=3 gave-up", "5=5 gave-up"]);
  assert.equal(await again.enqueue(bytes("6")), 6, "an id is not given again");
});

for (const syncIn of ["loop", "threads"] as const) {
  Deno.test(`a refused packet keeps the server's words, with others in flight (syncIn ${syncIn})`, async () => {
    using dir = new TempDir();
    const words = '"ERR \\xff"';
    {
      await using queue = await OutboundQueue.open(dir.queue, { syncIn });
      await queue.enqueueMany(numbered(5));
      const sending = sendingSideOf(queue);
      await sending.readBatches(0, 100);
      const heard: DeadPackets[] = [];
      queue.subscribeDead((some) => heard.push(some));
      await sending.removeThrough(1);
      await sending.refuse(3, words);
      await sending.refuse(3, "again");
      await sending.giveUp(4, 2, "no key");
      await sending.removeThrough(5);
      assert.deepEqual(heard.map(({ reason, ids }) => [reason, ids.firstId]), [
        ["refused", 3],
        ["gave-up", 4],
      ]);
      const { packets, refusedPackets, gaveUpPackets, deadPackets } = queue.stats();
      assert.deepEqual([packets, refusedPackets, gaveUpPackets, deadPackets], [0, 1, 1, 2]);
      assert.equal(queue.removedThroughId, 5);
    }
    await using again = await OutboundQueue.open(dir.queue);
    assert.equal(again.stats().refusedPackets, 1);
    assert.deepEqual(
      (await again.deadLetters(0, 100)).map((letter) => [letter.id, letter.reason, letter.words]),
      [[3, "refused", words], [4, "gave-up", "no key"]],
    );
  });
}

Deno.test("giving up the oldest moves removedThroughId over the hole", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueueMany(numbered(4));
  await sendingSideOf(queue).giveUp(2, 1);
  assert.equal(queue.removedThroughId, 0);
  await sendingSideOf(queue).removeThrough(1);
  assert.equal(queue.removedThroughId, 2);
  await sendingSideOf(queue).giveUp(3, 1);
  assert.equal(queue.removedThroughId, 3);
  await sendingSideOf(queue).giveUp(4, 1);
  assert.deepEqual([queue.removedThroughId, queue.lastId, queue.stats().packets], [4, 4, 0]);
  assert.equal(queue.stats().oldestEnqueuedAtMs, undefined);
  assert.equal(await queue.enqueue(bytes("5")), 5);
  assert.deepEqual(await contents(queue), ["5=5"]);
});

Deno.test("any ranges taken out of any batches leave what is before and behind", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 5 }),
      fc.array(
        fc.record({
          how: fc.constantFrom("remove", "giveUp", "removeThrough"),
          from: fc.integer({ min: 0, max: 40 }),
          length: fc.integer({ min: 1, max: 15 }),
          ttl: fc.boolean(),
        }),
        { minLength: 1, maxLength: 8 },
      ),
      fc.boolean(),
      async (batches, cuts, fromMemory) => {
        using dir = new TempDir();
        const queue = await OutboundQueue.open(dir.queue);
        if (fromMemory) sendingSideOf(queue).subscribe(() => {});
        let there: number[] = [];
        for (const [i, size] of batches.entries()) {
          const range = await queue.enqueueMany(numbered(size, queue.lastId + 1), {
            ttlMs: i % 2 === 0 ? Infinity : 1e9,
          });
          for (let id = range.firstId; id <= range.lastId; id++) there.push(id);
        }
        const sizeOf = (ids: number[]) => ids.reduce((sum, id) => sum + String(id).length, 0);
        const letters: number[] = [];
        for (const { how, from, length } of cuts) {
          const range = { firstId: from, lastId: from + length - 1 };
          const inRange = (id: number) => id >= range.firstId && id <= range.lastId;
          if (how === "remove") {
            const gone = there.filter(inRange);
            const removed = await queue.removePackets(range);
            assert.deepEqual(removed, { packets: gone.length, bytes: sizeOf(gone) });
            there = there.filter((id) => !inRange(id));
          } else if (how === "giveUp") {
            await sendingSideOf(queue).giveUp(from, 2);
            if (there.includes(from)) letters.push(from);
            there = there.filter((id) => id !== from);
          } else {
            await sendingSideOf(queue).removeThrough(from);
            there = there.filter((id) => id > from);
          }
          const stats = queue.stats();
          assert.deepEqual([stats.packets, stats.bytes], [there.length, sizeOf(there)]);
          assert.deepEqual(await contents(queue), there.map((id) => `${id}=${id}`));
        }
        await queue.close();
        await using again = await OutboundQueue.open(dir.queue);
        assert.deepEqual(await contents(again), there.map((id) => `${id}=${id}`));
        letters.sort((a, b) => a - b);
        assert.deepEqual(await dead(again), letters.map((id) => `${id}=${id} gave-up`));
        using file = new DatabaseSync(dir.queue, { readOnly: true });
        const left = file.prepare(
          "SELECT * FROM expiry EXCEPT SELECT e.* FROM expiry e JOIN packets USING (last_id)",
        ).all();
        assert.deepEqual(left, [], "an expiry goes with its batch");
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("what is taken out is not read from memory either, and the rest still is", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  sendingSideOf(queue).subscribe(() => {});
  await queue.enqueueMany(numbered(6));
  await queue.removePackets({ firstId: 2, lastId: 3 });
  await sendingSideOf(queue).giveUp(6, 1);
  let selects = 0;
  driver.fault = (sql) => {
    if (sql.startsWith("SELECT packets.last_id - 0, ends, payload,")) selects++;
    return undefined;
  };
  const ids = (await queue.read(0, 100)).map(({ id }) => id);
  assert.deepEqual([ids, selects], [[1, 4, 5], 0]);
  assert.deepEqual((await queue.read(1, 100)).map(({ id }) => id), [4, 5]);
  assert.deepEqual((await queue.read(2, 1)).map(({ id }) => id), [4]);
  assert.equal(selects, 0);
  assert.equal(await queue.enqueue(bytes("7")), 7);
  assert.deepEqual(await contents(queue), ["1=1", "4=4", "5=5", "7=7"]);
});

Deno.test("dead letters go back to the end, in order, under new ids, and wake the sender", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  await queue.enqueueMany(numbered(5));
  for (const id of [2, 4, 5]) await sendingSideOf(queue).giveUp(id, 1);
  let rings = 0;
  sendingSideOf(queue).subscribe(() => rings++);
  clock.wall += 5;
  assert.deepEqual(await queue.requeue({ firstId: 2, lastId: 4 }), {
    packets: 2,
    bytes: 2,
    ids: { firstId: 6, lastId: 7 },
    damagedPackets: 0,
  });
  assert.equal(rings, 1);
  assert.deepEqual(await contents(queue), ["1=1", "3=3", "6=2", "7=4"]);
  assert.deepEqual(await dead(queue), ["5=5 gave-up"]);
  const nothing = { packets: 0, bytes: 0, ids: undefined, damagedPackets: 0 };
  assert.deepEqual(await queue.requeue({ firstId: 2, lastId: 4 }), nothing);
  const stats = queue.stats();
  assert.deepEqual([stats.packets, stats.deadPackets, stats.gaveUpPackets], [4, 1, 3]);
  assert.deepEqual(await queue.removeDeadLetters(ALL), { packets: 1, bytes: 1 });
  assert.deepEqual(await queue.removeDeadLetters(ALL), { packets: 0, bytes: 0 });
  assert.deepEqual([queue.stats().deadPackets, queue.stats().deadBytes], [0, 0]);
});

Deno.test("requeue moves a bounded part in each transaction, and neither loses nor doubles any", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { clock, driver });
  await queue.enqueueMany(numbered(9000), { ttlMs: 1 });
  clock.wall += 1;
  driver.log.length = 0;
  assert.deepEqual(await sendingSideOf(queue).readBatches(0, 1), []);
  const commits = () => driver.log.filter((word) => word === "COMMIT").length;
  assert(commits() >= 3 && commits() <= 5, `${commits()} transactions`);
  assert.deepEqual([queue.stats().deadPackets, queue.stats().expiredPackets], [9000, 9000]);
  driver.log.length = 0;
  const back = await queue.requeue(ALL);
  assert.deepEqual(back.ids, { firstId: 9001, lastId: 18_000 });
  assert.equal(commits(), 3);
  const expected = Array.from({ length: 9000 }, (_, i) => `${9001 + i}=${i + 1}`);
  assert.deepEqual(await contents(queue), expected);
});

Deno.test("requeue with a time to live: what expires again is not taken up once more", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock, ttlMs: 10 });
  await queue.enqueueMany(numbered(3), { ttlMs: Infinity });
  for (const id of [1, 2, 3]) await sendingSideOf(queue).giveUp(id, 1);
  await queue.requeue({ firstId: 1, lastId: 1 });
  await queue.requeue({ firstId: 2, lastId: 3 }, { ttlMs: 20 });
  clock.wall += 20;
  assert.deepEqual((await sendingSideOf(queue).readBatches(0, 100)).map(({ firstId }) => firstId), [
    4,
  ]);
  assert.deepEqual(await sendingSideOf(queue).readBatches(4, 100), []);
  assert.deepEqual(await dead(queue), ["5=2 expired", "6=3 expired"]);
});

Deno.test("requeue ends, even when what it has put back dies at once", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  await queue.enqueueMany(numbered(5000), { ttlMs: 1 });
  clock.wall += 1;
  await sendingSideOf(queue).readBatches(0, 1);
  assert.equal(queue.stats().deadPackets, 5000);
  const reads: Promise<unknown>[] = [];
  sendingSideOf(queue).subscribe(() => {
    clock.wall += 10;
    if (reads.length < 10) reads.push(sendingSideOf(queue).readBatches(0, 1));
  });
  assert.equal((await queue.requeue(ALL, { ttlMs: 1 })).packets, 5000);
  await Promise.all(reads);
  assert.deepEqual([reads.length, queue.stats().expiredPackets], [2, 10_000]);
});

Deno.test("dead letters take no room from packets", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, { maxPackets: 2, maxBytes: 2 });
  for (let id = 1; id < 9; id += 2) {
    await queue.enqueueMany(numbered(2));
    await assert.rejects(queue.enqueue(bytes("3")), QueueFullError);
    await sendingSideOf(queue).giveUp(id, 1);
    await sendingSideOf(queue).giveUp(id + 1, 1);
  }
  assert.equal(queue.stats().deadPackets, 8);
  // Putting back needs no room: nothing is added.
  await queue.requeue(ALL);
  assert.equal(queue.stats().packets, 8);
});

for (const bound of [{ maxDeadPackets: 3 }, { maxDeadBytes: 3 }]) {
  Deno.test(`beyond ${Object.keys(bound)} the oldest dead letters go, counted and said`, async () => {
    using dir = new TempDir();
    const clock = new ManualClock();
    await using queue = await OutboundQueue.open(dir.queue, { ...bound, clock });
    const heard: unknown[] = [];
    queue.subscribeDropped((dropped) => heard.push(dropped));
    await queue.enqueueMany(numbered(4));
    for (const id of [3, 4, 1, 2]) await sendingSideOf(queue).giveUp(id, 1);
    // Of these, the one with the lowest id.
    assert.deepEqual(await dead(queue), ["2=2 gave-up", "3=3 gave-up", "4=4 gave-up"]);
    assert.deepEqual(heard, [{ packets: 1, bytes: 1, throughId: 0 }]);
    // Many at once: those that expire together.
    await queue.enqueueMany(numbered(5, 5), { ttlMs: 10 });
    clock.advance(10);
    assert.deepEqual(await sendingSideOf(queue).readBatches(0, 100), []);
    assert.deepEqual(await dead(queue), ["7=7 expired", "8=8 expired", "9=9 expired"]);
    assert.deepEqual(heard.slice(1), [{ packets: 5, bytes: 5, throughId: 0 }]);
    const { droppedPackets, droppedBytes, deadPackets, deadBytes, expiredPackets } = queue.stats();
    assert.deepEqual([droppedPackets, droppedBytes, deadPackets, deadBytes], [6, 6, 3, 3]);
    assert.equal(expiredPackets, 5);
  });
}

Deno.test("no dead letters may be kept at all", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, { maxDeadPackets: 0 });
  await queue.enqueueMany(numbered(2));
  await sendingSideOf(queue).giveUp(1, 1);
  assert.deepEqual(await dead(queue), []);
  assert.deepEqual(await contents(queue), ["2=2"]);
  assert.equal(queue.stats().droppedPackets, 1);
});

Deno.test("overflow drop-oldest leaves dead letters alone", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, {
    maxPackets: 2,
    overflow: "drop-oldest",
  });
  await queue.enqueueMany(numbered(2));
  await sendingSideOf(queue).giveUp(1, 1);
  await queue.enqueueMany(numbered(2, 3));
  assert.deepEqual(await dead(queue), ["1=1 gave-up"]);
  assert.deepEqual(await contents(queue), ["3=3", "4=4"]);
});

Deno.test("a failed transaction moves nothing, and the next attempt does", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  await queue.enqueueMany(numbered(3));
  const full = (error: unknown) => error instanceof QueueFileError && error.reason === "disk-full";
  for (
    const statement of ["BEGIN", "UPDATE packets", "INSERT OR IGNORE INTO dead", "DELETE", "COMMIT"]
  ) {
    driver.failNext(statement, FULL);
    await assert.rejects(sendingSideOf(queue).giveUp(2, 1), full, statement);
    assert.deepEqual(await contents(queue), ["1=1", "2=2", "3=3"]);
    assert.deepEqual(await dead(queue), []);
    assert.equal(queue.stats().packets, 3);
  }
  driver.heal();
  await sendingSideOf(queue).giveUp(2, 1);
  for (const statement of ["INSERT INTO packets", "DELETE FROM dead", "UPDATE state", "COMMIT"]) {
    driver.failNext(statement, FULL);
    await assert.rejects(queue.requeue(ALL), full, statement);
    assert.deepEqual(await dead(queue), ["2=2 gave-up"]);
    assert.deepEqual(await contents(queue), ["1=1", "3=3"]);
  }
  driver.heal();
  await queue.requeue(ALL);
  assert.deepEqual(await contents(queue), ["1=1", "3=3", "4=2"]);
});

Deno.test("a change in the middle waits for a busy file, within reason", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver, busyTimeoutMs: 200 });
  await queue.enqueueMany(numbered(2));
  driver.failNext("BEGIN", BUSY, 3);
  await sendingSideOf(queue).giveUp(1, 1);
  driver.failNext("BEGIN", BUSY, Infinity);
  await assert.rejects(
    sendingSideOf(queue).giveUp(2, 1),
    (error) => error instanceof QueueFileError && error.reason === "busy",
  );
  driver.heal();
  assert.deepEqual(await contents(queue), ["2=2"]);
});

Deno.test("changes in the middle share the turn with enqueues and removals", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueueMany(numbered(10));
  await Promise.all([
    queue.enqueue(bytes("11")),
    sendingSideOf(queue).giveUp(5, 1),
    sendingSideOf(queue).removeThrough(3),
    queue.removePackets({ firstId: 8, lastId: 9 }),
    queue.enqueueMany(numbered(2, 12)),
    sendingSideOf(queue).giveUp(2, 1), // Given up before it is removed: it was asked for earlier.
  ]);
  const there = [4, 6, 7, 10, 11, 12, 13].map((id) => `${id}=${id}`);
  assert.deepEqual(await contents(queue), there);
  const { packets, deadPackets, lastId } = queue.stats();
  assert.deepEqual([packets, lastId], [7, 13]);
  assert.equal(deadPackets, (await dead(queue)).length);
  assert((await dead(queue)).includes("5=5 gave-up"));
});

Deno.test("another process's requeue reaches the process that sends", async () => {
  using dir = new TempDir();
  await using sending = await OutboundQueue.open(dir.queue);
  using lock = await SenderLock.acquire(sending.path);
  await sending.enqueueMany(numbered(2));
  await sendingSideOf(sending).giveUp(1, 1);
  const grown = new Promise<void>((resolve) => sendingSideOf(sending).subscribe(resolve));
  const doorbell = sendingSideOf(sending).answerDoorbell(lock);
  await using operator = await OutboundQueue.open(dir.queue);
  assert.deepEqual((await operator.requeue(ALL)).ids, { firstId: 3, lastId: 3 });
  await grown;
  assert.deepEqual([sending.lastId, sending.stats().deadPackets], [3, 0]);
  await doorbell.stop();
});

Deno.test("what is no range and no id is refused; so is everything after close", async () => {
  using dir = new TempDir();
  const queue = await OutboundQueue.open(dir.queue);
  for (
    const range of [{ firstId: -1, lastId: 1 }, { firstId: 2, lastId: 1 }, {
      firstId: 0,
      lastId: NaN,
    }]
  ) {
    await assert.rejects(queue.removePackets(range), RangeError);
    await assert.rejects(queue.removeDeadLetters(range), RangeError);
    await assert.rejects(queue.requeue(range), RangeError);
  }
  await assert.rejects(sendingSideOf(queue).giveUp(1.5, 1), RangeError);
  await assert.rejects(queue.requeue(ALL, { ttlMs: 0 }), RangeError);
  await queue.close();
  await assert.rejects(sendingSideOf(queue).giveUp(1, 1), ClosedError);
  await assert.rejects(queue.removePackets(ALL), ClosedError);
  await assert.rejects(queue.removeDeadLetters(ALL), ClosedError);
  await assert.rejects(queue.requeue(ALL), ClosedError);
  await assert.rejects(queue.deadLetters(0, 1), ClosedError);
  await assert.rejects(sendingSideOf(queue).readBatches(0, 1), ClosedError);
});

Deno.test("the dead letters are read in parts of the size that was asked for", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, { clock: systemClock });
  await queue.enqueueMany(Array.from({ length: 300 }, () => new Uint8Array(100)));
  for (let id = 1; id <= 300; id += 2) await sendingSideOf(queue).giveUp(id, 1);
  const ids: number[] = [];
  for (let after = 0;;) {
    const letters = await queue.deadLetters(after, 1050);
    if (letters.length === 0) break;
    assert(letters.length === 10);
    ids.push(...letters.map(({ id }) => id));
    after = ids.at(-1) ?? 0;
  }
  assert.deepEqual(ids, Array.from({ length: 150 }, (_, i) => 2 * i + 1));
  assert.equal((await queue.deadLetters(0, 1)).length, 1);
});

Deno.test("a requeue over which its queue is closed says how many it has put back", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const driver = new FaultDriver();
  const queue = await OutboundQueue.open(dir.queue, { clock, driver });
  await queue.enqueueMany(numbered(9000), { ttlMs: 1 });
  clock.wall += 1;
  assert.deepEqual(await sendingSideOf(queue).readBatches(0, 1), []);
  let closed: Promise<void> | undefined;
  driver.fault = (sql) => {
    if (sql === "COMMIT") closed ??= queue.close();
    return undefined;
  };
  await assert.rejects(queue.requeue(ALL), (error) => {
    const { packets } = queue.stats();
    assert(error instanceof ClosedError);
    assert(packets > 0 && packets < 9000);
    assert.equal(error.message, `${packets} were put back. Of the rest: The queue is closed.`);
    return true;
  });
  await closed;
  await assert.rejects(queue.requeue(ALL), {
    name: "ClosedError",
    message: "The queue is closed.",
  });
});

Deno.test("a requeue that fails halfway says how many it has put back, and goes on", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  await queue.enqueueMany(numbered(5000), { ttlMs: 1 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(await sendingSideOf(queue).readBatches(0, 1), []);
  const failCommit = (which: number) => {
    driver.fault = (sql) => sql === "COMMIT" && --which === 0 ? FaultDriver.error(FULL) : undefined;
  };
  failCommit(1);
  const nothing = (error: Error) => !error.message.includes("put back");
  await assert.rejects(queue.requeue(ALL), nothing);
  failCommit(2);
  await assert.rejects(queue.requeue(ALL), (error) => {
    assert(error instanceof QueueFileError);
    assert.deepEqual([error.reason, error.path], ["disk-full", queue.path]);
    const { packets, deadPackets } = queue.stats();
    assert.equal(packets + deadPackets, 5000);
    assert(packets > 0 && deadPackets > 0);
    assert(error.message.startsWith(`${packets} were put back. Of the rest: Queue ${queue.path}`));
    return true;
  });
  driver.heal();
  await queue.requeue(ALL);
  assert.deepEqual([queue.stats().packets, queue.stats().deadPackets], [5000, 0]);
});
