import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import {
  ClosedError,
  PacketSizeError,
  QueueFileError,
  QueueFullError,
} from "../../src/base/errors.ts";
import { lastIdOf } from "../../src/base/packet_batch.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { type SqliteDriver, SqliteError } from "../../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { bytes, text } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { within } from "../support/until.ts";
import { FaultDriver, settle } from "./helpers.ts";
import { inEachPlace } from "./threads.ts";

const FULL = 13, BUSY = 5, IOERR = 10;

inEachPlace("ids follow the order of the calls; the bytes may be reused at once", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue);
  const buffer = bytes("a");
  const stored = [];
  for (const letter of ["a", "b", "c"]) {
    buffer.set(bytes(letter));
    stored.push(queue.enqueue(buffer));
  }
  buffer.set(bytes("z"));
  assert.deepEqual(await Promise.all(stored), [1, 2, 3]);
  assert.deepEqual((await queue.read(0, 100)).map((p) => text(p.payload)), ["a", "b", "c"]);
  await queue.close();
  await using again = await open(dir.queue);
  assert.deepEqual((await again.read(0, 100)).map((p) => text(p.payload)), ["a", "b", "c"]);
});

Deno.test("a reading takes no row that it does not give, nor one that is cut twice as large", async () => {
  using dir = new TempDir();
  let rows = 0;
  const driver: SqliteDriver = {
    name: nodeSqlite.name,
    open(path, options) {
      const database = nodeSqlite.open(path, options);
      return {
        close: () => database.close(),
        prepare(sql) {
          const statement = database.prepare(sql);
          if (!sql.includes(" payload, expires_at_ms")) return statement;
          return {
            run: (params) => statement.run(params),
            all: (params) => {
              const found = statement.all(params);
              rows += found.length;
              return found;
            },
          };
        },
      };
    },
  };
  {
    await using queue = await OutboundQueue.open(dir.queue);
    for (let i = 0; i < 3; i++) await queue.enqueue(new Uint8Array(20_000));
    // One row, ids 4 to 13.
    await queue.enqueueMany(Array.from({ length: 10 }, () => new Uint8Array(1000)));
    await queue.enqueue(new Uint8Array(20_000));
  }
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  const read = async (afterId: number, maxBytes: number) => {
    rows = 0;
    return [(await queue.read(afterId, maxBytes)).map(({ id }) => id), rows];
  };
  assert.deepEqual(await read(0, 20_000), [[1], 1]);
  assert.deepEqual(await read(0, 1), [[1], 1]);
  assert.deepEqual(await read(1, 40_000), [[2, 3], 2]);
  // Of a row that begins before it nobody asks how much is left.
  assert.deepEqual(await read(10, 3000), [[11, 12, 13], 2]);
  assert.deepEqual(await read(10, 23_000), [[11, 12, 13, 14], 2]);
});

Deno.test("nothing resolves before the COMMIT that covers it has returned", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  driver.log.length = 0;
  const note = (name: string) => () => void driver.log.push(name);
  const first = [
    queue.enqueue(bytes("1")).then(note("one")),
    queue.enqueue(bytes("2")).then(note("two")),
  ];
  await Promise.all(first);
  const removed = sendingSideOf(queue).removeThrough(1).then(note("removed"));
  const third = queue.enqueue(bytes("3")).then(note("three"));
  await Promise.all([removed, third]);
  assert.deepEqual(driver.log, [
    ...["BEGIN", "INSERT", "COMMIT", "one", "two"],
    // The removal went along with the next packet.
    ...["BEGIN", "DELETE", "DELETE", "INSERT", "COMMIT"],
    ...driver.log.slice(-2),
  ]);
  assert.deepEqual(driver.log.slice(-2).sort(), ["removed", "three"]);
});

inEachPlace("a second sender of a queue reads what others have left", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue);
  const sending = sendingSideOf(queue);
  const first = await sending.takeTenure(systemClock);
  sending.subscribe(() => {});
  await queue.enqueueMany(["a", "b", "c", "d"]);
  // It has what it is given here in hand, and does not remove it.
  await sending.readBatches(0, 1);
  await queue.enqueueMany(["e", "f"]);
  await first.release();
  await using other = await open(dir.queue);
  const between = await sendingSideOf(other).takeTenure(systemClock);
  await other.removePackets({ firstId: 2, lastId: 2 });
  await other.removePackets({ firstId: 5, lastId: 5 });
  await between.release();
  const second = await sending.takeTenure(systemClock);
  const texts: string[] = [];
  for (let afterId = 0; afterId < 6;) {
    const batches = await sending.readBatches(afterId, 1000);
    for (const { firstId, bytes, ends } of batches) {
      texts.push(text(bytes));
      afterId = firstId + ends.length - 1;
    }
  }
  assert.equal(texts.join(""), "acdf");
  await sending.removeThrough(6);
  assert.equal(queue.stats().packets, 0);
  await second.release();
});

Deno.test("what was read is removed, also where it was stored after the last look", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await using other = await OutboundQueue.open(dir.queue);
  const sending = sendingSideOf(queue);
  await other.enqueue("a");
  await sending.pollOtherProcesses();
  await other.enqueue("b");
  const batches = await sending.readBatches(0, 1000);
  assert.deepEqual(batches.map(({ firstId }) => firstId), [1, 2]);
  assert.equal(sending.lastId, 1, "nobody has looked since");
  await sending.removeThrough(2);
  assert.deepEqual([sending.removedThroughId, queue.stats().packets], [2, 0]);
});

Deno.test("packets of one tick share a commit; a removal alone has its own", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  driver.log.length = 0;
  await Promise.all(Array.from({ length: 1000 }, () => queue.enqueue(bytes("x"))));
  assert.equal(count(driver, "COMMIT"), 1);
  await sendingSideOf(queue).removeThrough(500);
  assert.equal(count(driver, "COMMIT"), 2);
  await sendingSideOf(queue).removeThrough(400); // Gone already: costs nothing.
  assert.equal(count(driver, "COMMIT"), 2);
  assert.equal(queue.stats().packets, 500);
  assert.equal(queue.removedThroughId, 500);
});

Deno.test("a transaction is bounded by packets and by bytes", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  driver.log.length = 0;
  const ids = await Promise.all(Array.from({ length: 25_000 }, () => queue.enqueue(bytes("x"))));
  assert.deepEqual(ids, Array.from({ length: 25_000 }, (_, i) => i + 1));
  assert.equal(count(driver, "COMMIT"), 7);
  driver.log.length = 0;
  await Promise.all(Array.from({ length: 5 }, () => queue.enqueue(new Uint8Array(200 * 1024))));
  assert.equal(count(driver, "COMMIT"), 3);
});

Deno.test("enqueueMany is all or nothing", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver, maxPackets: 10 });
  await assert.rejects(queue.enqueueMany([]), RangeError);
  await assert.rejects(queue.enqueueMany([bytes("x"), new Uint8Array(0)]), PacketSizeError);
  await assert.rejects(queue.enqueueMany(Array(11).fill(bytes("x"))), QueueFullError);
  driver.failNext("COMMIT", IOERR);
  await assert.rejects(queue.enqueueMany(Array(4).fill(bytes("x"))), fileError("io"));
  assert.equal(queue.stats().packets, 0);
  assert.deepEqual(await queue.enqueueMany(Array(4).fill(bytes("x"))), { firstId: 1, lastId: 4 });
});

Deno.test("what is more than the queue may ever hold is told so, and not to wait for room", async () => {
  for (const overflow of ["reject", "wait", "drop-oldest"] as const) {
    using dir = new TempDir();
    const limits = { maxPackets: 2, maxBytes: 8, overflow };
    await using queue = await OutboundQueue.open(dir.queue, limits);
    await assert.rejects(queue.enqueue(bytes("123456789")), {
      name: "QueueFullError",
      message: /no room for 9 bytes at once: raise maxBytes, or store less at a time\.$/,
    });
    await assert.rejects(queue.enqueueMany(Array(3).fill(bytes("x"))), {
      name: "QueueFullError",
      message: /no room for 3 packets at once: raise maxPackets, or store less at a time\.$/,
    });
    assert.equal(queue.stats().packets, 0);
  }
});

Deno.test("enqueueMany takes no iterator, which is empty once it was counted", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  for (const packets of [[bytes("a")].values(), new Set(["a"]), "a", (function* () {})()]) {
    await assert.rejects(queue.enqueueMany(packets as unknown as string[]), {
      name: "TypeError",
      message: /^packets must be an array/,
    });
  }
  assert.deepEqual([queue.lastId, queue.stats().waitingPackets], [0, 0]);
});

Deno.test("a failed commit rejects what it covered, and only that", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  await queue.enqueueMany([bytes("a"), bytes("b")]);
  for (const statement of ["BEGIN", "DELETE", "INSERT", "COMMIT"]) {
    driver.failNext(statement, IOERR);
    const outcomes = await Promise.allSettled([
      queue.enqueue(bytes("lost")),
      sendingSideOf(queue).removeThrough(1),
    ]);
    assert(outcomes.every(({ status }) => status === "rejected"), statement);
    assert.equal(queue.stats().packets, 2);
  }
  driver.heal();
  assert.equal(await queue.enqueue(bytes("c")), 3);
  await sendingSideOf(queue).removeThrough(1);
  assert.deepEqual((await queue.read(0, 100)).map((p) => text(p.payload)), ["b", "c"]);
  assert.deepEqual(queue.stats().waitingPackets, 0);
  assert.deepEqual(queue.stats().waitingBytes, 0);
});

Deno.test("disk full: one huge packet does not harm the others", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  await queue.enqueue(bytes("first"));
  // Full as soon as a transaction holds the 100 kB packet.
  let large = false;
  driver.fault = (sql, largestBytes) => {
    if (sql === "BEGIN IMMEDIATE") large = false;
    if (largestBytes === 100_000) large = true;
    return sql === "COMMIT" && large ? new SqliteError(FULL, "injected") : undefined;
  };
  const sizes = [...Array(40).fill(10), 100_000, ...Array(40).fill(10)];
  const outcomes = await Promise.allSettled([
    ...sizes.map((size) => queue.enqueue(new Uint8Array(size).fill(1))),
    sendingSideOf(queue).removeThrough(1),
  ]);
  assert.deepEqual(
    outcomes.flatMap(({ status }, i) => status === "rejected" ? [i] : []),
    [40],
  );
  assert.equal(queue.stats().packets, 80);
  assert.deepEqual(
    outcomes.flatMap((o) =>
      o.status === "fulfilled" && typeof o.value === "number" ? [o.value] : []
    ),
    Array.from({ length: 80 }, (_, i) => i + 2),
  );
});

Deno.test("disk full for everything: few attempts, all rejected, then it works again", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  let begun = 0;
  driver.fault = (sql) => {
    if (sql === "BEGIN IMMEDIATE") begun++;
    return sql === "COMMIT" ? new SqliteError(FULL, "injected") : undefined;
  };
  const outcomes = await Promise.allSettled(
    Array.from({ length: 5000 }, () => queue.enqueue(bytes("x"))),
  );
  assert(outcomes.every((o) => o.status === "rejected" && fileError("disk-full")(o.reason)));
  assert(begun < 30, `${begun} attempts`);
  driver.heal();
  assert.equal(await queue.enqueue(bytes("x")), 1);
});

inEachPlace("busy: tried again without blocking, given up after busyTimeoutMs", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue, { busyTimeoutMs: 60 });
  const other = nodeSqlite.open(dir.queue, { readOnly: false, busyTimeoutMs: 0 });
  other.prepare("BEGIN IMMEDIATE").run([]);
  await assert.rejects(queue.enqueue(bytes("x")), fileError("busy"));
  const waiting = queue.enqueue(bytes("y"));
  await new Promise((resolve) => systemClock.defer(() => resolve(undefined)));
  other.prepare("ROLLBACK").run([]);
  assert.equal(await waiting, 1);
  other.close();
});

Deno.test("busy: a signal ends the wait and nothing is stored", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  const controller = new AbortController();
  driver.fault = (sql) => {
    if (sql !== "BEGIN IMMEDIATE") return undefined;
    queueMicrotask(() => controller.abort(new Error("enough")));
    return new SqliteError(BUSY, "injected");
  };
  await assert.rejects(queue.enqueue(bytes("x"), { signal: controller.signal }), /enough/);
  driver.heal();
  assert.equal(await queue.enqueue(bytes("y")), 1);
});

inEachPlace("limits: reject says which, and there is room again after a removal", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue, {
    maxPackets: 3,
    maxBytes: 10,
    maxPacketBytes: 12,
  });
  await assert.rejects(queue.enqueue(new Uint8Array(0)), PacketSizeError);
  await assert.rejects(queue.enqueue(new Uint8Array(13)), PacketSizeError);
  await assert.rejects(queue.enqueue(new Uint8Array(11)), limit("maxBytes"));
  await queue.enqueue(new Uint8Array(8));
  await assert.rejects(queue.enqueue(new Uint8Array(3)), limit("maxBytes"));
  await queue.enqueueMany([new Uint8Array(1), new Uint8Array(1)]);
  await assert.rejects(queue.enqueue(new Uint8Array(1)), limit("maxPackets"));
  await sendingSideOf(queue).removeThrough(1);
  assert.equal(await queue.enqueue(new Uint8Array(1)), 4);
});

inEachPlace(
  "overflow wait: first come, first served, and a signal leaves the line",
  async (open) => {
    using dir = new TempDir();
    await using queue = await open(dir.queue, { maxPackets: 2, overflow: "wait" });
    await queue.enqueueMany([bytes("1"), bytes("2")]);
    const order: string[] = [];
    const controller = new AbortController();
    const signal = controller.signal;
    const both = queue.enqueueMany([bytes("3"), bytes("4")], { signal }).catch(() =>
      order.push("withdrawn")
    );
    const five = queue.enqueue(bytes("5")).then((id) => order.push(`five ${id}`));
    await sendingSideOf(queue).removeThrough(1); // Room for one, but two are first in line.
    assert.deepEqual(order, []);
    controller.abort();
    await Promise.all([both, five]);
    assert.deepEqual(order, ["withdrawn", "five 3"]);
    assert.equal(queue.stats().waitingPackets, 0);
    await assert.rejects(queue.enqueue(bytes("x"), { signal }), { name: "AbortError" });
  },
);

inEachPlace("overflow wait: another process's removal makes room", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue, { maxPackets: 1, overflow: "wait" });
  await queue.enqueue(bytes("1"));
  const waiting = queue.enqueue(bytes("2"));
  await using other = await open(dir.queue);
  await sendingSideOf(other).removeThrough(1);
  assert.equal(await waiting, 2);
});

inEachPlace("overflow wait: close rejects those in line", async (open) => {
  using dir = new TempDir();
  const queue = await open(dir.queue, { maxPackets: 1, overflow: "wait" });
  await queue.enqueue(bytes("1"));
  const waiting = assert.rejects(queue.enqueue(bytes("2")), ClosedError);
  await new Promise((resolve) => systemClock.setTimer(1, () => resolve(undefined)));
  await queue.close();
  await waiting;
});

inEachPlace("overflow drop-oldest: counted, reported, over reopening", async (open) => {
  using dir = new TempDir();
  const options = { maxPackets: 5, maxBytes: 50, overflow: "drop-oldest" } as const;
  const queue = await open(dir.queue, options);
  const reports: unknown[] = [];
  queue.subscribeDropped((dropped) => reports.push(dropped));
  for (let i = 1; i <= 7; i++) await queue.enqueue(new Uint8Array(i));
  await queue.enqueue(new Uint8Array(40));
  assert.deepEqual(
    reports,
    [
      { packets: 1, bytes: 1, throughId: 1 },
      { packets: 1, bytes: 2, throughId: 2 },
      { packets: 4, bytes: 18, throughId: 6 },
    ],
  );
  assert.deepEqual((await queue.read(0, 1000)).map(({ id }) => id), [7, 8]);
  await queue.close();
  await using again = await open(dir.queue, options);
  assert.equal(again.stats().droppedPackets, 6);
  assert.equal(again.stats().droppedBytes, 21);
  assert.equal(again.stats().bytes, 47);
});

inEachPlace("read keeps to maxBytes from memory and from the file alike", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue);
  await queue.read(0, 1); // From here on what is stored is kept in memory.
  await queue.enqueueMany([1, 2, 3, 4].map((size) => new Uint8Array(size)));
  await using cold = await open(dir.queue);
  for (
    const [after, max] of [[0, 1], [0, 3], [0, 5], [0, 6], [0, 100], [2, 1], [3, 4], [
      4,
      9,
    ]] as const
  ) {
    const ids = (await queue.read(after, max)).map(({ id }) => id);
    assert.deepEqual((await cold.read(after, max)).map(({ id }) => id), ids, `${after} ${max}`);
    let expected = 0, sum = 0;
    for (let id = after + 1; id <= 4 && (expected === 0 || sum + id <= max); id++, expected++) {
      sum += id;
    }
    assert.equal(ids.length, expected, `${after} ${max}`);
  }
});

Deno.test("what this process has stored is read from memory, the rest from the file", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  sendingSideOf(queue).subscribe(() => {});
  let selects = 0;
  driver.fault = (sql) => {
    if (sql.startsWith("SELECT packets.last_id - 0, ends, payload,")) selects++;
    return undefined;
  };
  await queue.enqueue(bytes("mine"));
  assert.equal((await queue.read(0, 100)).length, 1);
  assert.equal(selects, 0);
  await using other = await OutboundQueue.open(dir.queue);
  await other.enqueue(bytes("theirs"));
  await queue.enqueue(bytes("mine again"));
  assert.deepEqual((await queue.read(0, 100)).map((p) => text(p.payload)), [
    "mine",
    "theirs",
    "mine again",
  ]);
  assert(selects > 0);
  // More than memory holds: still complete.
  const many = await queue.enqueueMany(Array.from({ length: 20 }, () => new Uint8Array(1024 ** 2)));
  let after = 3;
  while (after < many.lastId) {
    const packets = await queue.read(after, 3 * 1024 ** 2);
    assert.deepEqual(packets[0]?.id, after + 1);
    after = packets.at(-1)?.id ?? 0;
  }
});

inEachPlace("counts and lastId follow other processes", async (open) => {
  using dir = new TempDir();
  await using one = await open(dir.queue);
  await using two = await open(dir.queue);
  let rings = 0;
  const unsubscribe = sendingSideOf(one).subscribe(() => rings++);
  await two.enqueueMany([bytes("a"), bytes("bc")]);
  assert.equal(one.lastId, 0);
  await sendingSideOf(one).pollOtherProcesses();
  assert.deepEqual([one.lastId, one.stats().packets, one.stats().bytes, rings], [2, 2, 3, 1]);
  await sendingSideOf(one).pollOtherProcesses();
  assert.equal(rings, 1);
  await sendingSideOf(two).removeThrough(1);
  assert.equal(await one.enqueue(bytes("d")), 3);
  assert.deepEqual([one.stats().packets, one.stats().bytes, rings], [2, 3, 2]);
  unsubscribe();
  await two.enqueue(bytes("e"));
  await sendingSideOf(one).pollOtherProcesses();
  assert.equal(rings, 2);
});

inEachPlace("rememberSent is written with the next commit and on close", async (open) => {
  using dir = new TempDir();
  const queue = await open(dir.queue);
  await queue.enqueueMany([bytes("a"), bytes("b"), bytes("c")]);
  sendingSideOf(queue).rememberSent(1);
  await sendingSideOf(queue).removeThrough(1);
  await using peek = await open(dir.queue);
  assert.equal(sendingSideOf(peek).sentThroughId, 1);
  sendingSideOf(queue).rememberSent(3);
  sendingSideOf(queue).rememberSent(2);
  await queue.close();
  await using again = await open(dir.queue);
  assert.equal(sendingSideOf(again).sentThroughId, 3);
});

inEachPlace(
  "rememberSent is not forgotten over a change that finds nothing to change",
  async (open) => {
    using dir = new TempDir();
    const queue = await open(dir.queue);
    await queue.enqueueMany([bytes("a"), bytes("b")]);
    sendingSideOf(queue).rememberSent(2);
    await queue.removeDeadLetters({ firstId: 1, lastId: 2 });
    await queue.close();
    await using again = await open(dir.queue);
    assert.equal(sendingSideOf(again).sentThroughId, 2);
  },
);

inEachPlace(
  "a removal that has to look what others have stored, while the queue is closed, ends",
  async (open) => {
    using dir = new TempDir();
    const queue = await open(dir.queue);
    await using other = await open(dir.queue);
    await other.enqueue(bytes("a"));
    assert.equal(queue.lastId, 0, "nobody has looked");
    const removed = sendingSideOf(queue).removeThrough(1);
    const closed = queue.close();
    await within("it is removed or refused", Promise.allSettled([removed]));
    await closed;
  },
);

inEachPlace("close stores what is waiting, is idempotent and ends everything", async (open) => {
  using dir = new TempDir();
  const queue = await open(dir.queue);
  const last = queue.enqueue(bytes("last"));
  const closing = queue.close();
  assert.equal(queue.close(), closing);
  await assert.rejects(queue.enqueue(bytes("late")), ClosedError);
  await assert.rejects(queue.enqueueMany([bytes("late")]), ClosedError);
  await assert.rejects(queue.read(0, 1), ClosedError);
  await assert.rejects(sendingSideOf(queue).removeThrough(1), ClosedError);
  await closing;
  await queue.close();
  await sendingSideOf(queue).pollOtherProcesses();
  assert.equal(await last, 1);
  assert.equal(queue.stats().packets, 1);
});

inEachPlace("options out of range are refused by name", async (open) => {
  using dir = new TempDir();
  for (
    const [options, message] of [
      [{ maxPackets: 0 }, /maxPackets/],
      [{ maxBytes: 1.5 }, /maxBytes/],
      [{ maxPacketBytes: 2 ** 30 }, /maxPacketBytes/],
      [{ busyTimeoutMs: -1 }, /busyTimeoutMs/],
    ] as const
  ) {
    await assert.rejects(
      open(dir.queue, options),
      (error) => error instanceof RangeError && message.test(error.message),
    );
  }
  await assert.rejects(open(":memory:"), RangeError);
  await assert.rejects(
    OutboundQueue.open("spool:x.db#a"),
    /spoolQueue\(\) of @sendq\/sendq\/spool/,
  );
  await assert.rejects(OutboundQueue.open("postgresql://u:hunter2@h/d/q"), (error: Error) => {
    assert.match(error.message, /postgresQueue\(\)/);
    return !error.message.includes("hunter2");
  });
  await using queue = await open(dir.queue);
  await assert.rejects(sendingSideOf(queue).removeThrough(1.5), RangeError);
  await assert.rejects(sendingSideOf(queue).removeThrough(-1), RangeError);
});

inEachPlace("stats need no table scan", async (open) => {
  using dir = new TempDir();
  let wallMs = 1_000;
  const clock = { ...systemClock, wallMs: () => wallMs };
  await using queue = await open(dir.queue, { clock });
  assert.equal(queue.stats().oldestEnqueuedAtMs, undefined);
  await queue.enqueue(bytes("a"));
  wallMs = 2_000;
  await queue.enqueue(bytes("b"));
  assert.equal(queue.stats().oldestEnqueuedAtMs, 1_000);
  await sendingSideOf(queue).removeThrough(1);
  assert.equal(queue.stats().oldestEnqueuedAtMs, 2_000);
  await sendingSideOf(queue).removeThrough(2);
  assert.equal(queue.stats().oldestEnqueuedAtMs, undefined);
});

inEachPlace("the file shrinks again after a backlog has drained", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue);
  for (let i = 0; i < 4; i++) {
    await queue.enqueueMany(Array.from({ length: 60 }, () => new Uint8Array(100_000)));
  }
  const fullBytes = Deno.statSync(dir.queue).size;
  assert(fullBytes > 10e6, `${fullBytes}`);
  await sendingSideOf(queue).removeThrough(queue.lastId);
  const deadline = Date.now() + 30_000;
  // Free pages below 4 MiB stay for the next packets.
  while (Deno.statSync(dir.queue).size > 5e6) {
    assert(Date.now() < deadline, `still ${Deno.statSync(dir.queue).size} bytes`);
    await new Promise((resolve) => systemClock.setTimer(10, () => resolve(undefined)));
  }
  assert.equal(await queue.enqueue(bytes("x")), 241);
});

function count(driver: FaultDriver, word: string): number {
  return driver.log.filter((entry) => entry === word).length;
}

function fileError(reason: string): (error: unknown) => boolean {
  return (error) => error instanceof QueueFileError && error.reason === reason;
}

function limit(name: string): (error: unknown) => boolean {
  return (error) => error instanceof QueueFullError && error.limit === name;
}

Deno.test("a poll of the file that fails is told, again and again, and so is its end", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { driver, clock });
  using lock = await SenderLock.acquire(dir.queue);
  const heard: unknown[] = [];
  sendingSideOf(queue).subscribePollFailures((failure) =>
    heard.push(failure instanceof QueueFileError ? failure.reason : failure)
  );
  const bell = sendingSideOf(queue).answerDoorbell(lock);
  const poll = async () => {
    clock.advance(1000);
    await settle();
  };
  await poll();
  assert.deepEqual(heard, []);
  driver.failNext("PRAGMA data_version", IOERR, Infinity);
  await poll();
  await poll();
  assert.deepEqual(heard, ["io", "io"]);
  driver.heal();
  await poll();
  await poll();
  assert.deepEqual(heard, ["io", "io", undefined]);
  await bell.stop();
});

Deno.test("an error at COMMIT is not known to have stored nothing, one before it is", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  for (
    const [statement, code, outcome] of [
      ["INSERT", IOERR, "nothing-stored"],
      ["COMMIT", IOERR, "unknown"],
      ["COMMIT", FULL, "nothing-stored"],
    ] as const
  ) {
    // Twice, for a full disk is asked once more.
    driver.failNext(statement, code, 2);
    await assert.rejects(queue.enqueue(bytes("x")), (error) => {
      assert(error instanceof QueueFileError);
      assert.equal(error.outcome, outcome);
      assert.equal(/Nothing was stored/.test(error.message), outcome === "nothing-stored");
      return true;
    });
  }
  driver.heal();
  assert.equal(await queue.enqueue(bytes("x")), 1);
});

Deno.test("a burst larger than the queue: drop-oldest keeps the newest", async () => {
  using dir = new TempDir();
  const options = { overflow: "drop-oldest", maxPackets: 10 } as const;
  await using queue = await OutboundQueue.open(dir.queue, options);
  const ids = await Promise.all(
    Array.from({ length: 25 }, (_, i) => queue.enqueue(bytes(String(i + 1)))),
  );
  assert.equal(ids.at(-1), 25);
  const left = (await queue.read(0, 100)).map(({ payload }) => Number(text(payload)));
  assert.deepEqual(left, [16, 17, 18, 19, 20, 21, 22, 23, 24, 25]);
  assert.equal(queue.stats().droppedPackets, 15);
});

for (const overflow of ["drop-oldest", "reject", "wait"] as const) {
  Deno.test(`what was confirmed makes room for all that comes at once, ${overflow}`, async () => {
    using dir = new TempDir();
    const block = new Uint8Array(2 ** 20);
    const options = { maxBytes: 16 * block.length, overflow, durability: "process-crash" } as const;
    await using queue = await OutboundQueue.open(dir.queue, options);
    for (let i = 0; i < 16; i++) await queue.enqueue(block);
    const sending = sendingSideOf(queue);
    for (let afterId = 0; afterId < 16;) {
      afterId = lastIdOf(
        (await sending.readBatches(afterId, block.length)).at(-1) ?? assert.fail(),
      );
    }
    const removed = sending.removeThrough(16);
    const { lastId } = await queue.enqueueMany(Array(6).fill(block));
    await removed;
    assert.equal(lastId, 22);
    const { packets, droppedPackets } = queue.stats();
    assert.deepEqual({ packets, droppedPackets }, { packets: 6, droppedPackets: 0 });
  });
}

Deno.test("a queue that was emptied is small once it is closed", async () => {
  using dir = new TempDir();
  const queue = await OutboundQueue.open(dir.queue, { durability: "process-crash" });
  for (let i = 0; i < 30; i++) await queue.enqueue(new Uint8Array(1e6));
  await sendingSideOf(queue).removeThrough(29);
  await queue.close();
  const { size } = Deno.statSync(dir.queue);
  assert(size < 2e6, `${size} bytes for a packet of 1e6`);
});

Deno.test("disk full: a removal that has room for little is done in parts", async () => {
  using dir = new TempDir();
  // How many rows a removal may take at a time.
  let room = Infinity;
  let commits = 0;
  let removed = 0, removing = 0;
  const driver: SqliteDriver = {
    name: "a full disk",
    open(path, options) {
      const database = nodeSqlite.open(path, options);
      return {
        close: () => database.close(),
        prepare(sql) {
          const statement = database.prepare(sql);
          return {
            all: (params) => statement.all(params),
            run(params) {
              if (sql.startsWith("DELETE FROM packets WHERE last_id > -")) {
                removing = Number(params[0]);
              }
              if (sql === "COMMIT") {
                commits++;
                if (removing - removed > room) throw new SqliteError(FULL, "injected");
                removed = removing;
              }
              statement.run(params);
            },
          };
        },
      };
    },
  };
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  for (let i = 0; i < 64; i++) await queue.enqueue(bytes("x"));
  room = 8;
  await sendingSideOf(queue).removeThrough(50);
  assert.equal(queue.stats().packets, 14);
  assert.equal(queue.removedThroughId, 50);
  // Where there is no room at all it fails, and soon.
  room = commits = 0;
  await assert.rejects(sendingSideOf(queue).removeThrough(64), { reason: "disk-full" });
  assert(commits > 1 && commits <= 6, `${commits} attempts`);
  assert.equal(queue.stats().packets, 14);
  room = Infinity;
  await sendingSideOf(queue).removeThrough(64);
  assert.equal(queue.stats().packets, 0);
});

Deno.test("a listener may come twice, and may leave and come again while it is called", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, {
    maxPackets: 1,
    overflow: "drop-oldest",
  });
  let calls = 0;
  const again = () => {
    leave();
    assert(++calls < 100, "it is called for ever");
    leave = queue.subscribeDropped(again);
  };
  let leave = queue.subscribeDropped(again);
  for (let i = 0; i < 3; i++) await queue.enqueue(bytes("x"));
  assert.equal(calls, 2);

  let heard = 0;
  const hear = () => void heard++;
  const [first, second] = [queue.subscribeDropped(hear), queue.subscribeDropped(hear)];
  await queue.enqueue(bytes("x"));
  assert.equal(heard, 2);
  first();
  await queue.enqueue(bytes("x"));
  assert.equal(heard, 3);
  second();
  await queue.enqueue(bytes("x"));
  assert.equal(heard, 3);
});
