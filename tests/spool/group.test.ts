/** Queues share a transaction, and each fails alone. */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { QueueFileError } from "../../src/base/errors.ts";
import { type OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { type SqliteDriver, SqliteError } from "../../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { spoolInspector } from "../../src/spool/spool.ts";
import { text } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FaultDriver } from "../queue/helpers.ts";
import { openAll, sql } from "./helpers.ts";

const FULL = 13, IOERR = 10;

/** What a queue holds, in order. */
async function textsOf(queue: OutboundQueue): Promise<string[]> {
  return (await queue.read(0, 1e9)).map(({ payload }) => text(payload));
}

/** How each has ended: what it gave, or the reason and the outcome of its error. */
async function endsOf(promises: readonly Promise<unknown>[]): Promise<unknown[]> {
  return (await Promise.allSettled(promises)).map((end) => {
    if (end.status === "fulfilled") return end.value;
    assert(end.reason instanceof QueueFileError, String(end.reason));
    return `${end.reason.reason}, ${end.reason.outcome}`;
  });
}

async function assertSound(file: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    using inspector = await spoolInspector(file, name);
    assert.deepEqual(await inspector.check(), [], name);
  }
}

function count(driver: FaultDriver, word: string): number {
  return driver.log.filter((entry) => entry === word).length;
}

Deno.test("what queues of a spool store in one moment is one transaction", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queues = await openAll(dir.queue, ["a", "b", "c"], { driver });
  const [a, b, c] = queues.all;
  driver.log.length = 0;
  assert.deepEqual(
    await endsOf([a.enqueue("a1"), b.enqueue("b1"), b.enqueue("b2"), c.enqueue("c1")]),
    [1, 1, 2, 1],
  );
  assert.deepEqual([count(driver, "BEGIN"), count(driver, "COMMIT")], [1, 1]);
  // What one of them removes goes along.
  driver.log.length = 0;
  await Promise.all([sendingSideOf(b).removeThrough(1), c.enqueue("c2")]);
  assert.deepEqual([count(driver, "BEGIN"), count(driver, "COMMIT")], [1, 1]);
  assert.deepEqual(await textsOf(a), ["a1"]);
  assert.deepEqual(await textsOf(b), ["b2"]);
  assert.deepEqual(await textsOf(c), ["c1", "c2"]);
});

Deno.test("a queue whose counts contradict fails alone, and of the others nothing is stored twice", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queues = await openAll(dir.queue, ["a", "b", "c"], { driver });
  const [a, b, c] = queues.all;
  sql(dir.queue, "UPDATE state SET dead_packets = -1 WHERE queue = 2");
  for (let round = 1; round <= 3; round++) {
    driver.log.length = 0;
    const ends = await endsOf([
      a.enqueue(`a${round}`),
      b.enqueue(`b${round}`),
      b.enqueue("b"),
      c.enqueue(`c${round}`),
    ]);
    const corrupt = "corrupt, nothing-stored";
    assert.deepEqual(ends, [round, corrupt, corrupt, round]);
    assert(count(driver, "SAVEPOINT") > 1, "they have shared a transaction");
    // The others still do: a queue that is damaged costs nobody a sync.
    assert.equal(count(driver, "COMMIT"), 1);
  }
  sql(dir.queue, "UPDATE state SET dead_packets = 0 WHERE queue = 2");
  assert.equal(await b.enqueue("b4"), 1);
  assert.deepEqual(await textsOf(a), ["a1", "a2", "a3"]);
  assert.deepEqual(await textsOf(b), ["b4"]);
  assert.deepEqual(await textsOf(c), ["c1", "c2", "c3"]);
  await assertSound(dir.queue, ["a", "b", "c"]);
});

Deno.test("a queue whose row is damaged sets it aside within the transaction of all", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queues = await openAll(dir.queue, ["a", "b", "c"], { driver });
  const [a, b, c] = queues.all;
  for (const words of ["b1", "b2", "b3"]) await b.enqueue(words);
  sql(dir.queue, "UPDATE packets SET payload = x'00' WHERE queue = 2 AND last_id % 16 = 2");
  driver.log.length = 0;
  await Promise.all([a.enqueue("a1"), sendingSideOf(b).giveUp(2, 1), c.enqueue("c1")]);
  assert.deepEqual([count(driver, "BEGIN"), count(driver, "COMMIT")], [1, 1]);
  assert.deepEqual(await textsOf(a), ["a1"]);
  assert.deepEqual(await textsOf(b), ["b1", "b3"]);
  assert.deepEqual(await textsOf(c), ["c1"]);
  const [letter, ...none] = await b.deadLetters(0, 1e9);
  assert.deepEqual([letter?.id, letter?.reason, none], [2, "damaged", []]);
  await assertSound(dir.queue, ["a", "b", "c"]);
});

Deno.test("a page that cannot be read concerns the queue whose page it is", async () => {
  using dir = new TempDir();
  {
    await using queues = await openAll(dir.queue, ["a", "b", "c"]);
    for (const queue of queues.all) {
      for (let i = 0; i < 40; i++) await queue.enqueue(`${queue.path} ${i} `.padEnd(3000, "."));
    }
  }
  const file = Deno.readFileSync(dir.queue);
  const at = new TextDecoder("latin1").decode(file).indexOf("#b 20 ...");
  const page = Math.floor(at / 4096) * 4096;
  file.fill(0xff, page, page + 100);
  Deno.writeFileSync(dir.queue, file);
  await using queues = await openAll(dir.queue, ["a", "b", "c"]);
  const [a, b, c] = queues.all;
  const ends = await endsOf([
    a.enqueue("a"),
    sendingSideOf(a).removeThrough(30),
    sendingSideOf(b).removeThrough(30),
    c.enqueue("c"),
    sendingSideOf(c).removeThrough(30),
  ]);
  assert.deepEqual(ends, [41, undefined, "corrupt, nothing-stored", 41, undefined]);
  assert.deepEqual(queues.all.map((queue) => queue.stats().packets), [11, 40, 11]);
});

Deno.test("a COMMIT that reports an error of the disk: nobody knows, and nothing is tried again", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  await using queues = await openAll(dir.queue, ["a", "b", "c"], { driver });
  const [a, b, c] = queues.all;
  await b.enqueue("b1");
  driver.failNext("COMMIT", IOERR);
  driver.log.length = 0;
  const unknown = "io, unknown";
  assert.deepEqual(
    await endsOf([
      a.enqueue("lost"),
      b.enqueue("lost"),
      sendingSideOf(b).removeThrough(1),
      c.enqueueMany(["lost", "lost"]),
    ]),
    [unknown, unknown, unknown, unknown],
  );
  assert.deepEqual([count(driver, "INSERT"), count(driver, "COMMIT")], [3, 0]);
  assert.deepEqual(await endsOf([a.enqueue("a1"), b.enqueue("b2"), c.enqueue("c1")]), [1, 2, 1]);
  await assertSound(dir.queue, ["a", "b", "c"]);
});

Deno.test("what such a COMMIT has stored after all is there once", async () => {
  using dir = new TempDir();
  let fails = false;
  const driver: SqliteDriver = {
    name: "node:sqlite whose COMMIT works and reports an error",
    open(path, options) {
      const database = nodeSqlite.open(path, options);
      return {
        close: () => database.close(),
        prepare(sql) {
          const statement = database.prepare(sql);
          return {
            all: (params) => statement.all(params),
            run(params) {
              statement.run(params);
              if (sql === "COMMIT" && fails) throw new SqliteError(IOERR, "injected");
            },
          };
        },
      };
    },
  };
  await using queues = await openAll(dir.queue, ["a", "b", "c"], { driver });
  const [a, b, c] = queues.all;
  fails = true;
  const unknown = "io, unknown";
  assert.deepEqual(
    await endsOf([a.enqueue("a1"), b.enqueue("b1"), c.enqueue("c1")]),
    [unknown, unknown, unknown],
  );
  fails = false;
  assert.deepEqual(await endsOf([a.enqueue("a2"), b.enqueue("b2"), c.enqueue("c2")]), [2, 2, 2]);
  for (const [i, name] of ["a", "b", "c"].entries()) {
    assert.deepEqual(await textsOf(queues.all[i] ?? assert.fail()), [`${name}1`, `${name}2`]);
  }
  await assertSound(dir.queue, ["a", "b", "c"]);
});

const LARGE = 100_000;
for (const statement of ["COMMIT", "INSERT INTO packets"]) {
  for (const rollsBack of [false, true]) {
    const how = `${statement.split(" ")[0]}${rollsBack ? ", which ends the transaction" : ""}`;
    Deno.test(`a disk with no room for one queue's packet: removals first, others unharmed (${how})`, async () => {
      using dir = new TempDir();
      const driver = new FaultDriver();
      driver.rollsBack = rollsBack;
      await using queues = await openAll(dir.queue, ["a", "b", "c", "d"], { driver });
      const [a, b, c, d] = queues.all;
      await d.enqueueMany(["d1", "d2"]);
      // Full as soon as a transaction holds the large packet.
      let large = false;
      let failures = 0;
      const afterwards: string[] = [];
      driver.fault = (sql, largestBytes) => {
        if (sql === "BEGIN IMMEDIATE") large = false;
        if (largestBytes === LARGE) large = true;
        if (large && sql.startsWith(statement)) {
          failures++;
          return new SqliteError(FULL, "injected");
        }
        if (failures > 0 && /^(INSERT|DELETE) /.test(sql)) afterwards.push(sql.slice(0, 6));
        return undefined;
      };
      const full = "disk-full, nothing-stored";
      assert.deepEqual(
        await endsOf([
          a.enqueue("a1"),
          b.enqueue(new Uint8Array(LARGE)),
          c.enqueue("c1"),
          sendingSideOf(d).removeThrough(1),
        ]),
        [1, full, 1, undefined],
      );
      assert(failures >= 2, `${failures} failures: together, and then alone`);
      assert.equal(afterwards[0], "DELETE", afterwards.join(" "));
      driver.heal();
      assert.deepEqual(await textsOf(a), ["a1"]);
      assert.deepEqual(await textsOf(b), []);
      assert.deepEqual(await textsOf(c), ["c1"]);
      assert.deepEqual(await textsOf(d), ["d2"]);
      assert.equal(await b.enqueue("b1"), 1);
      await assertSound(dir.queue, ["a", "b", "c", "d"]);
    });
  }
}

Deno.test("a disk without room for anything: what removes is done, what stores is rejected", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  driver.rollsBack = true;
  await using queues = await openAll(dir.queue, ["a", "b", "c"], { driver });
  const [a, b, c] = queues.all;
  for (const queue of queues.all) {
    // A row each: to cut one would store.
    for (const words of ["1", "2", "3"]) await queue.enqueue(words);
  }
  let inserts = false;
  driver.fault = (sql) => {
    if (sql === "BEGIN IMMEDIATE") inserts = false;
    if (sql.startsWith("INSERT INTO packets")) inserts = true;
    return sql === "COMMIT" && inserts ? new SqliteError(FULL, "injected") : undefined;
  };
  const full = "disk-full, nothing-stored";
  assert.deepEqual(
    await endsOf([
      a.enqueue("4"),
      sendingSideOf(b).removeThrough(2),
      c.enqueue("4"),
      c.removePackets({ firstId: 2, lastId: 2 }),
    ]),
    [full, undefined, full, { packets: 1, bytes: 1 }],
  );
  driver.heal();
  assert.deepEqual(await textsOf(a), ["1", "2", "3"]);
  assert.deepEqual(await textsOf(b), ["3"]);
  assert.deepEqual(await textsOf(c), ["1", "3"]);
  assert.deepEqual(await endsOf([a.enqueue("4"), b.enqueue("4"), c.enqueue("4")]), [4, 4, 4]);
  await assertSound(dir.queue, ["a", "b", "c"]);
});

Deno.test("another process that writes holds up all of them, and loses nothing", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b", "c"], { busyTimeoutMs: 60 });
  const other = new DatabaseSync(dir.queue);
  other.exec("BEGIN IMMEDIATE");
  const busy = "busy, nothing-stored";
  const enqueue = () => queues.all.map((queue) => queue.enqueue("x"));
  assert.deepEqual(await endsOf(enqueue()), [busy, busy, busy]);
  other.exec("ROLLBACK");
  other.close();
  assert.deepEqual(await endsOf(enqueue()), [1, 1, 1]);
});
