import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { APPLICATION_ID } from "../../src/queue/store/schema.ts";
import { bytes, text } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FaultDriver, sha256 } from "./helpers.ts";

/** What the version that wrote version 1 ran, to the letter. */
const VERSION_1: readonly string[] = [
  "PRAGMA page_size = 4096",
  "PRAGMA auto_vacuum = incremental",
  "PRAGMA journal_mode = wal",
  `CREATE TABLE packets (
     last_id INTEGER PRIMARY KEY,
     enqueued_at_ms INTEGER NOT NULL,
     ends BLOB,
     payload BLOB NOT NULL
   )`,
  `CREATE TABLE state (
     one INTEGER PRIMARY KEY CHECK (one = 1),
     packets INTEGER NOT NULL,
     bytes INTEGER NOT NULL,
     last_id INTEGER NOT NULL,
     removed_through INTEGER NOT NULL,
     sent_through INTEGER NOT NULL,
     dropped_packets INTEGER NOT NULL,
     dropped_bytes INTEGER NOT NULL
   )`,
  `INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, 0, 0)`,
  `PRAGMA application_id = ${APPLICATION_ID}`,
  "PRAGMA user_version = 1",
];

/** A process of the old version: it has the file open and goes on writing. */
class OldProcess implements Disposable {
  readonly #database: DatabaseSync;

  constructor(path: string) {
    this.#database = new DatabaseSync(path, { timeout: 1000 });
  }

  make(): void {
    for (const sql of VERSION_1) this.#database.prepare(sql).all();
  }

  /** Stores a batch, as one row. */
  store(...packets: readonly string[]): void {
    const payloads = packets.map((text) => bytes(text));
    const size = payloads.reduce((sum, { length }) => sum + length, 0);
    let end = 0;
    const ends = Uint32Array.from(payloads, ({ length }) => end += length);
    this.#transact(() => {
      const state = this.#database.prepare("SELECT last_id FROM state").get();
      const lastId = Number(state?.["last_id"]) + payloads.length;
      this.#database.prepare("INSERT INTO packets VALUES (?, ?, ?, ?)").run(
        lastId,
        1_000 + lastId,
        ends.length === 1 ? null : new Uint8Array(ends.buffer),
        bytes(packets.join("")),
      );
      this.#database.prepare(
        "UPDATE state SET packets = packets + ?, bytes = bytes + ?, last_id = ?",
      ).run(payloads.length, size, lastId);
    });
  }

  /** Removes whole rows, of these many packets and bytes. */
  removeThrough(id: number, packets: number, size: number): void {
    this.#transact(() => {
      this.#database.prepare("DELETE FROM packets WHERE last_id <= ?").run(id);
      this.#database.prepare(
        "UPDATE state SET packets = packets - ?, bytes = bytes - ?, removed_through = ?, " +
          "sent_through = ?",
      ).run(packets, size, id, id);
    });
  }

  /** The same in the middle of a row. */
  markRemoved(id: number, packets: number, size: number): void {
    this.#database.prepare(
      "UPDATE state SET packets = packets - ?, bytes = bytes - ?, removed_through = ?",
    ).run(packets, size, id);
  }

  version(): number {
    return Number(this.#database.prepare("PRAGMA user_version").get()?.["user_version"]);
  }

  schema(): unknown[] {
    return this.#database.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name").all();
  }

  #transact(work: () => void): void {
    this.#database.prepare("BEGIN IMMEDIATE").run();
    work();
    this.#database.prepare("COMMIT").run();
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}

/** A file with packets 2 ("bb") to 5, in two rows, the first of which is partly removed. */
function makeOldFile(path: string): OldProcess {
  const old = new OldProcess(path);
  old.make();
  old.store("a", "bb", "c");
  old.store("d");
  old.store("e");
  old.markRemoved(1, 1, 1);
  return old;
}

async function contents(queue: OutboundQueue): Promise<string[]> {
  return (await queue.read(0, 1000)).map(({ id, payload }) => `${id}=${text(payload)}`);
}

Deno.test("a file of version 1 becomes one of version 2: nothing in it changes, everything new works", async () => {
  using dir = new TempDir();
  makeOldFile(dir.queue)[Symbol.dispose]();
  const clock = new ManualClock();
  const queue = await OutboundQueue.open(dir.queue, { clock });
  const { packets, bytes: size, lastId, oldestEnqueuedAtMs, deadPackets, deadBytes } = queue
    .stats();
  assert.deepEqual(
    { packets, size, lastId, oldestEnqueuedAtMs, deadPackets, deadBytes },
    { packets: 4, size: 5, lastId: 5, oldestEnqueuedAtMs: 1003, deadPackets: 0, deadBytes: 0 },
  );
  assert.equal(queue.removedThroughId, 1);
  assert.deepEqual(await contents(queue), ["2=bb", "3=c", "4=d", "5=e"]);
  assert.equal(await queue.enqueue(bytes("f"), { ttlMs: 1 }), 6);
  await queue.giveUp(3, 1);
  clock.wall += 1;
  assert.deepEqual(await queue.readBatches(5, 100), []);
  await queue.requeue({ firstId: 3, lastId: 3 });
  await queue.close();
  await using again = await OutboundQueue.open(dir.queue);
  assert.deepEqual(await contents(again), ["2=bb", "4=d", "5=e", "7=c"]);
  assert.deepEqual((await again.deadLetters(0, 10)).map(({ id }) => id), [6]);
});

Deno.test("an upgraded file and a new one have the same schema", async () => {
  using dir = new TempDir();
  using old = makeOldFile(dir.queue);
  await (await OutboundQueue.open(dir.queue)).close();
  await (await OutboundQueue.open(dir.file("new"))).close();
  using fresh = new OldProcess(dir.file("new"));
  assert.equal(old.version(), 2);
  assert.deepEqual(old.schema(), fresh.schema());
});

Deno.test("several open an old file at the same time: one upgrades it, all can use it", async () => {
  using dir = new TempDir();
  makeOldFile(dir.queue)[Symbol.dispose]();
  // The second comes while the first has seen the old version, and is quicker.
  const driver = new FaultDriver();
  let second: Promise<OutboundQueue> | undefined;
  driver.fault = (sql) => {
    if (sql === "BEGIN IMMEDIATE") second ??= OutboundQueue.open(dir.queue);
    return undefined;
  };
  const queues = await Promise.all([
    OutboundQueue.open(dir.queue, { driver }),
    OutboundQueue.open(dir.queue),
    OutboundQueue.open(dir.queue),
  ]);
  assert(second);
  queues.push(await second);
  for (const queue of queues) await queue.enqueue(bytes("x"));
  for (const queue of queues) {
    await queue.pollOtherProcesses();
    assert.equal(queue.stats().packets, 8);
    await queue.close();
  }
});

Deno.test("an upgrade that fails leaves version 1", async () => {
  using dir = new TempDir();
  makeOldFile(dir.queue)[Symbol.dispose]();
  for (
    const statement of ["CREATE TABLE dead_letters", "ALTER", "PRAGMA user_version =", "COMMIT"]
  ) {
    const hash = await sha256(dir.queue);
    const driver = new FaultDriver();
    driver.failNext(statement, 13);
    await assert.rejects(OutboundQueue.open(dir.queue, { driver }), { reason: "disk-full" });
    assert.equal(await sha256(dir.queue), hash, statement);
    using old = new OldProcess(dir.queue);
    assert.equal(old.version(), 1);
    assert.deepEqual(old.schema().map((row) => Object.values(Object(row))[1]), [
      "packets",
      "state",
    ]);
  }
  await using queue = await OutboundQueue.open(dir.queue);
  assert.equal(queue.stats().packets, 4);
});

Deno.test("an upgrade costs the same for a large file: packets are not rewritten", async () => {
  using dir = new TempDir();
  const old = new OldProcess(dir.queue);
  old.make();
  for (let i = 0; i < 100; i++) old.store("x".repeat(100_000));
  old[Symbol.dispose]();
  const before = Deno.statSync(dir.queue).size;
  await using _queue = await OutboundQueue.open(dir.queue);
  assert(before > 10_000_000);
  assert(Deno.statSync(`${dir.queue}-wal`).size < 100_000);
});

Deno.test("an old process that has the file open goes on, and does no harm", async () => {
  using dir = new TempDir();
  using old = makeOldFile(dir.queue);
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  assert.equal(await queue.enqueue(bytes("f"), { ttlMs: 10 }), 6);
  old.store("g");
  // It does not know of the expiry of 6, and leaves that behind.
  old.removeThrough(6, 5, 6);
  clock.wall += 10;
  let deaths = 0;
  queue.subscribeDead(() => deaths++);
  const end = queue.sweepExpired();
  await queue.pollOtherProcesses();
  assert.deepEqual((await queue.readBatches(0, 100)).map(({ firstId }) => firstId), [7]);
  end();
  assert.deepEqual([deaths, queue.stats().packets, queue.removedThroughId], [0, 1, 6]);
  assert.equal(await queue.enqueue(bytes("h")), 8);
});
