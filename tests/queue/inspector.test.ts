import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { systemClock } from "../../src/base/clock.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { repairQueue } from "../../src/queue/repair/repair.ts";
import type { SqliteDriver } from "../../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { noticesIn } from "../../src/spool/inspector.ts";
import { spoolInspector, spoolQueue } from "../../src/spool/spool.ts";
import { bytes, text } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { mountTmpfs, NO_TMPFS, remountReadOnly, sha256, unless } from "./helpers.ts";
import {
  asVersion1,
  asVersion2,
  contentOf,
  copyQueue,
  makeQueue,
  overwrite,
  pageUses,
  randomOf,
  randomPackets,
  removeQueue,
  tamper,
} from "./inspector_helpers.ts";

async function listed<T>(items: AsyncIterable<T>): Promise<T[]> {
  return await Array.fromAsync(items);
}

Deno.test("inspector: what is in a queue, and in which state", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  const storedAtMs = clock.wallMs();
  await queue.enqueueMany([bytes("one"), bytes("two"), bytes("three")]);
  await queue.enqueue(bytes("four"), { ttlMs: 1000 });
  await sendingSideOf(queue).removeThrough(1);
  sendingSideOf(queue).rememberSent(2);
  await queue.enqueue(bytes("five"));

  using inspector = await QueueInspector.open(dir.queue, { clock });
  assert.equal(inspector.version, 3);
  const packets = await listed(inspector.packets({ payloadBytes: 4 }));
  assert.deepEqual(
    packets.map(({ id, state, bytes, payload }) => [id, state, bytes, text(payload)]),
    [
      [2, "sent", 3, "two"],
      [3, "waiting", 5, "thre"],
      [4, "waiting", 4, "four"],
      [5, "waiting", 4, "five"],
    ],
  );
  assert.deepEqual(packets.map(({ enqueuedAtMs }) => enqueuedAtMs), Array(4).fill(storedAtMs));
  assert.deepEqual(
    packets.map(({ expiresAtMs }) => expiresAtMs),
    [Infinity, Infinity, storedAtMs + 1000, Infinity],
  );
  assert.equal((await inspector.packets().next()).value?.payload.length, 0, "not asked for");
  assert.deepEqual(await inspector.counts(), {
    packets: 4,
    bytes: 16,
    lastId: 5,
    removedThroughId: 1,
    sentThroughId: 2,
    droppedPackets: 0,
    droppedBytes: 0,
    deadPackets: 0,
    deadBytes: 0,
    expiredPackets: 0,
    gaveUpPackets: 0,
    damagedPackets: 0,
    refusedPackets: 0,
  });
  assert.equal(await inspector.packet(1), undefined, "it was removed");
  assert.equal(text((await inspector.packet(3))?.payload), "three");
  assert.deepEqual(await inspector.check(), []);
});

Deno.test("inspector: dead letters", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  await queue.enqueueMany(["one", "two", "three"].map((text) => bytes(text)));
  await sendingSideOf(queue).giveUp(2, 7);
  using inspector = await QueueInspector.open(dir.queue, { clock });
  const nowMs = clock.wallMs();
  const letter = {
    id: 2,
    enqueuedAtMs: nowMs,
    diedAtMs: nowMs,
    reason: "gave-up",
    sent: false,
    attempts: 7,
    words: undefined,
    bytes: 3,
    payload: bytes("two"),
  };
  assert.deepEqual(await listed(inspector.deadLetters({ payloadBytes: 99 })), [letter]);
  assert.deepEqual(await inspector.deadLetter(2), letter);
  assert.deepEqual(await listed(inspector.deadLetters({ fromId: 3 })), []);
  assert.deepEqual(await listed(inspector.deadLetters({ toId: 1 })), []);
  assert.deepEqual(await listed(inspector.deadLetters({ beforeMs: nowMs })), []);
  assert.deepEqual(await inspector.countDeadLetters(), { packets: 1, bytes: 3 });
  assert.deepEqual(await inspector.countDeadLetters({ beforeMs: nowMs }), { packets: 0, bytes: 0 });
  assert.equal(await inspector.packet(2), undefined);
  assert.deepEqual((await listed(inspector.packets())).map(({ id }) => id), [1, 3]);
});

Deno.test("inspector: ranges and ages, across many pages, agree with what is counted", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const sizes: number[] = [];
  let fourthAtMs = 0;
  {
    await using queue = await OutboundQueue.open(dir.queue, {
      clock,
      durability: "process-crash",
    });
    const random = randomOf(1);
    for (let i = 0; i < 7; i++) {
      if (i === 3) fourthAtMs = clock.wallMs();
      // Rows of one packet, of many, and pages that are full by their bytes.
      const some = Array.from({ length: 300 }, () => i % 2 === 0 ? 20_000 : 7);
      for (const packet of randomPackets(random, some)) void queue.enqueue(packet);
      await queue.enqueueMany(randomPackets(random, [1, 2, 3]));
      sizes.push(...some, 1, 2, 3);
      clock.advance(10);
    }
  }
  using inspector = await QueueInspector.open(dir.queue, { clock });
  const all = sizes.map((bytes, i) => ({ id: i + 1, bytes }));
  const cases: [object, typeof all][] = [
    [{}, all],
    [{ fromId: 100, toId: 102 }, all.slice(99, 102)],
    [{ fromId: 305 }, all.slice(304)],
    [{ toId: 1500 }, all.slice(0, 1500)],
    [{ beforeMs: fourthAtMs }, all.slice(0, 3 * 303)],
    [{ fromId: 2122 }, []],
  ];
  for (const [range, expected] of cases) {
    for (const payloadBytes of [0, Infinity]) {
      const packets = await listed(inspector.packets({ ...range, payloadBytes }));
      assert.deepEqual(packets.map(({ id, bytes }) => ({ id, bytes })), expected);
      const given = payloadBytes === 0 ? 0 : 1;
      assert(packets.every(({ bytes, payload }) => payload.length === given * bytes));
    }
    const total = expected.reduce((sum, { bytes }) => sum + bytes, 0);
    assert.deepEqual(await inspector.countPackets(range), {
      packets: expected.length,
      bytes: total,
    });
  }
});

Deno.test("inspector: it is closed once, and then says so", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue("x");
  const inspector = await QueueInspector.open(dir.queue);
  assert.equal((await inspector.counts()).packets, 1);
  inspector[Symbol.dispose]();
  inspector[Symbol.dispose]();
  await assert.rejects(inspector.counts(), { name: "ClosedError" });
  await assert.rejects(listed(inspector.packets()), { name: "ClosedError" });
});

Deno.test("check: all problems may be asked for, and nothing less than one", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue("x");
  using inspector = await QueueInspector.open(dir.queue);
  for (const all of [Infinity, 2 ** 60, 1.5]) assert.deepEqual(await inspector.check(all), []);
  for (const none of [0, -1, NaN]) await assert.rejects(inspector.check(none), RangeError);
});

Deno.test("inspector: an old version is read, and stays one", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany([bytes("one"), bytes("two")]);
  }
  asVersion1(dir.queue);
  const before = await sha256(dir.queue);
  using inspector = await QueueInspector.open(dir.queue);
  assert.equal(inspector.version, 1);
  assert.deepEqual((await listed(inspector.packets())).map(({ id }) => id), [1, 2]);
  assert.deepEqual(await listed(inspector.deadLetters()), []);
  assert.deepEqual(await inspector.countDeadLetters(), { packets: 0, bytes: 0 });
  assert.equal((await inspector.counts()).deadPackets, 0);
  assert.deepEqual(await inspector.check(), []);
  assert.equal(await sha256(dir.queue), before);
});

Deno.test("inspector: a writer in the middle of a transaction neither waits nor is waited for", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue(bytes("one"));
  }
  const writer = new DatabaseSync(dir.queue);
  writer.prepare("BEGIN IMMEDIATE").run();
  writer.prepare("UPDATE state SET queued_packets = 99").run();
  using inspector = await QueueInspector.open(dir.queue, { busyTimeoutMs: 0 });
  const packets = inspector.packets();
  assert.equal((await packets.next()).value?.id, 1);
  assert.equal((await inspector.counts()).packets, 1);
  // Between two pages nothing is held: the whole log can go into the file.
  writer.prepare("UPDATE state SET queued_packets = 1").run();
  writer.prepare("COMMIT").run();
  const [row] = writer.prepare("PRAGMA wal_checkpoint(TRUNCATE)").all();
  assert.deepEqual({ ...row }, { busy: 0, log: 0, checkpointed: 0 });
  assert.equal((await packets.next()).done, true);
  writer.close();
});

Deno.test("inspector: it has no right to write, and opens no other file", async () => {
  using dir = new TempDir();
  await (await OutboundQueue.open(dir.queue)).close();
  const opened: [string, boolean][] = [];
  const driver: SqliteDriver = {
    name: "watched",
    open(path, options) {
      opened.push([path, options.readOnly]);
      return nodeSqlite.open(path, options);
    },
  };
  using _inspector = await QueueInspector.open(dir.queue, { driver });
  assert.deepEqual(opened, [[dir.queue, true]]);
});

Deno.test("inspector: an empty file is an empty queue; what is none is named", async (t) => {
  using dir = new TempDir();
  Deno.writeFileSync(dir.file("empty"), new Uint8Array(0));
  using inspector = await QueueInspector.open(dir.file("empty"));
  assert.deepEqual(await listed(inspector.packets()), []);
  assert.equal((await inspector.counts()).packets, 0);
  assert.deepEqual(await inspector.check(), []);
  Deno.writeTextFileSync(dir.file("text"), "no database ".repeat(100));
  Deno.writeTextFileSync(dir.file("tiny"), "x");
  tamper(dir.file("other"), "CREATE TABLE theirs (x)");
  await (await OutboundQueue.open(dir.file("newer"))).close();
  tamper(dir.file("newer"), "PRAGMA user_version = 77");
  const cases: [string, QueueFileError["reason"], RegExp][] = [
    ["missing", "io", /there is no such file/],
    ["text", "not-a-queue", /is not a database/],
    ["tiny", "not-a-queue", /is not a database/],
    ["other", "not-a-queue", /another program's database/],
    ["newer", "newer-version", /has version 77/],
    [".", "not-a-queue", /it is a directory/],
  ];
  for (const [name, reason, message] of cases) {
    await t.step(name, async () => {
      await assert.rejects(QueueInspector.open(dir.file(name)), (error) => {
        assert(error instanceof QueueFileError, String(error));
        assert.equal(error.reason, reason);
        assert.match(error.message, message);
        return true;
      });
    });
  }
  assert.throws(() => Deno.statSync(dir.file("missing")), Deno.errors.NotFound);
});

const noTmpfs = unless(NO_TMPFS, "inspector: where nothing can be written it says what it needs");
Deno.test({
  ...noTmpfs,
  fn: async () => {
    using dir = new TempDir();
    const mount = mountTmpfs(dir.file("disk"), "size=1m");
    assert(typeof mount !== "string", String(mount));
    try {
      await (await OutboundQueue.open(dir.file("disk/q.db"))).close();
      remountReadOnly(dir.file("disk"));
      await assert.rejects(QueueInspector.open(dir.file("disk/q.db")), (error) => {
        assert(error instanceof QueueFileError, String(error));
        assert.match(error.message, /may not read it, or not write in its directory/);
        return error.reason === "read-only";
      });
      // A repair needs no more than to read.
      repairQueue(dir.file("disk/q.db"), dir.file("new"));
    } finally {
      mount.unmount();
    }
  },
});

Deno.test("check: each thing that can be wrong is named", async (t) => {
  const cases: [string, RegExp][] = [
    [
      "UPDATE state SET queued_packets = queued_packets + 1",
      /^counts: the file counts 2775 packets, there are 2774$/,
    ],
    [
      "UPDATE state SET queued_bytes = queued_bytes - 1",
      /^counts: the file counts \d+ bytes of packets/,
    ],
    ["UPDATE state SET dead_packets = 9", /^counts: the file counts 9 dead letters, there are 5$/],
    ["UPDATE state SET gave_up_packets = 4", /^counts: there are 5 dead letters, and ever were 4$/],
    [
      "UPDATE state SET sent_through = 5000",
      /^counts: sent_through is 5000, and the highest id is/,
    ],
    [
      "UPDATE packets SET last_id = 5000, stored_bytes = NULL WHERE last_id = (SELECT max(last_id) FROM packets)",
      /^counts: there is id 5000, and the highest id is \d+$/,
    ],
    ["UPDATE state SET dropped_packets = -1", /^counts: dropped_packets is -1$/],
    ["UPDATE state SET dropped_packets = 'x'", /^counts: dropped_packets is x$/],
    ["UPDATE state SET dropped_packets = 9223372036854775807", /^counts: /],
    ["DELETE FROM state", /^counts: there are 0 rows of counts, and not 1$/],
    ["DROP TABLE state", /^counts: the counts cannot be read: no such table/],
    ["DROP TABLE packets", /^packets: packets behind id 0 cannot be read: no such table/],
    ["DROP TABLE dead_letters", /^dead-letters: dead letters behind id 0 cannot be read/],
    [
      "UPDATE packets SET payload = substr(payload, 2) WHERE last_id = (SELECT max(last_id) FROM packets)",
      /^packets: the packets that end with id \d+ are damaged: its packets end at byte/,
    ],
    [
      "UPDATE packets SET ends = x'01000000' WHERE ends IS NOT NULL AND last_id > 2200",
      /^packets: the packets that end with id \d+ are damaged/,
    ],
    [
      "INSERT INTO packets (last_id, enqueued_at_ms, ends, payload) " +
      "SELECT last_id - 1, enqueued_at_ms, ends, payload FROM packets " +
      "WHERE length(ends) > 200 LIMIT 1",
      /^packets: ids \d+ to \d+ are there twice$/,
    ],
    [
      "INSERT INTO packets (last_id, enqueued_at_ms, ends, payload) VALUES (50, 1, NULL, x'00')",
      /^packets: ids 50 to 50 were removed and are still there$/,
    ],
    [
      "UPDATE packets SET payload = zeroblob(length(payload)) WHERE last_id > 2300",
      /^packets: the packets that end with id \d+ are damaged: their bytes do not match/,
    ],
    [
      "UPDATE packets SET enqueued_at_ms = 'x' WHERE last_id > 2300",
      /^packets: ids .* have no time$/,
    ],
    [
      "UPDATE expiry SET expires_at_ms = 'x'",
      /^packets: the packets that end with .* expire at x$/,
    ],
    [
      "UPDATE dead_letters SET reason = 'bored' WHERE id = 500",
      /^dead-letters: dead letter 500 is/,
    ],
    [
      "UPDATE dead_letters SET payload = zeroblob(length(payload)) WHERE id = 500",
      /^dead-letters: dead letter 500 is damaged: its bytes do not match their checksum$/,
    ],
    [
      "UPDATE dead_letters SET id = 499, crc = NULL WHERE id = 500",
      /^dead-letters: id 499 is in the queue and/,
    ],
  ];
  using dir = new TempDir();
  await makeQueue(dir.queue, 1);
  {
    using inspector = await QueueInspector.open(dir.queue);
    assert.deepEqual(await inspector.check(), []);
  }
  for (const [sql, expected] of cases) {
    await t.step(sql, async () => {
      const path = dir.file("tampered");
      removeQueue(path);
      copyQueue(dir.queue, path);
      tamper(path, sql);
      using inspector = await QueueInspector.open(path);
      const problems = (await inspector.check()).map(({ kind, words }) => `${kind}: ${words}`);
      assert(problems.some((line) => expected.test(line)), problems.join("\n") || "no problem");
      assert((await inspector.check(1)).length === 1, "stops after so many");
    });
  }
});

Deno.test("check and reading: a damaged page is found, and nothing else is thrown", async () => {
  using dir = new TempDir();
  await makeQueue(dir.queue, 2);
  const uses = pageUses(dir.queue);
  const whole = await contentOf(dir.queue);
  const random = randomOf(3);
  const path = dir.file("damaged");
  const pageCount = Deno.statSync(dir.queue).size / 4096;
  assert(pageCount > 80, `${pageCount} pages`);
  let found = 0;
  for (let page = 1; page <= pageCount; page++) {
    removeQueue(path);
    copyQueue(dir.queue, path);
    overwrite(path, random, (page - 1) * 4096, 4096);
    // Page 2 is the map of pages; a page without a use is free, and holds nothing of ours.
    const matters = uses.has(page) || page === 2;
    try {
      using inspector = await QueueInspector.open(path);
      const problems = await inspector.check();
      if (matters) assert(problems.length > 0, `page ${page}`);
      else assert.deepEqual(await contentOf(path), whole, `page ${page}`);
      for await (const { id, bytes } of inspector.packets()) {
        assert(whole.packets.has(id), `page ${page}, id ${id}, ${bytes} bytes`);
      }
      await listed(inspector.deadLetters({ payloadBytes: Infinity }));
      found++;
    } catch (error) {
      assert(error instanceof QueueFileError, `page ${page}: ${error}`);
      assert(matters, `page ${page}: ${error.message}`);
      if (error.reason === "not-a-queue") assert.equal(page, 1);
      else assert.equal(error.reason, "corrupt");
    }
  }
  assert(found > pageCount / 2, `only ${found} could be opened and read`);
});

Deno.test("a tree that leads back to its beginning: what comes before that, and then its end", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    for (let i = 0; i < 200; i++) await queue.enqueue(new Uint8Array(1000).fill(i));
  }
  const root =
    [...pageUses(dir.queue)].find(([, { table, kind }]) =>
      table === "packets" && kind === "internal"
    )?.[0] ?? 0;
  using file = Deno.openSync(dir.queue, { read: true, write: true });
  const page = new Uint8Array(4096);
  file.seekSync((root - 1) * 4096, Deno.SeekMode.Start);
  file.readSync(page);
  const view = new DataView(page.buffer);
  const firstCell = view.getUint16(12);
  // The root's last child is its first one again.
  view.setUint32(8, view.getUint32(firstCell));
  file.seekSync((root - 1) * 4096, Deno.SeekMode.Start);
  file.writeSync(page);

  using inspector = await QueueInspector.open(dir.queue);
  for (const payloadBytes of [0, Infinity]) {
    let last = 0;
    const reading = (async () => {
      for await (const { id } of inspector.packets({ payloadBytes })) {
        assert(id > last, `${id} behind ${last}`);
        last = id;
      }
    })();
    await assert.rejects(
      reading,
      (error) =>
        error instanceof QueueFileError && error.reason === "corrupt" &&
        /out of order: packet 1 comes behind 19\d/.test(error.message),
    );
    assert(last >= 190, `${last}`);
  }
  await assert.rejects(inspector.countPackets(), { reason: "corrupt" });
});

Deno.test("a batch that contradicts itself: the packets of its page before it still come", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    for (let i = 0; i < 9; i++) await queue.enqueueMany([bytes("one"), bytes("two")]);
  }
  tamper(dir.queue, "UPDATE packets SET ends = x'0900000001000000' WHERE last_id = 10");
  using inspector = await QueueInspector.open(dir.queue);
  const ids: number[] = [];
  await assert.rejects(
    (async () => {
      for await (const { id } of inspector.packets()) ids.push(id);
    })(),
    (error) =>
      error instanceof QueueFileError &&
      error.message.includes("the packets that end with id 10 are damaged"),
  );
  assert.deepEqual(ids, [1, 2, 3, 4, 5, 6, 7, 8]);
});

Deno.test("a number that no sendq has written is damage, in words", async () => {
  using dir = new TempDir();
  await makeQueue(dir.queue, 3);
  tamper(dir.queue, "UPDATE state SET queued_bytes = 9223372036854775807");
  const words = (error: unknown) =>
    error instanceof QueueFileError && error.reason === "corrupt" &&
    error.message.includes("a number in the file is larger than any that sendq writes");
  using inspector = await QueueInspector.open(dir.queue);
  await assert.rejects(inspector.counts(), words);
  await assert.rejects(OutboundQueue.open(dir.queue), words);
});

Deno.test("inspector: of a file that its path no longer leads to, nothing is told", async () => {
  using dir = new TempDir();
  await makeQueue(dir.queue, 5);
  await makeQueue(dir.file("other"), 6);
  using inspector = await QueueInspector.open(dir.queue);
  await inspector.counts();
  Deno.renameSync(dir.file("other"), dir.queue);
  await assert.rejects(inspector.counts(), { reason: "misplaced" });
  Deno.removeSync(dir.queue);
  await assert.rejects(inspector.check(), { reason: "misplaced" });
});

Deno.test("an inspector of an empty file sees what is stored in it later", async () => {
  using dir = new TempDir();
  Deno.writeTextFileSync(dir.queue, "");
  using inspector = await QueueInspector.open(dir.queue);
  assert.deepEqual([inspector.version, (await inspector.counts()).packets], [0, 0]);
  assert.equal((await inspector.countDeadLetters()).packets, 0);
  await using queue = await OutboundQueue.open(dir.queue);
  assert.equal((await inspector.counts()).lastId, 0);
  await queue.enqueueMany(["a", "b"]);
  assert.equal(inspector.version, 3);
  assert.deepEqual(
    [(await inspector.countPackets()).packets, await inspector.check()],
    [2, []],
  );
  await sendingSideOf(queue).giveUp(1, 1);
  assert.equal((await inspector.countDeadLetters()).packets, 1);
});

Deno.test("an inspector of a spool that is empty waits for its queue", async () => {
  using dir = new TempDir();
  Deno.writeTextFileSync(dir.queue, "");
  using inspector = await spoolInspector(dir.queue, "b");
  await using first = await spoolQueue(dir.queue, "a");
  await first.enqueue("x");
  assert.equal((await inspector.counts()).packets, 0, "it is not there yet");
  const notice = await noticesIn(dir.queue, "b");
  assert.equal(await notice(), undefined);
  await using queue = await spoolQueue(dir.queue, "b");
  await queue.enqueueMany(["y", "z"]);
  assert.equal((await inspector.counts()).packets, 2);
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  tenure.publish("here");
  assert.equal((await notice())?.text, "here");
  await tenure.release();
});

Deno.test("an inspector goes on while another program brings the file to a newer version", async () => {
  for (const downgrade of [asVersion1, asVersion2]) {
    using dir = new TempDir();
    {
      await using queue = await OutboundQueue.open(dir.queue);
      await queue.enqueueMany(["a", "b"]);
    }
    downgrade(dir.queue);
    using inspector = await QueueInspector.open(dir.queue);
    assert.equal((await inspector.counts()).packets, 2);
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue("c");
    assert.equal((await inspector.counts()).packets, 3);
    assert.equal(inspector.version, 3);
  }
});
