/** Disk space that is kept for removals: a queue that has filled its disk gets out of that by itself. */
import { sendingSideOf } from "../../src/queue/queue.ts";
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { systemClock } from "../../src/base/clock.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import type { Allocate } from "../../src/base/ports.ts";
import { allocator } from "../../src/kernel/allocate.ts";
import { readSenderNotice } from "../../src/queue/lock_file.ts";
import type { OutboundQueue } from "../../src/queue/queue.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { child, lines, NO_TMPFS, unless } from "./helpers.ts";
import { Disk } from "./disk.ts";
import { inEachFile, inEachPlace, tenureOf } from "./threads.ts";

/** How the reserve comes to be. */
const WAYS: readonly (readonly [string, Allocate | undefined])[] = [
  ["written", undefined],
  ["kept by the filesystem", allocator()],
];
for (
  const [megabytes, [way, allocate]] of [2, 6, 20].flatMap((size) =>
    WAYS.map((way) => [size, way] as const)
  )
) {
  inEachPlace(
    `a disk of ${megabytes} MiB, full of packets: they are removed, and others stored; reserve ${way}`,
    async (open) => {
      using disk = new Disk(`size=${megabytes}m`);
      const clock = new ManualClock();
      await using queue = await open(disk.queue, { clock });
      await using lock = await tenureOf(queue, clock, allocate);
      sendingSideOf(queue).answerDoorbell(lock);
      assert(
        lock.spare.reserveBytes > 0 && lock.spare.reserveBytes === lock.spare.wantedReserveBytes,
      );
      let first = 0;
      for (let round = 0; round < 4; round++) {
        const stored = await fill(queue);
        if (round === 0) first = stored;
        // Not all that was free at first, but again and again.
        assert(stored > first / 2, `${stored} packets in round ${round}, ${first} at first`);
        await sendingSideOf(queue).removeThrough(queue.lastId - 10);
        assert.equal(queue.stats().packets, 10);
        assert.equal(
          lock.spare.reserveBytes,
          lock.spare.wantedReserveBytes,
          "the reserve is whole again",
        );
        clock.advance(1000);
      }
      assert.equal((await queue.read(0, 1e9)).length, 10);
    },
    NO_TMPFS,
  );
}

for (const megabytes of [3, 8, 40]) {
  inEachPlace(
    `a disk of ${megabytes} MiB, full of large packets: they are removed one by one`,
    async (open) => {
      using disk = new Disk(`size=${megabytes}m`);
      const clock = new ManualClock();
      await using queue = await open(disk.queue, { clock });
      await using lock = await tenureOf(queue);
      sendingSideOf(queue).answerDoorbell(lock);
      // Smaller ones each time, so that the last of them find little room.
      for (const part of [3, 4, 5, 8, 16, 64, 256]) {
        const large = new Uint8Array(Math.floor(megabytes * 1024 * 1024 / part)).fill(7);
        await assert.rejects(async () => {
          for (;;) await queue.enqueue(large);
        }, { reason: "disk-full" });
      }
      assert(queue.stats().packets > 2);
      for (let id = 1; id <= queue.lastId; id++) await sendingSideOf(queue).removeThrough(id);
      assert.equal(queue.stats().packets, 0);
      assert.equal(lock.spare.reserveBytes, lock.spare.wantedReserveBytes);
    },
    NO_TMPFS,
  );
}

inEachPlace("a disk that others have filled to the last byte: removals go on", async (open) => {
  using disk = new Disk("size=8m");
  const clock = new ManualClock();
  await using queue = await open(disk.queue, { clock });
  await using lock = await tenureOf(queue);
  sendingSideOf(queue).answerDoorbell(lock);
  for (let i = 0; i < 20; i++) await queue.enqueueMany(packets());
  disk.fillUp();
  await fill(queue);
  for (let id = 100; id <= queue.lastId; id += 100) await sendingSideOf(queue).removeThrough(id);
  await sendingSideOf(queue).removeThrough(queue.lastId);
  assert.equal(queue.stats().packets, 0);
  disk.makeRoom();
  clock.advance(1000);
  await queue.enqueueMany(packets());
  assert.equal(lock.spare.reserveBytes, lock.spare.wantedReserveBytes);
}, NO_TMPFS);

inEachPlace(
  "a sender starts on a full disk, and has the reserve of the last one",
  async (open, fileOf) => {
    using disk = new Disk("size=8m");
    await using queue = await open(disk.queue);
    await queue.enqueueMany(packets());
    const last = await tenureOf(queue);
    const { reserveBytes } = last.spare;
    last.publish("a".repeat(1000));
    await last.release();
    disk.fillUp();
    await using lock = await tenureOf(queue);
    assert.equal(lock.spare.reserveBytes, reserveBytes);
    assert.deepEqual(await readSenderNotice(disk.queue), { pid: Deno.pid, text: "" });
    // In a spool the reports stand in a file of their own.
    if (fileOf === "queue") {
      lock.publish("b");
      assert.equal((await readSenderNotice(disk.queue))?.text, "b");
    }
    sendingSideOf(queue).answerDoorbell(lock);
    await sendingSideOf(queue).removeThrough(queue.lastId);
  },
  NO_TMPFS,
);

Deno.test({
  ...unless(NO_TMPFS, "a sender starts on a full disk without a reserve, and gets one with room"),
  fn: async () => {
    using disk = new Disk("size=8m");
    Deno.writeTextFileSync(disk.queue, "");
    disk.fillUp();
    using lock = await SenderLock.acquire(disk.queue);
    assert.equal(lock.reserveBytes, 0);
    assert.equal(lock.releaseReserve(), false);
    assert.equal(lock.restoreReserve(), false);
    disk.makeRoom();
    assert.equal(lock.restoreReserve(), true);
    assert.equal(lock.reserveBytes, 2 * 1024 * 1024);
  },
});

Deno.test("the reserve is really on the disk, and goes with the first call", async () => {
  using dir = new TempDir();
  using lock = await SenderLock.acquire(dir.queue);
  const { reserveBytes, path } = lock;
  assert.equal(reserveBytes, 8 * 1024 * 1024);
  const held = Deno.statSync(path);
  assert(512 * (held.blocks ?? 0) >= reserveBytes, `${held.blocks} blocks`);
  lock.publish("notice");
  assert.equal(lock.releaseReserve(), true);
  assert.equal(lock.releaseReserve(), false);
  assert(Deno.statSync(path).size <= 32 * 1024);
  assert.equal((await readSenderNotice(dir.queue))?.text, "notice");
  assert.equal(lock.restoreReserve(), true);
  assert.equal(Deno.statSync(path).size, held.size);
});

Deno.test("a reserve that the filesystem keeps takes its space, and is not written", async () => {
  using dir = new TempDir();
  let calls = 0;
  const allocate = allocator() ?? assert.fail("the C library was granted");
  using lock = await SenderLock.acquire(dir.queue, systemClock, (...range) => {
    calls++;
    return allocate(...range);
  });
  const { reserveBytes, path } = lock;
  assert.deepEqual([reserveBytes, calls], [8 * 1024 * 1024, 1]);
  const { size, blocks } = Deno.statSync(path);
  assert.equal(size, 32 * 1024 + reserveBytes);
  assert(512 * (blocks ?? 0) >= reserveBytes, `${blocks} blocks`);
  assert(Deno.readFileSync(path).subarray(32 * 1024).every((byte) => byte === 0));
  // What is given up for a removal comes back the same way.
  assert(lock.releaseReserve());
  assert(Deno.statSync(path).size <= 32 * 1024);
  assert(lock.restoreReserve());
  assert.deepEqual([lock.reserveBytes, calls], [reserveBytes, 2]);
});

for (
  const [what, allocate] of [
    ["the filesystem cannot", () => false],
    ["somebody says so, and nothing is kept", () => true],
    ["it has a hole", (path: string) => {
      Deno.truncateSync(path, 32 * 1024 + 8 * 1024 * 1024);
      return true;
    }],
  ] as const
) {
  Deno.test(`a reserve is written where none is kept: ${what}`, async () => {
    using dir = new TempDir();
    using lock = await SenderLock.acquire(dir.queue, systemClock, allocate);
    assert.equal(lock.reserveBytes, 8 * 1024 * 1024);
    const { size, blocks } = Deno.statSync(lock.path);
    assert.equal(size, 32 * 1024 + lock.reserveBytes);
    assert(512 * (blocks ?? 0) >= lock.reserveBytes, `${blocks} blocks`);
  });
}

Deno.test("a lock file with holes is filled", async () => {
  using dir = new TempDir();
  Deno.writeTextFileSync(`${dir.queue}.lock`, "");
  Deno.truncateSync(`${dir.queue}.lock`, 16 * 1024 * 1024);
  using lock = await SenderLock.acquire(dir.queue);
  const { size, blocks } = Deno.statSync(lock.path);
  assert.equal(size, 32 * 1024 + lock.reserveBytes);
  assert(512 * (blocks ?? 0) >= size);
});

inEachPlace("a disk that was full before the first sender came", async (open) => {
  using disk = new Disk("size=4m");
  const enqueuing = await open(disk.queue);
  const stored = await fill(enqueuing);
  await enqueuing.close();
  disk.fillUp();
  await using queue = await open(disk.queue);
  await using lock = await tenureOf(queue);
  sendingSideOf(queue).answerDoorbell(lock);
  await sendingSideOf(queue).removeThrough(stored - 10);
  await sendingSideOf(queue).removeThrough(stored);
  assert.equal(queue.stats().packets, 0);
}, NO_TMPFS);

for (const megabytes of [3, 6, 12]) {
  Deno.test({
    ...unless(NO_TMPFS, `${megabytes} MiB, and a process that may not ask how large the disk is`),
    fn: async () => {
      using disk = new Disk(`size=${megabytes}m`);
      // The second process finds the first one's reserve.
      for (let start = 0; start < 2; start++) {
        const filler = child("filler.ts", disk.queue);
        const stored: number[] = [];
        for await (const line of lines(filler.stdout)) stored.push(Number(line));
        assert.equal((await filler.status).code, 0);
        const [first = 0] = stored;
        assert(stored.length === 4 && stored.every((count) => count > first / 2), `${stored}`);
      }
    },
  });
}

inEachPlace("a queue is opened, and emptied, on a disk without a free byte", async (open) => {
  using disk = new Disk("size=8m");
  const before = await open(disk.queue);
  for (let i = 0; i < 20; i++) await before.enqueueMany(packets());
  await before.close();
  for (let start = 0; start < 3; start++) {
    disk.fillUp();
    await using queue = await open(disk.queue);
    await using lock = await tenureOf(queue);
    sendingSideOf(queue).answerDoorbell(lock);
    await sendingSideOf(queue).removeThrough(queue.removedThroughId + 400);
  }
  await using queue = await open(disk.queue);
  assert.equal(queue.stats().packets, 20 * 64 - 3 * 400);
}, NO_TMPFS);

for (const bytes of [10, 1000]) {
  inEachPlace(
    `packets of ${bytes} bytes expire on a full disk: no removal lacks room for it`,
    async (open) => {
      using disk = new Disk("size=1m");
      const clock = new ManualClock();
      await using queue = await open(disk.queue, { clock });
      await using lock = await tenureOf(queue, clock);
      const sending = sendingSideOf(queue);
      sending.answerDoorbell(lock);
      // As dead letters they take more room: each has a row.
      const packets = Array.from({ length: 10_000 / bytes }, () => "0123456789".repeat(bytes / 10));
      for (let isFull = false; !isFull;) {
        await queue.enqueueMany(packets, { ttlMs: 60_000 }).catch((error) => {
          assert.equal(error.reason, "disk-full");
          isFull = true;
        });
      }
      const { packets: stored } = queue.stats();
      clock.advance(61_000);
      // All of them are passed over, so that nothing behind them would wait.
      assert.deepEqual(await sending.readBatches(queue.removedThroughId, 1), []);
      const { expiredPackets, deadPackets, droppedPackets } = queue.stats();
      assert.equal(expiredPackets, stored);
      assert.equal(deadPackets + droppedPackets, stored);
      await sending.removeThrough(queue.lastId);
      // In steps, as the command does it.
      for (let firstId = 1; firstId <= queue.lastId; firstId += 100) {
        await queue.removeDeadLetters({ firstId, lastId: firstId + 99 });
      }
      assert.equal(lock.spare.reserveBytes, lock.spare.wantedReserveBytes);
      assert.equal(await queue.enqueue("there is room again"), queue.lastId);
    },
    NO_TMPFS,
  );
}

inEachPlace(
  "small packets are refused on a full disk: each finds room, in the place of older dead letters",
  async (open) => {
    using disk = new Disk("size=1m");
    await using queue = await open(disk.queue);
    await using lock = await tenureOf(queue);
    const sending = sendingSideOf(queue);
    sending.answerDoorbell(lock);
    const packets = Array.from({ length: 100 }, () => "0123456789");
    for (let i = 0; i < 20; i++) await queue.enqueueMany(packets);
    disk.fillUp();
    // With words, for the reserve is used up by fewer of them.
    for (let id = 1; id <= 700; id++) await sending.refuse(id, "no".repeat(250));
    const { refusedPackets, deadPackets, droppedPackets } = queue.stats();
    assert.equal(refusedPackets, 700);
    assert.equal(deadPackets + droppedPackets, 700);
    assert(deadPackets > 100 && droppedPackets > 100, `${deadPackets} are left`);
    await sending.removeThrough(queue.lastId);
    assert.equal(queue.stats().packets, 0);
  },
  NO_TMPFS,
);

inEachPlace("packets that are larger than the reserve are refused on a full disk", async (open) => {
  using disk = new Disk("size=8m");
  await using queue = await open(disk.queue);
  await using lock = await tenureOf(queue);
  const sending = sendingSideOf(queue);
  sending.answerDoorbell(lock);
  await queue.enqueue(new Uint8Array(2_500_000));
  await queue.enqueue("behind it");
  disk.fillUp();
  await sending.giveUp(1, 3);
  const { packets, gaveUpPackets, deadPackets, droppedPackets } = queue.stats();
  assert.deepEqual([packets, gaveUpPackets, deadPackets + droppedPackets], [1, 1, 1]);
  await sending.removeThrough(2);
  assert.equal(lock.spare.reserveBytes, lock.spare.wantedReserveBytes);
}, NO_TMPFS);

inEachPlace(
  "packets are damaged on a full disk: what becomes no dead letter holds nobody up",
  async (open) => {
    using disk = new Disk("size=2m");
    const before = await open(disk.queue);
    await (await tenureOf(before)).release();
    const packets = Array.from({ length: 2000 }, () => "0");
    for (let i = 0; i < 20; i++) await before.enqueueMany(packets);
    await before.close();
    const database = nodeSqlite.open(disk.queue, { readOnly: false, busyTimeoutMs: 0 });
    database.prepare("UPDATE packets SET crc = crc + 1").run([]);
    database.close();
    await using queue = await open(disk.queue);
    await using lock = await tenureOf(queue);
    disk.fillUp();
    const sending = sendingSideOf(queue);
    sending.answerDoorbell(lock);
    // Also where a removal comes upon them.
    await sending.removeThrough(15_500);
    assert.deepEqual(await sending.readBatches(queue.removedThroughId, 1), []);
    const { damagedPackets, deadPackets, droppedPackets } = queue.stats();
    assert.equal(deadPackets + droppedPackets, damagedPackets);
    assert(deadPackets > 2000 && droppedPackets > 2000, `${deadPackets} are left`);
    for (let firstId = 1; firstId <= queue.lastId; firstId += 1000) {
      await queue.removeDeadLetters({ firstId, lastId: firstId + 999 });
    }
    assert.equal(lock.spare.reserveBytes, lock.spare.wantedReserveBytes);
    assert.equal(await queue.enqueue("there is room again"), queue.lastId);
  },
  NO_TMPFS,
);

inEachPlace(
  "a reader keeps the log on a full disk: once it has gone, removals go on",
  async (open) => {
    using disk = new Disk("size=2m");
    const clock = new ManualClock();
    await using queue = await open(disk.queue, { clock });
    await using lock = await tenureOf(queue, clock);
    const sending = sendingSideOf(queue);
    sending.answerDoorbell(lock);
    await queue.enqueueMany(packets());
    let removed = 0;
    {
      using reader = new DatabaseSync(disk.queue, { readOnly: true });
      reader.exec("BEGIN; SELECT count(*) FROM packets");
      await fill(queue);
      await assert.rejects(async () => {
        for (;;) await sending.removeThrough(++removed);
      }, { reason: "disk-full" });
    }
    await sending.removeThrough(queue.lastId);
    assert.equal(queue.stats().packets, 0);
    assert.equal(lock.spare.reserveBytes, lock.spare.wantedReserveBytes);
  },
  NO_TMPFS,
);

inEachFile(
  "a file on a full disk becomes an edge's, and what the cluster has leaves it",
  async (open) => {
    using disk = new Disk("size=8m");
    const before = await open(disk.queue);
    for (let i = 0; i < 20; i++) await before.enqueueMany(packets());
    await before.close();
    await using queue = await open(disk.queue);
    await using lock = await tenureOf(queue);
    disk.fillUp();
    const sending = sendingSideOf(queue);
    const { edge } = sending;
    assert(edge !== undefined);
    const [id, other] = [crypto.randomUUID(), crypto.randomUUID()];
    await assert.rejects(async () => await edge.setEdgeId(id), { reason: "disk-full" });
    const end = sending.useSpareSpace(lock.spare);
    await edge.setEdgeId(id);
    assert.equal(await edge.edgeId(), id);
    await sending.removeThrough(1000);
    // What it is used for from now on does not forget that it is given up.
    sending.answerDoorbell(lock);
    await edge.setEdgeId(other);
    assert.equal(await edge.edgeId(), other);
    await sending.removeThrough(queue.lastId);
    assert.equal(lock.spare.reserveBytes, lock.spare.wantedReserveBytes);
    end();
  },
  NO_TMPFS,
);

Deno.test("a lock file may be used by whoever may use the queue", async () => {
  using dir = new TempDir();
  Deno.writeTextFileSync(dir.queue, "");
  Deno.chmodSync(dir.queue, 0o660);
  using lock = await SenderLock.acquire(dir.queue);
  assert.equal((Deno.statSync(lock.path).mode ?? 0) & 0o777, 0o660);
  if (Deno.uid() !== 0) return;
  Deno.chownSync(dir.queue, 1234, 2345);
  Deno.removeSync(lock.path);
  using again = await SenderLock.acquire(dir.queue);
  const { uid, gid } = Deno.statSync(again.path);
  assert.deepEqual([uid, gid], [1234, 2345]);
});

function packets(): Uint8Array[] {
  return Array.from({ length: 64 }, () => new Uint8Array(1000).fill(7));
}

/** Stores packets until the disk is full. Returns how many. */
async function fill(queue: OutboundQueue): Promise<number> {
  for (let stored = 0;; stored += 64) {
    try {
      await queue.enqueueMany(packets());
    } catch (error) {
      assert(error instanceof QueueFileError && error.reason === "disk-full", String(error));
      return stored;
    }
  }
}
