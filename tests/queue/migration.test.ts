import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { SqliteError } from "../../src/queue/sqlite/driver.ts";
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

/** What the version that wrote version 2 ran on top of that. */
const VERSION_2: readonly string[] = [
  `CREATE TABLE expiry (
       last_id INTEGER PRIMARY KEY,
       expires_at_ms INTEGER NOT NULL
     )`,
  `CREATE INDEX expiry_by_time ON expiry (expires_at_ms)`,
  `CREATE TABLE dead_letters (
       id INTEGER PRIMARY KEY,
       enqueued_at_ms INTEGER NOT NULL,
       died_at_ms INTEGER NOT NULL,
       reason TEXT NOT NULL,
       sent INTEGER NOT NULL,
       attempts INTEGER NOT NULL,
       payload BLOB NOT NULL
     )`,
  `ALTER TABLE state ADD COLUMN dead_packets INTEGER NOT NULL DEFAULT 0`,
  `ALTER TABLE state ADD COLUMN dead_bytes INTEGER NOT NULL DEFAULT 0`,
  `ALTER TABLE state ADD COLUMN expired_packets INTEGER NOT NULL DEFAULT 0`,
  `ALTER TABLE state ADD COLUMN gave_up_packets INTEGER NOT NULL DEFAULT 0`,
  "PRAGMA user_version = 2",
];

/** A process of an old version: it has the file open and goes on writing. */
class OldProcess implements Disposable {
  readonly #database: DatabaseSync;

  constructor(path: string) {
    this.#database = new DatabaseSync(path, { timeout: 1000 });
  }

  make(version: 1 | 2): void {
    for (const sql of VERSION_1) this.#database.prepare(sql).all();
    if (version === 2) { for (const sql of VERSION_2) this.#database.prepare(sql).all(); }
  }

  /** As version 2 did: packet 3 expires, 4 is a dead letter. */
  expireAndBury(atMs: number): void {
    this.#transact(() => {
      this.#database.prepare("INSERT INTO expiry VALUES (3, ?)").run(atMs);
      this.#database.prepare("INSERT INTO dead_letters VALUES (4, 1004, 2000, 'gave-up', 1, 2, ?)")
        .run(bytes("d"));
      this.#database.prepare("DELETE FROM packets WHERE last_id = 4").run();
      this.#database.prepare(
        "UPDATE state SET packets = packets - 1, bytes = bytes - 1, dead_packets = 1, " +
          "dead_bytes = 1, gave_up_packets = 1",
      ).run();
    });
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

  /** What each of its transactions begins with. */
  readCounts(): void {
    this.#database.prepare("SELECT packets, bytes, last_id FROM state").all();
  }

  version(): number {
    return Number(this.#database.prepare("PRAGMA user_version").get()?.["user_version"]);
  }

  schema(): unknown[] {
    return this.#database.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name").all();
  }

  #transact(work: () => void): void {
    this.#database.prepare("BEGIN IMMEDIATE").run();
    try {
      work();
    } catch (error) {
      this.#database.prepare("ROLLBACK").run();
      throw error;
    }
    this.#database.prepare("COMMIT").run();
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}

const VERSIONS = [1, 2] as const;

/** A file with packets 2 ("bb") to 5, in three rows, the first of which is partly removed. */
function makeOldFile(path: string, version: 1 | 2 = 1): OldProcess {
  const old = new OldProcess(path);
  old.make(version);
  old.store("a", "bb", "c");
  old.store("d");
  old.store("e");
  old.markRemoved(1, 1, 1);
  return old;
}

async function contents(queue: OutboundQueue): Promise<string[]> {
  return (await queue.read(0, 1000)).map(({ id, payload }) => `${id}=${text(payload)}`);
}

for (const version of VERSIONS) {
  Deno.test(`a file of version ${version} becomes one of version 3: nothing in it changes, everything new works`, async () => {
    using dir = new TempDir();
    makeOldFile(dir.queue, version)[Symbol.dispose]();
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
    await sendingSideOf(queue).giveUp(3, 1);
    clock.advance(1);
    assert.deepEqual(await sendingSideOf(queue).readBatches(5, 100), []);
    await queue.requeue({ firstId: 3, lastId: 3 });
    await queue.close();
    await using again = await OutboundQueue.open(dir.queue);
    assert.deepEqual(await contents(again), ["2=bb", "4=d", "5=e", "7=c"]);
    assert.deepEqual((await again.deadLetters(0, 10)).map(({ id }) => id), [6]);
    // Also one whose last row is as version 3 writes it, and newer than the counts.
    assert.equal(await again.enqueue(bytes("x".repeat(20_000))), 8);
    assert.equal(await again.enqueue(bytes("y")), 9);
    await sendingSideOf(again).removeThrough(8);
    assert.deepEqual(await contents(again), ["9=y"]);
    using inspector = await QueueInspector.open(dir.queue);
    assert.deepEqual(await inspector.check(), []);
  });
}

Deno.test("expiry and dead letters of version 2 stay what they are", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  {
    using old = makeOldFile(dir.queue, 2);
    old.expireAndBury(clock.wallMs() + 10);
  }
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  assert.deepEqual(await queue.deadLetters(0, 100), [{
    ...{ id: 4, enqueuedAtMs: 1004, diedAtMs: 2000, reason: "gave-up", sent: true, attempts: 2 },
    words: undefined,
    payload: bytes("d"),
  }]);
  const [first] = await sendingSideOf(queue).readBatches(1, 100);
  assert.equal(first?.expiresAtMs, clock.wallMs() + 10);
  clock.advance(10);
  assert.deepEqual((await sendingSideOf(queue).readBatches(1, 100)).map(({ firstId }) => firstId), [
    5,
  ]);
  assert.deepEqual((await queue.deadLetters(0, 100)).map(({ id }) => id), [2, 3, 4]);
  const { deadPackets, gaveUpPackets, expiredPackets } = queue.stats();
  assert.deepEqual([deadPackets, gaveUpPackets, expiredPackets], [3, 1, 2]);
});

Deno.test("an upgraded file has the tables of a new one, with the new columns behind", async () => {
  const layouts = [];
  for (const version of VERSIONS) {
    using dir = new TempDir();
    using old = makeOldFile(dir.queue, version);
    await (await OutboundQueue.open(dir.queue)).close();
    await (await OutboundQueue.open(dir.file("new"))).close();
    using fresh = new OldProcess(dir.file("new"));
    assert.equal(old.version(), 3);
    const layout = (process: OldProcess) =>
      process.schema().map((row) => Object.values(Object(row)))
        .filter(([, name]) => name !== "packets" && name !== "dead_letters");
    assert.deepEqual(layout(old), layout(fresh));
    layouts.push(old.schema());
    // Both are opened again, and not taken for somebody else's.
    for (const path of [dir.queue, dir.file("new")]) {
      await (await OutboundQueue.open(path)).close();
    }
  }
  assert.deepEqual(layouts[0], layouts[1]);
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
    await sendingSideOf(queue).pollOtherProcesses();
    assert.equal(queue.stats().packets, 8);
    await queue.close();
  }
});

for (const version of VERSIONS) {
  Deno.test(`an upgrade that fails leaves version ${version}`, async () => {
    using dir = new TempDir();
    makeOldFile(dir.queue, version)[Symbol.dispose]();
    const hash = await sha256(dir.queue);
    let failed = 0;
    // Each statement of it in turn.
    for (let at = 0;; at++) {
      const driver = new FaultDriver();
      let statements = 0;
      let isUpgrading = false;
      driver.fault = (sql) => {
        isUpgrading ||= sql === "BEGIN IMMEDIATE";
        const fails = isUpgrading && statements++ === at;
        if (sql === "COMMIT" || fails) isUpgrading = false;
        return fails ? new SqliteError(13, "injected") : undefined;
      };
      const opened = await OutboundQueue.open(dir.queue, { driver }).catch((error) => error);
      if (opened instanceof OutboundQueue) {
        assert.equal(opened.stats().packets, 4);
        await opened.close();
        break;
      }
      failed++;
      assert.equal(opened.reason, "disk-full", String(opened));
      assert.equal(await sha256(dir.queue), hash, `statement ${at}`);
    }
    assert(failed > 15, `${failed} statements`);
  });

  Deno.test(`an upgrade of version ${version} that is killed is not begun, or complete`, async () => {
    using dir = new TempDir();
    makeOldFile(dir.queue, version)[Symbol.dispose]();
    const driver = new FaultDriver();
    let moments = 0;
    // The file and its log as they are before each statement: what a killed process leaves.
    driver.fault = () => {
      const copy = dir.file(`copy${moments++}`);
      for (const end of ["", "-wal"]) {
        try {
          Deno.copyFileSync(dir.queue + end, copy + end);
        } catch (error) {
          if (!(error instanceof Deno.errors.NotFound)) throw error;
        }
      }
      return undefined;
    };
    const queue = await OutboundQueue.open(dir.queue, { driver });
    driver.heal();
    await queue.close();
    const versions = new Set<number>();
    for (let i = 0; i < moments; i++) {
      {
        using old = new OldProcess(dir.file(`copy${i}`));
        versions.add(old.version());
      }
      await using again = await OutboundQueue.open(dir.file(`copy${i}`));
      assert.deepEqual(await contents(again), ["2=bb", "3=c", "4=d", "5=e"]);
      assert.equal(await again.enqueue(bytes("f")), 6);
    }
    assert.deepEqual([...versions], [version, 3]);
  });
}

Deno.test("an upgrade costs the same for a large file: packets are not rewritten", async () => {
  using dir = new TempDir();
  const old = new OldProcess(dir.queue);
  old.make(2);
  for (let i = 0; i < 100; i++) old.store("x".repeat(100_000));
  old[Symbol.dispose]();
  const before = Deno.statSync(dir.queue).size;
  await using _queue = await OutboundQueue.open(dir.queue);
  assert(before > 10_000_000);
  assert(Deno.statSync(`${dir.queue}-wal`).size < 100_000);
});

Deno.test("an old process that has the file open fails, and does no harm", async () => {
  for (const version of VERSIONS) {
    using dir = new TempDir();
    using old = makeOldFile(dir.queue, version);
    await using queue = await OutboundQueue.open(dir.queue);
    assert.equal(await queue.enqueue(bytes("f")), 6);
    assert.throws(() => old.store("g"), /no such column|has 11 columns/);
    assert.throws(() => old.removeThrough(6, 5, 6), /no such column/);
    assert.throws(() => old.readCounts(), /no such column/);
    await sendingSideOf(queue).pollOtherProcesses();
    assert.deepEqual(await contents(queue), ["2=bb", "3=c", "4=d", "5=e", "6=f"]);
    assert.equal(await queue.enqueue(bytes("h")), 7);
  }
});
