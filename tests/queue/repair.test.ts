import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import { backUpQueue } from "../../src/queue/inspect/backup.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { repairQueue } from "../../src/queue/repair/repair.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { WHOLE_FILE } from "../../src/queue/store/id_window.ts";
import { windowOf } from "../../src/spool/queue_names.ts";
import { StateTable } from "../../src/queue/store/state_table.ts";
import { spoolQueue } from "../../src/spool/spool.ts";
import { repairFromSpool } from "../../src/spool/whole_file.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { bytes } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { NO_TMPFS, sha256, unless } from "./helpers.ts";
import { Disk } from "./disk.ts";
import {
  asVersion1,
  asVersion2,
  type Content,
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

const PAGE_BYTES = 4096;
const DAY_MS = 24 * 3600 * 1000;

/** Repairs, and holds what must always hold: the old file as it was, the new one sound. */
async function repaired(from: string, to: string) {
  removeQueue(to);
  const before = await sha256(from);
  const report = repairQueue(from, to);
  assert.equal(await sha256(from), before, "the old file has changed");
  {
    using inspector = await QueueInspector.open(to);
    assert.deepEqual(await inspector.check(), []);
  }
  const content = await contentOf(to);
  assert.equal(report.packets, content.packets.size);
  assert.equal(report.deadPackets, content.letters.size);
  return { report, content };
}

/** Everything that is there is right, and nothing was made up. */
function assertTrue(content: Content, whole: Content, what: string): void {
  for (const [id, packet] of content.packets) assert.equal(packet, whole.packets.get(id), what);
  for (const [id, letter] of content.letters) assert.equal(letter, whole.letters.get(id), what);
}

/** Ids that are in one and not in the other. */
function missing(content: Content, whole: Content): number[] {
  return [...whole.packets.keys()].filter((id) => !content.packets.has(id));
}

Deno.test("repair: of a sound queue it is the identity, its log in the file or beside it", async () => {
  type Step =
    | { do: "store"; sizes: number[]; ttlMs: number | undefined }
    | { do: "remove" | "excise" | "giveUp" | "requeue"; part: number };
  const part = fc.double({ min: 0, max: 1, noNaN: true });
  const size = fc.oneof(
    { weight: 20, arbitrary: fc.integer({ min: 1, max: 100 }) },
    { weight: 1, arbitrary: fc.integer({ min: 3000, max: 40_000 }) },
  );
  const steps = fc.array(
    fc.oneof<fc.Arbitrary<Step>[]>(
      fc.record({
        do: fc.constant("store" as const),
        sizes: fc.array(size, { minLength: 1, maxLength: 400 }),
        ttlMs: fc.constantFrom(undefined, undefined, 1_000_000),
      }),
      fc.record({ do: fc.constantFrom("remove", "excise", "giveUp", "requeue"), part }),
    ),
    { minLength: 1, maxLength: 25 },
  );
  await fc.assert(
    fc.asyncProperty(steps, fc.boolean(), async (steps, closed) => {
      using dir = new TempDir();
      const random = randomOf(7);
      await using queue = await OutboundQueue.open(dir.queue, { durability: "process-crash" });
      for (const step of steps) {
        const id = "part" in step ? 1 + Math.floor(step.part * queue.lastId) : 0;
        if (step.do === "store") {
          await queue.enqueueMany(randomPackets(random, step.sizes), { ttlMs: step.ttlMs });
        } else if (step.do === "remove") {
          await sendingSideOf(queue).removeThrough(Math.min(id, queue.lastId));
        } else if (step.do === "excise") {
          await queue.removePackets({ firstId: id, lastId: id + 30 });
        } else if (step.do === "giveUp") await sendingSideOf(queue).giveUp(id, 2);
        else await queue.requeue({ firstId: id, lastId: id + 5 });
      }
      sendingSideOf(queue).rememberSent(Math.floor(queue.lastId / 2));
      if (closed) await queue.close();
      // Opened by nobody: for SQLite, and for the repair.
      copyQueue(dir.queue, dir.file("copy"));
      copyQueue(dir.queue, dir.file("copy for SQLite"));
      const whole = await contentOf(dir.file("copy for SQLite"));
      const { report, content } = await repaired(dir.file("copy"), dir.file("new"));
      assert.deepEqual(content, whole);
      assert.deepEqual([report.lostPackets, report.lostDeadPackets], [0, 0]);
      assert.deepEqual([report.lostIds, report.lostDeadIds, report.notes], [[], [], []]);
    }),
    { numRuns: 40 },
  );
});

/** What a file counts: all of it but the bytes ever stored, of which a repair makes those there are. */
function countsOf(path: string, window = WHOLE_FILE) {
  const database = nodeSqlite.open(path, { readOnly: true, busyTimeoutMs: 0 });
  const { storedBytes: _, ...counts } = new StateTable(database, window).read();
  database.close();
  return counts;
}

Deno.test("repair: the queue's clock comes along, so that packets expire when they would have", async () => {
  for (const queueIn of ["file", "spool"]) {
    for (const aheadMs of [-10 * DAY_MS, 10 * DAY_MS]) {
      using dir = new TempDir();
      const isSpool = queueIn === "spool";
      const open = () =>
        isSpool ? spoolQueue(dir.queue, "b", { clock }) : OutboundQueue.open(dir.queue, { clock });
      const clock = new ManualClock();
      clock.wall += 100 * DAY_MS;
      {
        await using first = await (isSpool
          ? spoolQueue(dir.queue, "a", { clock })
          : OutboundQueue.open(dir.file("other"), { clock }));
        await first.enqueue("x");
        await using queue = await open();
        await queue.enqueue("before", { ttlMs: 3_600_000 });
        clock.wall += aheadMs;
        await queue.enqueue("notes that the clock was set", { ttlMs: 3_600_000 });
        await queue.removePackets({ firstId: 1, lastId: 1 });
        clock.advance(60_000);
        await queue.enqueue("with counts of its own", { ttlMs: 3_600_000 });
      }
      const report = isSpool
        ? repairFromSpool(dir.queue, "b", dir.file("new"))
        : repairQueue(dir.queue, dir.file("new"));
      assert.deepEqual([report.packets, report.lostPackets, report.notes], [2, 0, []]);
      const counts = countsOf(dir.file("new"));
      assert.deepEqual(counts, countsOf(dir.queue, isSpool ? windowOf(2) : WHOLE_FILE));
      assert.deepEqual([counts.clockOffsetMs, counts.writtenAtMs], [-aheadMs, clock.wall]);
      using inspector = await QueueInspector.open(dir.file("new"), { clock });
      const left = [];
      for await (const { expiresAtMs } of inspector.packets()) {
        left.push(expiresAtMs - clock.wall);
      }
      assert.deepEqual(left, [3_540_000, 3_600_000]);
    }
  }
});

Deno.test("repair: where the counts are lost, it says that packets may expire at another time", async () => {
  using dir = new TempDir();
  const note = /clock was ahead .* is lost/;
  for (const ttlMs of [undefined, 3_600_000]) {
    const path = dir.file(`expire after ${ttlMs}`);
    {
      await using queue = await OutboundQueue.open(path);
      await queue.enqueue("x", { ttlMs });
    }
    tamper(path, "DELETE FROM state");
    const { notes } = repairQueue(path, `${path}, new`);
    assert.equal(notes.some((words) => note.test(words)), ttlMs !== undefined);
  }
});

Deno.test("repair: whichever page is noise, all outside of it is saved", async () => {
  using dir = new TempDir();
  await makeQueue(dir.queue, 4);
  const whole = await contentOf(dir.queue);
  const uses = pageUses(dir.queue);
  const random = randomOf(5);
  const path = dir.file("damaged");
  const pageCount = Deno.statSync(dir.queue).size / PAGE_BYTES;
  let lostInAll = 0;
  for (let page = 1; page <= pageCount; page++) {
    removeQueue(path);
    copyQueue(dir.queue, path);
    overwrite(path, random, (page - 1) * PAGE_BYTES, PAGE_BYTES);
    const { report, content } = await repaired(path, dir.file("new"));
    const { table = "none", kind = "none" } = uses.get(page) ?? {};
    const what = `page ${page}: ${kind} of ${table}`;
    const lost = missing(content, whole);
    lostInAll += lost.length;
    const noExpiry = table === "expiry";
    if (!noExpiry && table !== "state") assertTrue(content, whole, what);
    if (table === "state") {
      // Without the counts those come back that were removed from a row that is still there.
      assert.equal(report.lostPackets, undefined);
      assert.deepEqual(lost, [], what);
      assert(report.notes.some((note) => /counts are lost/.test(note)));
      continue;
    }
    // The newest counts are in the last row: of what may stand behind it nobody knows.
    const openEnd = report.lostPackets === undefined;
    if (openEnd) {
      assert.equal(table, "packets", what);
      assert(report.notes.some((note) => /how many packets that were is not known/.test(note)));
    } else assert.equal(report.lostPackets, lost.length, what);
    const lastSaved = Math.max(...content.packets.keys());
    // Every one of them is in a range that was named.
    const named = (id: number) =>
      (openEnd && id > lastSaved) ||
      report.lostIds.some(({ firstId, lastId }) => id >= firstId && id <= lastId);
    assert(lost.every(named), what);
    if (table === "packets" && kind === "overflow") {
      // Packets of 20 bytes or more, in part on a page of 4092; or where 1023 of them end.
      assert(lost.length > 0 && lost.length <= 206, `${what}: ${lost.length} lost`);
    } else if (table === "packets" && kind === "leaf") {
      assert(lost.length > 0, what);
    } else {
      assert.deepEqual(lost, [], what);
    }
    if (table !== "dead_letters") {
      assert.equal(content.letters.size, whole.letters.size, what);
      assert.equal(report.lostDeadPackets, 0);
    } else if (kind === "leaf") assert(Number(report.lostDeadPackets) > 0, what);
    if (noExpiry) assert(report.notes.some((note) => /times of expiry/.test(note)), what);
  }
  assert(lostInAll > whole.packets.size, "each packet lies on some page");
});

Deno.test("repair: the newest packets are gone, and the counts with them: not said to be whole", async () => {
  using dir = new TempDir();
  await makeQueue(dir.queue, 4);
  const whole = await contentOf(dir.queue);
  const leaves = [...pageUses(dir.queue)].filter(([, { table, kind }]) =>
    table === "packets" && kind === "leaf"
  );
  let openEnds = 0;
  for (const [page] of leaves) {
    const path = dir.file("damaged");
    removeQueue(path);
    copyQueue(dir.queue, path);
    using file = Deno.openSync(path, { write: true });
    file.seekSync((page - 1) * PAGE_BYTES, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(PAGE_BYTES));
    const { report, content } = await repaired(path, dir.file("new"));
    const lost = missing(content, whole);
    if (lost.includes(Math.max(...whole.packets.keys()))) {
      assert.equal(report.lostPackets, undefined);
      assert(report.notes.length > 0);
      openEnds++;
    } else assert.equal(report.lostPackets, lost.length);
  }
  assert.equal(openEnds, 1);
});

Deno.test("repair: what was stored since the counts were written is found where nothing leads to it", async () => {
  for (const place of ["a file", "a spool"]) {
    using dir = new TempDir();
    const open = () =>
      place === "a file" ? OutboundQueue.open(dir.queue) : spoolQueue(dir.queue, "a");
    const count = 900;
    {
      await using queue = await open();
      // No row of `state` is written for them.
      for (let i = 0; i < count / 300; i++) {
        await queue.enqueueMany(randomPackets(randomOf(i), Array(300).fill(50)));
      }
    }
    // The table's first page leads to all leaves.
    const roots = [...pageUses(dir.queue)].filter(([, { table }]) => table === "packets");
    const [root = 0] = roots.map(([page]) => page).sort((a, b) => a - b);
    overwrite(dir.queue, randomOf(7), (root - 1) * PAGE_BYTES, PAGE_BYTES);
    // And once more without the list that says which page that is.
    for (const hasList of [true, false]) {
      if (!hasList) overwrite(dir.queue, randomOf(8), 0, 2 * PAGE_BYTES);
      const to = dir.file("new");
      removeQueue(to);
      const report = place === "a file"
        ? repairQueue(dir.queue, to)
        : repairFromSpool(dir.queue, "a", to);
      assert.equal(report.packets, count, `${place}, ${hasList}`);
      assert.equal(report.lostPackets, undefined);
      assert.deepEqual(report.lostIds, []);
      assert(report.notes.some((note) => note.endsWith(`ids go on from ${count}`)));
      using inspector = await QueueInspector.open(to);
      assert.deepEqual(await inspector.check(), []);
      assert.equal((await inspector.counts()).lastId, count);
    }
  }
});

Deno.test("repair: through a link the log is read that lies beside the file", async () => {
  using dir = new TempDir();
  const file = dir.file("disk/outbox.db");
  Deno.mkdirSync(dir.file("disk"));
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(["one", "two"].map((text) => bytes(text)));
  }
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue(bytes("three"));
    copyQueue(dir.queue, file);
  }
  Deno.symlinkSync(file, dir.file("link"));
  const direct = await repaired(file, dir.file("direct.db"));
  assert.equal(direct.content.packets.size, 3);
  assert.deepEqual(await repaired(dir.file("link"), dir.file("saved.db")), direct);
});

Deno.test("repair: a map of owners that is all zeros leads nobody astray", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    for (let i = 0; i < 40; i++) await queue.enqueue(new Uint8Array(6000).fill(i));
  }
  const whole = await repaired(dir.queue, dir.file("whole.db"));
  {
    using file = Deno.openSync(dir.queue, { write: true });
    file.seekSync(4096, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(4096));
  }
  const saved = await repaired(dir.queue, dir.file("saved.db"));
  assert.equal(saved.content.packets.size, 40);
  assert.deepEqual(saved.content.packets, whole.content.packets);
});

Deno.test("repair: a spool's queue is found by its name, whichever page with names is noise", async () => {
  using dir = new TempDir();
  const sound = dir.file("sound");
  const named = (number: number) => `${"x".repeat(50)}-${number}`;
  {
    await using queue = await spoolQueue(sound, "first");
    await queue.enqueue("first");
  }
  // More than a page of names, in the table and in its index.
  for (let i = 2; i <= 200; i++) {
    tamper(
      sound,
      `INSERT INTO queues VALUES (${i}, '${named(i)}')`,
      `INSERT INTO state VALUES (${i}${", 0".repeat(16)})`,
    );
  }
  for (const number of [2, 100, 200]) {
    await using queue = await spoolQueue(sound, named(number));
    await queue.enqueue(`of ${number}`);
  }
  let pages = 0;
  for (const [page, { table }] of pageUses(sound)) {
    if (!/queues/.test(table)) continue;
    pages++;
    removeQueue(dir.queue);
    copyQueue(sound, dir.queue);
    overwrite(dir.queue, randomOf(page), (page - 1) * PAGE_BYTES, PAGE_BYTES);
    for (const number of [2, 100, 200]) {
      const to = dir.file("new");
      removeQueue(to);
      const report = repairFromSpool(dir.queue, named(number), to);
      assert.deepEqual([report.packets, report.lostPackets, report.notes], [1, 0, []], table);
      using inspector = await QueueInspector.open(to);
      assert.deepEqual((await inspector.packet(1))?.payload, bytes(`of ${number}`));
    }
    assert.throws(
      () => repairFromSpool(dir.queue, "none", dir.file("none")),
      /it has no queue none\. Found were: .*x-\d+/,
    );
  }
  assert(pages >= 6, `${pages}`);
});

Deno.test("repair: what does not match its checksum becomes a dead letter", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue(bytes("one"));
    await queue.enqueueMany([bytes("two"), bytes("three")]);
    await queue.enqueue(bytes("four"));
  }
  tamper(dir.queue, "UPDATE packets SET payload = CAST('Twothree' AS BLOB) WHERE last_id = 3");
  const { report, content } = await repaired(dir.queue, dir.file("new"));
  assert.deepEqual([...content.packets.keys()], [1, 4]);
  assert.deepEqual([...content.letters.keys()], [2, 3]);
  assert.deepEqual([report.lostPackets, report.lostIds, report.lostDeadPackets], [0, [], 0]);
  assert.equal(
    report.notes[0],
    "packets that do not match their checksum are dead letters now (sendq list --dead): 2",
  );
});

Deno.test("repair: what a server has said to a packet is saved, from a new file and a migrated one", async () => {
  using dir = new TempDir();
  for (const isMigrated of [false, true]) {
    const path = dir.file(`from-${isMigrated}`);
    {
      await using queue = await OutboundQueue.open(path);
      await queue.enqueueMany(["a", "b", "c"].map((text) => new TextEncoder().encode(text)));
    }
    if (isMigrated) asVersion2(path);
    const words = `"ERR ${"x".repeat(9000)}"`;
    {
      await using queue = await OutboundQueue.open(path);
      await sendingSideOf(queue).refuse(2, words);
      await sendingSideOf(queue).giveUp(3, 2);
    }
    await repaired(path, dir.file("to"));
    await using queue = await OutboundQueue.open(dir.file("to"));
    const letters = await queue.deadLetters(0, Infinity);
    assert.deepEqual(letters.map((letter) => [letter.id, letter.reason, letter.words]), [
      [2, "refused", words],
      [3, "gave-up", undefined],
    ]);
    const { refusedPackets, gaveUpPackets } = queue.stats();
    assert.deepEqual([refusedPackets, gaveUpPackets], [1, 1]);
  }
});

Deno.test("repair: of a batch with a damaged page, what lies before and behind it is saved", async () => {
  using dir = new TempDir();
  const random = randomOf(12);
  {
    await using queue = await OutboundQueue.open(dir.queue, { durability: "process-crash" });
    for (let i = 0; i < 6; i++) {
      await queue.enqueueMany(randomPackets(random, Array.from({ length: 160 }, () => 100)));
    }
  }
  const whole = await contentOf(dir.queue);
  const path = dir.file("damaged");
  let overflowPages = 0;
  for (const [page, { kind }] of pageUses(dir.queue)) {
    if (kind !== "overflow") continue;
    overflowPages++;
    removeQueue(path);
    copyQueue(dir.queue, path);
    overwrite(path, random, (page - 1) * PAGE_BYTES, PAGE_BYTES);
    const { report, content } = await repaired(path, dir.file("new"));
    assertTrue(content, whole, `page ${page}`);
    // 41 packets and two parts; the first page also says where some 40 of them end.
    const lost = missing(content, whole).length;
    assert(lost <= 88, `page ${page}: ${lost} lost`);
    assert.equal(report.lostPackets, lost);
  }
  assert(overflowPages >= 18, `${overflowPages} overflow pages`);
});

Deno.test("repair: noise at any place and of any length: never a wrong id, never a crash", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.array(
        fc.record({
          at: fc.double({ min: 0, max: 1, noNaN: true }),
          length: fc.constantFrom(1, 7, 512, 4096, 20_000),
          log: fc.boolean(),
        }),
        { minLength: 1, maxLength: 6 },
      ),
      fc.double({ min: 0.3, max: 1, noNaN: true }),
      async (seed, holes, cut) => {
        using dir = new TempDir();
        const random = randomOf(seed);
        const path = dir.file("copy");
        const ids = new Set<number>();
        {
          await using queue = await OutboundQueue.open(dir.queue, { durability: "process-crash" });
          for (let i = 0; i < 12; i++) {
            const sizes = i % 5 === 4 ? [9000] : Array.from({ length: 60 }, () => 50);
            const { firstId, lastId } = await queue.enqueueMany(randomPackets(random, sizes));
            for (let id = firstId; id <= lastId; id++) ids.add(id);
            if (i === 6) await (await OutboundQueue.open(dir.queue)).close();
          }
          await sendingSideOf(queue).giveUp(30, 1);
          copyQueue(dir.queue, path);
        }
        for (const { at, length, log } of holes) {
          const file = log ? `${path}-wal` : path;
          overwrite(file, random, Math.floor(at * Deno.statSync(file).size), length);
        }
        if (cut < 0.9) Deno.truncateSync(path, Math.floor(cut * Deno.statSync(path).size));
        try {
          const { content } = await repaired(path, dir.file("new"));
          for (const id of content.packets.keys()) assert(ids.has(id), `id ${id}`);
        } catch (error) {
          assert(error instanceof QueueFileError, String(error));
          assert(["not-a-queue", "newer-version"].includes(error.reason), error.message);
          assert.throws(() => Deno.statSync(dir.file("new")), Deno.errors.NotFound);
        }
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("repair: of the log it takes what SQLite takes", async () => {
  using dir = new TempDir();
  const random = randomOf(11);
  await using queue = await OutboundQueue.open(dir.queue, { durability: "process-crash" });
  for (let i = 0; i < 8; i++) {
    await queue.enqueueMany(randomPackets(random, Array.from({ length: 30 }, () => 200)));
    await sendingSideOf(queue).removeThrough(10 * i);
  }
  const logBytes = Deno.statSync(`${dir.queue}-wal`).size;
  const seen = new Set<number>();
  for (let i = 0; i < 40; i++) {
    const paths = [dir.file("a"), dir.file("b")] as const;
    const at = 32 + Math.floor(random() * (logBytes - 32));
    for (const path of paths) {
      removeQueue(path);
      copyQueue(dir.queue, path);
      if (i % 2 === 0) Deno.truncateSync(`${path}-wal`, at);
      else overwrite(`${path}-wal`, randomOf(i), at, 8);
    }
    let bySqlite: Content | undefined;
    try {
      bySqlite = await contentOf(paths[0]);
    } catch (error) {
      // Before the first commit there is no queue yet.
      assert(error instanceof QueueFileError, String(error));
    }
    if (bySqlite === undefined || bySqlite.counts.lastId === 0) continue;
    const { content } = await repaired(paths[1], dir.file("new"));
    assert.deepEqual(content, bySqlite, `attempt ${i}, byte ${at}`);
    seen.add(content.packets.size);
  }
  assert(seen.size >= 4, `only ${seen.size} different states of the log`);
});

Deno.test("repair: a log that is not there is named when something is missing", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueueMany(randomPackets(randomOf(1), Array.from({ length: 300 }, () => 100)));
  await (await OutboundQueue.open(dir.queue)).close();
  copyQueue(dir.queue, dir.file("copy"));
  const first = await repaired(dir.file("copy"), dir.file("new"));
  assert.deepEqual([first.content.packets.size, first.report.notes], [300, []]);
  tamper(dir.file("copy"), "UPDATE state SET queued_packets = 400, last_id = 400");
  const { report } = await repaired(dir.file("copy"), dir.file("new"));
  assert.deepEqual([report.packets, report.lostPackets], [300, 100]);
  assert.match(
    report.notes.join(),
    /there is no log beside it: if .*copy.* is a copy, copy .*-wal/,
  );
});

Deno.test("repair: without the counts, or from version 1", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    for (let i = 0; i < 3; i++) {
      await queue.enqueueMany(["one", "two", "three"].map((text) => bytes(text)));
    }
    await sendingSideOf(queue).removeThrough(3);
  }
  const whole = await contentOf(dir.queue);
  asVersion1(dir.queue);
  assert.deepEqual((await repaired(dir.queue, dir.file("new"))).content, whole);

  tamper(dir.queue, "DELETE FROM state");
  const { report, content } = await repaired(dir.queue, dir.file("new"));
  assert.deepEqual(content.packets, whole.packets);
  const { packets, bytes: size, lastId, removedThroughId, sentThroughId } = content.counts;
  assert.deepEqual([packets, size, lastId, removedThroughId], [6, 22, 9, 3]);
  assert.equal(sentThroughId, 9, "the server may have any of them");
  assert.equal(report.lostPackets, undefined);
  await using queue = await OutboundQueue.open(dir.file("new"));
  assert.equal(await queue.enqueue(bytes("next")), 10);
});

Deno.test("repair: a size that claims gigabytes costs one packet, and no memory", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    for (let i = 0; i < 20; i++) await queue.enqueue(new Uint8Array(100_000).fill(i));
  }
  const file = Deno.readFileSync(dir.queue);
  const leaf =
    [...pageUses(dir.queue)].find(([, { table, kind }]) => table === "packets" && kind === "leaf")
      ?.[0] ?? 0;
  const at = (leaf - 1) * PAGE_BYTES;
  const cell = at + new DataView(file.buffer).getUint16(at + 8);
  // The size's varint, and the key's with it: about 900 MB.
  file.set([0x83, 0xad, 0xa4, 0x00], cell);
  Deno.writeFileSync(dir.queue, file);
  // The file is large enough for it; there is nothing in the rest.
  Deno.truncateSync(dir.queue, 1024 ** 3);
  const before = Deno.memoryUsage().rss;
  const report = repairQueue(dir.queue, dir.file("new"));
  assert.deepEqual([report.packets, report.lostPackets], [19, 1]);
  const grown = Deno.memoryUsage().rss - before;
  assert(grown < 300 * 1024 ** 2, `${grown >> 20} MiB more`);
});

Deno.test("repair: a log that claims 2^32 pages is read to its end all the same", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.file("live"));
  for (let i = 0; i < 5; i++) await queue.enqueue(bytes(`packet ${i}`));
  copyQueue(dir.file("live"), dir.queue);
  const log = Deno.readFileSync(`${dir.queue}-wal`);
  claimPages(log, 2 ** 32 - 1);
  Deno.writeFileSync(`${dir.queue}-wal`, log);
  const report = repairQueue(dir.queue, dir.file("new"));
  assert.deepEqual([report.packets, report.lostPackets], [5, 0]);
});

/** Makes the last commit of a log claim so many pages; its checksums stay right. */
function claimPages(log: Uint8Array<ArrayBuffer>, pages: number): void {
  const view = new DataView(log.buffer);
  const littleEndian = view.getUint32(0) === 0x377f0682;
  let a = 0, b = 0;
  const add = (from: number, length: number) => {
    for (let i = from; i < from + length; i += 8) {
      a = (a + view.getUint32(i, littleEndian) + b) >>> 0;
      b = (b + view.getUint32(i + 4, littleEndian) + a) >>> 0;
    }
  };
  add(0, 24);
  const frames = Math.floor((log.length - 32) / (24 + PAGE_BYTES));
  const atOf = (frame: number) => 32 + frame * (24 + PAGE_BYTES);
  const last = Array.from({ length: frames }, (_, i) => i)
    .findLast((frame) => view.getUint32(atOf(frame) + 4) !== 0) ?? 0;
  for (let frame = 0; frame <= last; frame++) {
    const at = atOf(frame);
    if (frame === last) view.setUint32(at + 4, pages);
    add(at, 8);
    add(at + 24, PAGE_BYTES);
    view.setUint32(at + 16, a);
    view.setUint32(at + 20, b);
  }
}

Deno.test("repair: a queue goes on where it was", async () => {
  using dir = new TempDir();
  await makeQueue(dir.queue, 6);
  await repaired(dir.queue, dir.file("new"));
  await using queue = await OutboundQueue.open(dir.file("new"));
  const { lastId } = queue;
  assert.equal(await queue.enqueue(bytes("next")), lastId + 1);
  await sendingSideOf(queue).removeThrough(lastId);
  assert.equal((await queue.read(0, 100)).length, 1);
});

Deno.test("repair: what is refused leaves no file behind, and touches none", async (t) => {
  using dir = new TempDir();
  await makeQueue(dir.queue, 8);
  Deno.writeTextFileSync(dir.file("there"), "precious");
  Deno.writeTextFileSync(dir.file("text"), "no database ".repeat(1000));
  tamper(dir.file("other"), "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)");
  copyQueue(dir.queue, dir.file("newer"));
  tamper(dir.file("newer"), "PRAGMA user_version = 77");
  const cases: [string, string, QueueFileError["reason"], RegExp][] = [
    ["outbox.db", "there", "io", /there is such a file already/],
    ["missing", "new", "io", /there is no such file/],
    ["text", "new", "not-a-queue", /nothing of a queue was found/],
    ["other", "new", "not-a-queue", /another program's database/],
    ["newer", "new", "newer-version", /has version 77/],
    [".", "new", "not-a-queue", /it is no file/],
    ["outbox.db", "nowhere/new", "io", /directory does not exist/],
  ];
  for (const [from, to, reason, message] of cases) {
    await t.step(`${from} to ${to}`, () => {
      assert.throws(() => repairQueue(dir.file(from), dir.file(to)), (error) => {
        assert(error instanceof QueueFileError, String(error));
        assert.match(error.message, message);
        return error.reason === reason;
      });
      assert.throws(() => Deno.statSync(dir.file("new")), Deno.errors.NotFound);
    });
  }
  assert.equal(Deno.readTextFileSync(dir.file("there")), "precious");
});

Deno.test({
  ...unless(NO_TMPFS, "repair, backup: on a disk that is full at whatever moment, nothing is left"),
  async fn() {
    using dir = new TempDir();
    await makeQueue(dir.queue, 8);
    for (const copy of [repairQueue, backUpQueue]) {
      using disk = new Disk("size=1m");
      const directory = disk.queue.slice(0, disk.queue.lastIndexOf("/"));
      disk.fillUp();
      let refused = 0;
      for (let isDone = false; !isDone;) {
        try {
          await copy(dir.queue, disk.queue);
          isDone = true;
        } catch (error) {
          assert(error instanceof QueueFileError && error.reason === "disk-full", String(error));
          refused++;
        }
        const left = [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
        const ballast = "outbox.db.ballast";
        assert.deepEqual(left, isDone ? ["outbox.db", ballast] : [ballast]);
        const { size } = Deno.statSync(`${directory}/${ballast}`);
        Deno.truncateSync(`${directory}/${ballast}`, size - PAGE_BYTES);
      }
      assert(refused > 5, `${refused}`);
    }
  },
});
