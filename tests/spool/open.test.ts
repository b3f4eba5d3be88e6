/** A process has a spool open once, for as long as it has one of its queues open. */
import assert from "node:assert/strict";
import { inotify } from "../../src/kernel/inotify.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { SqliteCode, type SqliteDriver, SqliteError } from "../../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { spoolQueue } from "../../src/spool/spool.ts";
import { FaultDriver } from "../queue/helpers.ts";
import { PLACES, tenureOf } from "../queue/threads.ts";
import { TempDir } from "../support/temp_dir.ts";
import { openAll, sql } from "./helpers.ts";

/** What this process has open in a directory: what each descriptor leads to. */
function openIn({ path }: TempDir): string[] {
  const ls = new Deno.Command("ls", { args: ["-l", `/proc/${Deno.pid}/fd`] }).outputSync();
  return new TextDecoder().decode(ls.stdout).split("\n")
    .flatMap((line) => line.split(` -> ${path}/`)[1] ?? [])
    .toSorted();
}

/** node:sqlite that counts its connections that may write. */
class CountedDriver implements SqliteDriver {
  readonly name = nodeSqlite.name;
  opened = 0;
  left = 0;

  open(path: string, options: { readOnly: boolean; busyTimeoutMs: number }) {
    const database = nodeSqlite.open(path, options);
    if (options.readOnly) return database;
    this.opened++;
    this.left++;
    return {
      prepare: (sql: string) => database.prepare(sql),
      close: () => {
        this.left--;
        database.close();
      },
    };
  }
}

for (const syncIn of PLACES) {
  Deno.test(`many queues are one connection, and the last close closes it (syncIn ${syncIn})`, async () => {
    using dir = new TempDir();
    const driver = new CountedDriver();
    const names = Array.from({ length: 30 }, (_, i) => `q${i}`);
    const queues = await Promise.all(
      names.map((name) => spoolQueue(dir.queue, name, { driver, syncIn })),
    );
    assert.deepEqual([driver.opened, driver.left], [1, 1]);
    await Promise.all(queues.map((queue) => queue.enqueue("x")));
    const open = openIn(dir);
    assert(open.includes("outbox.db"), open.join());
    const last = queues.pop() ?? assert.fail();
    await Promise.all(queues.map((queue) => queue.close()));
    assert.deepEqual(openIn(dir), open, "one is open");
    assert.equal(await last.enqueue("y"), 2);
    const [closing, again] = [last.close(), last.close()];
    await Promise.all([closing, again]);
    assert.equal(driver.left, 0);
    assert.deepEqual(openIn(dir), []);
    // SQLite has removed its log by itself, as it does behind the last one.
    assert.throws(() => Deno.statSync(`${dir.queue}-wal`), Deno.errors.NotFound);
  });
}

Deno.test("a spool under several names is one", async () => {
  using dir = new TempDir();
  const driver = new CountedDriver();
  // By `ln`, because Deno.symlink wants unscoped permissions.
  for (const [target, link] of [[dir.queue, "alias.db"], [dir.path, "folder"]] as const) {
    assert(new Deno.Command("ln", { args: ["-s", target, dir.file(link)] }).outputSync().success);
  }
  const paths = [
    dir.queue,
    dir.file("folder/outbox.db"),
    dir.file("folder/../outbox.db"),
    `${dir.path}/./outbox.db`,
  ];
  const queues = await Promise.all(paths.map((path) => spoolQueue(path, "a", { driver })));
  queues.push(await spoolQueue(dir.file("alias.db"), "a", { driver }));
  assert.deepEqual(queues.map(({ path }) => path), Array(5).fill(`spool:${dir.queue}#a`));
  assert.equal(driver.left, 1);
  for (const queue of queues) await queue.close();
  assert.equal(driver.left, 0);
  assert.deepEqual(openIn(dir), []);
});

Deno.test("what could not be opened leaves nothing open", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  const open = (name: string, options = {}) => spoolQueue(dir.queue, name, { driver, ...options });
  const statements = [
    "PRAGMA application_id",
    "PRAGMA journal_mode",
    "PRAGMA synchronous",
    "BEGIN IMMEDIATE",
    "CREATE TABLE",
    "COMMIT",
    "SELECT number FROM queues",
    "INSERT INTO queues",
    "INSERT INTO state",
    "PRAGMA data_version",
    "SELECT state.queued_packets",
  ];
  for (const among of ["none", "one"]) {
    const beside = among === "one" ? await open("beside") : undefined;
    const before = openIn(dir);
    for (const statement of statements) {
      let met = 0;
      driver.fault = (sql) => {
        if (!sql.startsWith(statement)) return undefined;
        met++;
        return new SqliteError(SqliteCode.IOERR, "injected");
      };
      // All of them at once, as a process that starts does.
      const ends = await Promise.allSettled(["a", "b", "c"].map((name) => open(name)));
      driver.heal();
      for (const end of ends) {
        if (end.status === "fulfilled") await end.value.close();
        else assert.equal(end.reason.reason, "io", String(end.reason));
      }
      const isMet = ends.every(({ status }) => status === "rejected");
      assert.equal(isMet, met > 0, `${statement}, ${among}: met ${met} times`);
      assert.deepEqual(openIn(dir), before, `${statement}, ${among}`);
    }
    await assert.rejects(open("a", { maxPackets: 0 }), RangeError);
    await assert.rejects(open("a b"), RangeError);
    if (beside !== undefined) {
      await assert.rejects(open("a", { durability: "process-crash" }), RangeError);
      assert.deepEqual(openIn(dir), before);
      // SQLite keeps this descriptor until the last connection of the process is closed.
      const isA = "WHERE queue = (SELECT number FROM queues WHERE name = 'a')";
      sql(dir.queue, `UPDATE state SET dead_packets = -1 ${isA}`);
      await assert.rejects(open("a"), { reason: "corrupt" });
      sql(dir.queue, "UPDATE state SET dead_packets = 0");
      assert.equal(await beside.enqueue("x"), 1);
      await beside.close();
    }
    assert.deepEqual(openIn(dir), []);
  }
});

Deno.test("queues that are opened and closed at once, again and again, lose nothing and leave nothing", async () => {
  using dir = new TempDir();
  const driver = new CountedDriver();
  const stored = new Map<string, number>();
  for (let round = 0; round < 20; round++) {
    await Promise.all(Array.from({ length: 6 }, async (_, i) => {
      const name = `q${i % 4}`;
      // Some begin while the last one of the others ends.
      for (let turn = 0; turn < (round + i) % 4; turn++) await Promise.resolve();
      const queue = await spoolQueue(dir.queue, name, { driver });
      if (i % 2 === 0) {
        await queue.enqueue("x");
        stored.set(name, (stored.get(name) ?? 0) + 1);
      }
      await queue.close();
    }));
    assert.equal(driver.left, 0);
  }
  assert.deepEqual(openIn(dir), []);
  for (const [name, count] of stored) {
    await using queue = await spoolQueue(dir.queue, name, { driver });
    assert.equal(queue.stats().packets, count, name);
  }
});

Deno.test("a queue that is opened while the last one closes has the file", async () => {
  using dir = new TempDir();
  let queue = await spoolQueue(dir.queue, "a");
  for (let round = 1; round <= 10; round++) {
    const stored = queue.enqueue("x");
    const closing = queue.close();
    const next = await spoolQueue(dir.queue, "a");
    await closing;
    assert.equal(await stored, round);
    queue = next;
  }
  await sendingSideOf(queue).pollOtherProcesses();
  assert.equal(queue.lastId, 10);
  await queue.close();
  assert.deepEqual(openIn(dir), []);
});

Deno.test("senders that end leave nothing open either, their reports included", async () => {
  using dir = new TempDir();
  {
    await using queues = await openAll(dir.queue, ["a", "b", "c"]);
    await Promise.all(queues.all.map((queue) => queue.enqueue("x")));
    const before = openIn(dir);
    const tenures = await Promise.all(queues.all.map((queue) => tenureOf(queue)));
    const bells = tenures.map((tenure, i) =>
      sendingSideOf(queues.all[i] ?? assert.fail()).answerDoorbell(tenure, inotify())
    );
    for (const tenure of tenures) tenure.publish("a report");
    assert.deepEqual(
      openIn(dir).filter((file) => !before.includes(file)),
      ["outbox.db.lock", "outbox.db.reports"],
    );
    await Promise.all(bells.map((bell) => bell.stop()));
    await Promise.all(tenures.map((tenure) => tenure.release()));
    assert.deepEqual(openIn(dir), before);
  }
  assert.deepEqual(openIn(dir), []);
});

Deno.test("whoever asks hears at once that the file is gone, however lately another queue has asked", async () => {
  using dir = new TempDir();
  const a = await spoolQueue(dir.queue, "a");
  const b = await spoolQueue(dir.queue, "b");
  assert.equal(a.misplaced(), undefined);
  Deno.removeSync(dir.queue);
  assert.equal(b.misplaced()?.reason, "misplaced");
  // And stores nothing there any more, within the second in which nobody looks by himself.
  await assert.rejects(a.enqueue("lost"), { reason: "misplaced" });
  await Promise.all([a.close(), b.close()]);
});
