import assert from "node:assert/strict";
import { type DiskReading, PAGE_BYTES } from "../../src/queue/sqlite/disk_space.ts";
import type { SqliteDatabase } from "../../src/queue/sqlite/driver.ts";
import { LogRoom } from "../../src/queue/sqlite/log_room.ts";

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

/** A disk of 10 GiB with an empty file, and how often somebody looks at it. */
class Bench {
  looks = 0;
  nowMs = 0;
  freeBytes: number;
  keptBytes = 8 * MIB;
  /** The queue with what is in its log. */
  pages = 0;
  readonly room: LogRoom;

  constructor(freeBytes: number) {
    this.freeBytes = freeBytes;
    const database: SqliteDatabase = {
      prepare: () => ({ run: () => {}, all: () => [[this.pages]] }),
      close: () => {},
    };
    const look = (): DiskReading => {
      this.looks++;
      const { freeBytes, keptBytes } = this;
      return { diskBytes: 10 * GIB, freeBytes, fileBytes: 0, keptBytes };
    };
    this.room = new LogRoom({ path: "queue.db", database, look, nowMs: () => this.nowMs });
  }

  store(mebibytes: number): void {
    for (let i = 0; i < mebibytes; i++) this.room.check(MIB);
  }
}

Deno.test("each MiB the disk is looked at, where it has less than a GiB left", () => {
  const bench = new Bench(GIB);
  bench.store(50);
  assert.equal(bench.looks, 50);
});

Deno.test("where it has more, a look is good for 100 ms", () => {
  const bench = new Bench(2 * GIB);
  bench.store(50);
  assert.equal(bench.looks, 1);
  bench.nowMs += 99.9;
  bench.store(1);
  assert.equal(bench.looks, 1);
  bench.nowMs += 0.1;
  bench.store(1);
  assert.equal(bench.looks, 2);
});

Deno.test("and no longer than 64 MiB, also by a clock that stands still", () => {
  const bench = new Bench(2 * GIB);
  bench.store(65);
  assert.equal(bench.looks, 2);
  bench.store(63);
  assert.equal(bench.looks, 2);
  bench.store(1);
  assert.equal(bench.looks, 3);
});

Deno.test("once it has less, each MiB is looked for again", () => {
  const bench = new Bench(2 * GIB);
  bench.store(1);
  bench.freeBytes = GIB;
  bench.nowMs += 100;
  bench.store(10);
  assert.equal(bench.looks, 11);
});

Deno.test("a full disk is looked at for each commit, until there is room", () => {
  const bench = new Bench(2 * GIB);
  bench.store(1);
  bench.nowMs += 100;
  bench.freeBytes = 8 * MIB;
  bench.pages = 16 * MIB / PAGE_BYTES;
  for (let looks = 2; looks < 5; looks++) {
    assert.throws(() => bench.room.check(looks === 2 ? MIB : 1), { reason: "disk-full" });
    assert.equal(bench.looks, looks);
  }
  bench.freeBytes = 2 * GIB;
  bench.room.check(1);
  assert.equal(bench.looks, 5);
});

Deno.test("dead letters may grow the file as long as half the reserve is left for removals", () => {
  const bench = new Bench(5 * MIB);
  bench.pages = MIB / PAGE_BYTES;
  bench.room.checkBuried(MIB / 2);
  bench.pages++;
  assert.throws(() => bench.room.checkBuried(MIB / 2), { reason: "disk-full" });
  // Stored packets find that half, which is kept for that.
  bench.room.check(MIB / 2);
  // The log of a large one is gone before the next removal needs it.
  bench.pages = 1;
  bench.freeBytes = 6 * MIB;
  bench.room.checkBuried(5 * MIB);
  assert.throws(() => bench.room.checkBuried(6 * MIB), { reason: "disk-full" });
});

Deno.test("while the reserve is given up, packets leave the room that it needs", () => {
  const bench = new Bench(4 * MIB);
  bench.room.check(1);
  bench.keptBytes = 32 * 1024;
  assert.throws(() => bench.room.check(MIB), { reason: "disk-full" });
  bench.freeBytes = 10 * MIB;
  bench.room.check(1);
});

Deno.test("a removal leaves the room that the log takes in the file", () => {
  const bench = new Bench(2 * MIB);
  bench.pages = MIB / PAGE_BYTES;
  bench.room.checkRemoved();
  bench.freeBytes = MIB;
  assert.throws(() => bench.room.checkRemoved(), { reason: "disk-full" });
  // Once the log is moved it needs none.
  bench.pages = 0;
  bench.freeBytes = 0;
  bench.room.checkRemoved();
});
