import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { driverOf } from "../../src/db_sqlite/adapter.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { codeFromText, type SqliteDriver, SqliteError } from "../../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { bytes, text } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { unless } from "./helpers.ts";

/** Computed, so that only one file depends on JSR. */
const DB_SQLITE = ["jsr:", "@db/sqlite@^0.13.0"].join("");

interface Candidate {
  readonly name: string;
  readonly driver: SqliteDriver;
  /** Why it cannot be had. */
  readonly why?: string;
}

/**
 * What `@sendq/sendq/db-sqlite` exports. With this repository's `deno.json` it
 * runs on the stand-in, with `deno task test:jsr` on the real library, where
 * that can be had.
 */
async function loadDbSqlite(): Promise<Candidate> {
  let isStandIn: boolean;
  try {
    const library = await import(DB_SQLITE);
    isStandIn = "isStandIn" in library;
  } catch (error) {
    const [first = ""] = String(error).split("\n");
    return { name: "@db/sqlite", driver: nodeSqlite, why: first };
  }
  // A fault of ours is none of the library's: it is thrown.
  const { dbSqlite } = await import("../../src/db_sqlite/mod.ts");
  return { name: isStandIn ? "@db/sqlite (stand-in)" : "@db/sqlite", driver: dbSqlite };
}

const DRIVERS: readonly Candidate[] = [
  { name: "node:sqlite", driver: nodeSqlite },
  await loadDbSqlite(),
];

const WRITABLE = { readOnly: false, busyTimeoutMs: 1 };

for (const { name, driver, why } of DRIVERS) {
  const conformance = (what: string, run: () => void | Promise<void>) =>
    Deno.test({ ...unless(why, `${name}: ${what}`), fn: run });

  conformance("the busy timeout is what was asked for, also to read only", () => {
    using dir = new TempDir();
    for (const readOnly of [false, true]) {
      const database = driver.open(dir.queue, { readOnly, busyTimeoutMs: 13 });
      assert.deepEqual(database.prepare("PRAGMA busy_timeout").all([]), [[13]]);
      database.close();
    }
  });

  conformance("values survive unchanged, integers in full", () => {
    using dir = new TempDir();
    const database = driver.open(dir.queue, WRITABLE);
    database.prepare("CREATE TABLE t (a INTEGER, b BLOB, c TEXT)").run([]);
    const insert = database.prepare("INSERT INTO t VALUES (?, ?, ?)");
    const whole = new Uint8Array([9, 0, 255, 7]);
    insert.run([2 ** 53 - 1, whole.subarray(1, 3), "text"]);
    insert.run([2 ** 31, new Uint8Array(70_000).fill(5), null]);
    insert.run([-1, new Uint8Array([0]), ""]);
    const rows = database.prepare("SELECT a, b, c FROM t ORDER BY rowid").all([]);
    assert.deepEqual(rows[0], [2 ** 53 - 1, new Uint8Array([0, 255]), "text"]);
    assert.deepEqual(rows[1], [2 ** 31, new Uint8Array(70_000).fill(5), null]);
    assert.deepEqual(rows[2], [-1, new Uint8Array([0]), ""]);
    database.close();
  });

  conformance("a BLOB has memory of its own, which may be given back", () => {
    using dir = new TempDir();
    const database = driver.open(dir.queue, WRITABLE);
    const select = database.prepare("SELECT x'0102', x'03', zeroblob(70000)");
    const [first, ...others] = select.all([])[0] ?? [];
    assert(first instanceof Uint8Array && first.buffer instanceof ArrayBuffer);
    first.buffer.transfer(0);
    assert.deepEqual(others, [Uint8Array.of(3), new Uint8Array(70_000)]);
    assert.deepEqual(select.all([])[0]?.[0], Uint8Array.of(1, 2));
    database.close();
  });

  conformance("a number beyond 2^53 is damage, and never another number", () => {
    using dir = new TempDir();
    const database = driver.open(dir.queue, WRITABLE);
    const read = (number: bigint) => database.prepare(`SELECT ${number}`).all([])[0]?.[0];
    const largest = BigInt(Number.MAX_SAFE_INTEGER);
    for (const number of [largest, -largest, 2n ** 31n, -1n, 0n]) {
      assert.equal(read(number), Number(number));
    }
    for (const number of [largest + 1n, -largest - 1n, 9007199254740993n, 2n ** 63n - 1n]) {
      assert.throws(() => read(number), hasCode(11), String(number));
    }
    assert.equal(read(7n), 7); // Usable after an error.
    database.close();
  });

  conformance("check sees a count that no sender has written", async () => {
    for (
      const change of [
        "UPDATE state SET dropped_packets = 9007199254740993",
        "UPDATE state SET dead_bytes = 9223372036854775807",
        "UPDATE packets SET queued_packets = 9007199254740993",
      ]
    ) {
      using dir = new TempDir();
      const queue = await OutboundQueue.open(dir.queue, { driver });
      await queue.enqueue(bytes("one"));
      await queue.close();
      const file = new DatabaseSync(dir.queue);
      file.exec(change);
      file.close();
      using inspector = await QueueInspector.open(dir.queue, { driver });
      const problems = await inspector.check();
      assert.deepEqual(problems.map(({ kind }) => kind), ["counts"], change);
    }
  });

  conformance("a numbered parameter can be used many times", () => {
    using dir = new TempDir();
    const database = driver.open(dir.queue, WRITABLE);
    const statement = database.prepare("SELECT ?1 + 0, ?1 + 1, ?2, ?3");
    assert.deepEqual(statement.all([40, 7, "x"]), [[40, 41, 7, "x"]]);
    database.close();
  });

  conformance("blobs that come back are copies", () => {
    using dir = new TempDir();
    const database = driver.open(dir.queue, WRITABLE);
    const select = database.prepare("SELECT x'0102'");
    const [first] = select.all([]);
    const blob = first?.[0];
    assert(blob instanceof Uint8Array);
    blob[0] = 99;
    assert.deepEqual(select.all([]), [[new Uint8Array([1, 2])]]);
    assert.equal(blob[0], 99);
    database.close();
  });

  conformance("errors carry SQLite's code", () => {
    using dir = new TempDir();
    const database = driver.open(dir.queue, WRITABLE);
    database.prepare("CREATE TABLE t (a INTEGER PRIMARY KEY)").run([]);
    const insert = database.prepare("INSERT INTO t VALUES (?)");
    insert.run([1]);
    assert.throws(() => insert.run([1]), hasCode(19));
    insert.run([2]); // Usable after an error.
    database.prepare("BEGIN IMMEDIATE").run([]);
    const other = driver.open(dir.queue, WRITABLE);
    assert.throws(() => other.prepare("BEGIN IMMEDIATE").run([]), hasCode(5));
    database.prepare("ROLLBACK").run([]);
    other.close();
    const reader = driver.open(dir.queue, { readOnly: true, busyTimeoutMs: 1 });
    assert.throws(() => reader.prepare("DELETE FROM t").run([]), hasCode(8));
    reader.close();
    database.close();
    Deno.writeTextFileSync(dir.file("junk.db"), "no database at all ".repeat(400));
    assert.throws(() => {
      const junk = driver.open(dir.file("junk.db"), WRITABLE);
      try {
        junk.prepare("SELECT count(*) FROM sqlite_schema").all([]);
      } finally {
        junk.close();
      }
    }, hasCode(26));
    assert.throws(() => driver.open(dir.path, WRITABLE), hasCode(14));
    assert.throws(() => driver.open(dir.file("none/x.db"), WRITABLE), hasCode(14));
  });

  conformance("incremental_vacuum(N) through all() frees N pages", () => {
    using dir = new TempDir();
    const database = driver.open(dir.queue, WRITABLE);
    database.prepare("PRAGMA auto_vacuum = incremental").all([]);
    database.prepare("CREATE TABLE t (b BLOB)").run([]);
    for (let i = 0; i < 40; i++) {
      database.prepare("INSERT INTO t VALUES (?)").run([new Uint8Array(8000)]);
    }
    database.prepare("DELETE FROM t").run([]);
    const free = () => Number(database.prepare("PRAGMA freelist_count").all([])[0]?.[0]);
    const before = free();
    database.prepare("PRAGMA incremental_vacuum(20)").all([]);
    assert.equal(free(), before - 20);
    database.close();
  });

  conformance("a queue works from end to end, over reopening", async () => {
    using dir = new TempDir();
    const options = { driver };
    const first = await OutboundQueue.open(dir.queue, options);
    assert.equal(await first.enqueue(bytes("one")), 1);
    const many = Array.from({ length: 200 }, (_, i) => bytes(`packet ${i}`));
    assert.deepEqual(await first.enqueueMany(many), { firstId: 2, lastId: 201 });
    await sendingSideOf(first).removeThrough(150);
    await first.close();
    const again = await OutboundQueue.open(dir.queue, options);
    assert.equal(again.stats().packets, 51);
    assert.equal(again.removedThroughId, 150);
    const packets = await again.read(0, 1e6);
    assert.deepEqual(packets.map(({ id }) => id), Array.from({ length: 51 }, (_, i) => 151 + i));
    assert.equal(text(packets[0]?.payload), "packet 149");
    await sendingSideOf(again).giveUp(160, 2);
    assert.equal((await sendingSideOf(again).readBatches(150, 1e6))[0]?.ends.length, 9);
    await again.requeue({ firstId: 160, lastId: 160 });
    assert.equal(text((await again.read(201, 100))[0]?.payload), "packet 158");
    await sendingSideOf(again).removeThrough(202);
    assert.equal(await again.enqueue(bytes("next"), { ttlMs: 1 }), 203);
    while ((await sendingSideOf(again).readBatches(202, 100)).length > 0);
    const [letter] = await again.deadLetters(0, 100);
    assert.deepEqual([letter?.id, letter?.reason, letter?.sent], [203, "expired", false]);
    await again.close();
  });
}

Deno.test("@db/sqlite's driver finds the code in the text where the library drops it", () => {
  class Fake {
    prepare() {
      return {
        run(): number {
          throw new Error("database or disk is full");
        },
        values: () => [[1]],
      };
    }
    close() {}
  }
  const database = driverOf(Fake).open("x", WRITABLE);
  assert.throws(() => database.prepare("COMMIT").run([]), hasCode(13));
  assert.equal(codeFromText("something new"), 1);
});

Deno.test("@db/sqlite's driver asks for 64-bit integers and never for lastInsertRowId", () => {
  const seen: unknown[] = [];
  class Fake {
    constructor(path: string, options: unknown) {
      seen.push(path, options);
    }
    get lastInsertRowId(): number {
      throw new Error("32 bits only");
    }
    prepare(sql: string) {
      seen.push(sql);
      return { run: () => 0, values: () => [] };
    }
    close() {}
  }
  driverOf(Fake).open("q.db", { readOnly: false, busyTimeoutMs: 7 });
  assert.deepEqual(seen, [
    "q.db",
    { readonly: false, create: true, int64: true },
    "PRAGMA busy_timeout = 7",
  ]);
});

// The traps of node:sqlite. Where the runtime itself errs, the test pins that it
// still does, so that a mended runtime is noticed, and what we do about it.

Deno.test("trap: exec errors carry no code, so BEGIN and COMMIT are prepared", () => {
  using dir = new TempDir();
  const one = new DatabaseSync(dir.queue), two = new DatabaseSync(dir.queue);
  one.prepare("BEGIN IMMEDIATE").run();
  const byExec = thrown(() => two.exec("BEGIN IMMEDIATE"));
  assert(!(byExec instanceof Error && "errcode" in byExec && byExec.errcode === 5));
  const byStatement = thrown(() => two.prepare("BEGIN IMMEDIATE").run());
  assert(byStatement instanceof Error && "errcode" in byStatement && byStatement.errcode === 5);
  one.close();
  two.close();
});

Deno.test("trap: exec of incremental_vacuum(N) frees one page only", () => {
  using dir = new TempDir();
  const database = new DatabaseSync(dir.queue);
  database.exec("PRAGMA auto_vacuum = incremental");
  database.exec("CREATE TABLE t (b BLOB)");
  for (let i = 0; i < 40; i++) database.prepare("INSERT INTO t VALUES (zeroblob(8000))").run();
  database.exec("DELETE FROM t");
  const free = () =>
    Number(Object.values(database.prepare("PRAGMA freelist_count").get() ?? {})[0]);
  const before = free();
  database.exec("PRAGMA incremental_vacuum(20)");
  assert.equal(free(), before - 1);
  database.close();
});

Deno.test("trap: preparing a pragma with a value applies it", () => {
  using dir = new TempDir();
  const database = nodeSqlite.open(dir.queue, WRITABLE);
  database.prepare("PRAGMA synchronous = normal"); // never run
  assert.deepEqual(database.prepare("PRAGMA synchronous").all([]), [[1]]);
  database.close();
});

Deno.test("trap: a database that is opened to read only waits 5 s, whatever timeout says", () => {
  using dir = new TempDir();
  const timeoutOf = (readOnly: boolean) => {
    using database = new DatabaseSync(dir.queue, { readOnly, timeout: 13 });
    return database.prepare("PRAGMA busy_timeout").get()?.["timeout"];
  };
  assert.equal(timeoutOf(false), 13);
  assert.equal(timeoutOf(true), 5000);
});

Deno.test("trap: an ArrayBuffer would bind NULL, so enqueue refuses it", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  const buffer: unknown = new ArrayBuffer(3);
  // @ts-expect-error The types forbid it; JavaScript callers do it all the same.
  await assert.rejects(queue.enqueue(buffer), TypeError);
  assert.equal(queue.stats().packets, 0);
});

Deno.test("trap: TEXT stops at NUL, so payloads are BLOBs", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue(new Uint8Array([65, 0, 66, 0]));
  await queue.close();
  await using again = await OutboundQueue.open(dir.queue);
  assert.deepEqual((await again.read(0, 100))[0]?.payload, new Uint8Array([65, 0, 66, 0]));
});

Deno.test("trap: integers above 2^53 throw instead of being cut", () => {
  using dir = new TempDir();
  const database = nodeSqlite.open(dir.queue, WRITABLE);
  assert.throws(() => database.prepare("SELECT 9007199254740993").all([]));
  database.close();
});

Deno.test("both drivers: a number above 2^53 is damage", () => {
  using dir = new TempDir();
  const database = nodeSqlite.open(dir.queue, WRITABLE);
  const statement = database.prepare("SELECT 9007199254740993");
  const isCorrupt = (error: unknown) => error instanceof SqliteError && error.primaryCode === 11;
  assert.throws(() => statement.all([]), isCorrupt);
  database.close();
  class Large {
    prepare = () => ({ run: () => 0, values: () => [[9007199254740993n]] });
    close(): void {}
  }
  assert.throws(() => driverOf(Large).open(dir.queue, WRITABLE), isCorrupt);
});

Deno.test("trap: VACUUM is refused under narrow permissions, so it is never used", async () => {
  using dir = new TempDir();
  const script = `import { DatabaseSync } from "node:sqlite";
    try { new DatabaseSync(Deno.args[0]).prepare("VACUUM").run(); console.log("vacuumed"); }
    catch { console.log("refused"); }`;
  Deno.writeTextFileSync(dir.file("v.ts"), script);
  const path = dir.file("v.db");
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-lock", `--allow-read=${path}`, `--allow-write=${path}`]
      .concat(dir.file("v.ts"), path),
  }).output();
  assert.equal(new TextDecoder().decode(stdout).trim(), "refused");
});

Deno.test("trap: a held iterator would block checkpoints; the queue's reads hold none", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueueMany(Array.from({ length: 500 }, () => new Uint8Array(1000)));
  await queue.close();
  await using again = await OutboundQueue.open(dir.queue);
  await again.enqueueMany(Array.from({ length: 500 }, () => new Uint8Array(1000)));
  await again.read(0, 5000);
  const other = nodeSqlite.open(dir.queue, WRITABLE);
  // busy = 0, and everything in the log was moved.
  const [row] = other.prepare("PRAGMA wal_checkpoint(TRUNCATE)").all([]);
  assert.deepEqual(row, [0, 0, 0]);
  other.close();
});

Deno.test("trap: another descriptor of the file would drop SQLite's locks; we open none", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  const opened: string[] = [];
  const { openSync, open } = Deno;
  Deno.openSync = (path, options) => {
    opened.push(String(path));
    return openSync(path, options);
  };
  Deno.open = (path, options) => {
    opened.push(String(path));
    return open(path, options);
  };
  try {
    await using second = await OutboundQueue.open(dir.queue);
    await second.enqueue(bytes("x"));
    await queue.enqueue(bytes("y"));
  } finally {
    Deno.openSync = openSync;
    Deno.open = open;
  }
  // On its log, which threads sync where the disk is slow, and on the lock file SQLite has no locks.
  assert.deepEqual(opened.filter((path) => !/(-wal|\.lock)$/.test(path)), []);
  assert.throws(() => Deno.openSync(dir.queue, { write: true, createNew: true }));
});

function hasCode(primary: number): (error: unknown) => boolean {
  return (error) => error instanceof SqliteError && error.primaryCode === primary;
}

function thrown(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  assert.fail("nothing was thrown");
}
