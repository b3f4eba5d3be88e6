import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { Vacuum } from "../../src/queue/commit/vacuum.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { SqliteCode } from "../../src/queue/sqlite/driver.ts";
import { SqliteStore } from "../../src/queue/store/sqlite_store.ts";
import { spoolQueue } from "../../src/spool/spool.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FaultDriver, settle } from "./helpers.ts";

/** A file that gives back what it is asked to. */
class File {
  readonly calls: string[] = [];
  readonly stepPages: number[] = [];
  /** What a step takes. */
  takes: (pages: number) => void = () => {};
  pages: number;
  freePages: number;
  fault: Error | undefined;

  constructor(pages: number, freePages: number) {
    this.pages = pages;
    this.freePages = freePages;
  }

  space(): { pages: number; freePages: number } {
    this.calls.push("space");
    if (this.fault !== undefined) throw this.fault;
    return { pages: this.pages, freePages: this.freePages };
  }

  vacuumStep(pages: number): { pages: number; freePages: number } {
    this.calls.push("step");
    this.stepPages.push(pages);
    this.takes(pages);
    const given = Math.min(pages, this.freePages);
    this.pages -= given;
    this.freePages -= given;
    return { pages: this.pages, freePages: this.freePages };
  }

  checkpoint(): boolean {
    this.calls.push("checkpoint");
    return true;
  }
}

/** Lets everything happen that has been planned, however long it takes. */
async function runOut(clock: ManualClock): Promise<void> {
  for (let due = clock.nextInMs; due !== undefined; due = clock.nextInMs) {
    clock.advance(due);
    await settle();
  }
}

Deno.test("much free space is given back to a rest, in steps, and then the log is emptied", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 5000 }),
      fc.integer({ min: 0, max: 5000 }),
      async (used, free) => {
        const file = new File(used + free, free);
        const clock = new ManualClock();
        const vacuum = new Vacuum(file, clock, () => true);
        vacuum.wake();
        vacuum.wake();
        assert.equal(clock.timers.size, 1);
        await runOut(clock);
        const isWorthIt = free > 1024 && free > used;
        if (!isWorthIt) return assert.deepEqual(file.calls, ["space"]);
        assert(file.freePages <= 1024, `${file.freePages} pages are left`);
        assert.equal(file.pages - file.freePages, used);
        const steps = file.stepPages.flatMap(() => ["space", "step"]);
        assert.deepEqual(file.calls, [...steps, "checkpoint"]);
      },
    ),
    { numRuns: 30 },
  );
});

Deno.test("packets removed during a look, which takes its time, ask for one more and no second chain", async () => {
  const clock = new ManualClock();
  const file = new File(5000, 5000);
  const looks: PromiseWithResolvers<{ pages: number; freePages: number }>[] = [];
  const slow = {
    space: () => {
      const look = Promise.withResolvers<{ pages: number; freePages: number }>();
      looks.push(look);
      return look.promise;
    },
    vacuumStep: (pages: number) => file.vacuumStep(pages),
    checkpoint: () => file.checkpoint(),
  };
  const vacuum = new Vacuum(slow, clock, () => true);
  vacuum.wake();
  clock.advance(clock.nextInMs ?? 0);
  assert.equal(looks.length, 1);
  vacuum.wake();
  assert.equal(clock.timers.size, 1, "what was removed since is looked for");
  looks[0]?.resolve(file.space());
  await settle();
  assert.equal(clock.timers.size, 1);
  vacuum.stop();
  assert.equal(clock.timers.size, 0, "nothing is left behind");
});

Deno.test("a queue with something to do is left alone, until the next removal", async () => {
  const file = new File(6000, 5000);
  const clock = new ManualClock();
  let isIdle = true;
  const vacuum = new Vacuum(file, clock, () => isIdle);
  vacuum.wake();
  clock.advance(100);
  await settle();
  clock.advance(10);
  await settle();
  const twice = ["space", "step", "space", "step"];
  assert.deepEqual(file.calls, twice);
  isIdle = false;
  await runOut(clock);
  assert.deepEqual(file.calls, twice);
  isIdle = true;
  vacuum.wake();
  await runOut(clock);
  assert.equal(file.calls.at(-1), "checkpoint");
});

Deno.test("a fault gives up until the next removal; nothing happens after stop", async () => {
  const file = new File(6000, 5000);
  const clock = new ManualClock();
  const vacuum = new Vacuum(file, clock, () => true);
  file.fault = new Error("busy");
  vacuum.wake();
  await runOut(clock);
  file.fault = undefined;
  vacuum.wake();
  clock.advance(100);
  await settle();
  assert.deepEqual(file.calls, ["space", "space", "step"]);
  vacuum.stop();
  vacuum.wake();
  assert.equal(clock.timers.size, 0);
  await runOut(clock);
  assert.deepEqual(file.calls, ["space", "space", "step"]);
});

Deno.test("a step holds the loop for 2 ms: it has as many pages as that takes", async () => {
  const file = new File(100_000, 100_000);
  const clock = new ManualClock();
  let pagesAMs = 10_000;
  file.takes = (pages) => clock.advance(pages / pagesAMs);
  const vacuum = new Vacuum(file, clock, () => true);
  const stepsOf = async (count: number) => {
    file.stepPages.length = 0;
    while (file.stepPages.length < count) {
      clock.advance(clock.nextInMs ?? 0);
      await settle();
    }
    return file.stepPages;
  };
  vacuum.wake();
  assert.deepEqual(await stepsOf(12), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2000]);
  pagesAMs = 10;
  assert.deepEqual(await stepsOf(3), [2000, 20, 20]);
  pagesAMs = 0.1;
  assert.deepEqual(await stepsOf(3), [20, 1, 1], "never none");
});

Deno.test("a file that is closed gives everything back, in steps as short, for three seconds", async () => {
  const clock = new ManualClock();
  const finish = async (pagesAMs: number) => {
    const file = new File(100_000, 90_000);
    file.takes = (pages) => clock.advance(pages / pagesAMs);
    await new Vacuum(file, clock, () => true).finish();
    assert.equal(file.calls.at(-1), "checkpoint");
    return file;
  };
  const quick = await finish(10_000);
  assert.equal(quick.freePages, 0);
  assert.equal(Math.max(...quick.stepPages), 2000);
  const slow = await finish(2);
  // 2 pages a millisecond, 3 seconds: one step may be under way when they are over.
  assert.equal(slow.pages - slow.freePages, 10_000);
  assert.ok(Math.abs(90_000 - slow.freePages - 6000) <= 4, `${slow.freePages} are left`);
});

Deno.test("a file that is closed leaves the loop a turn after each step", async () => {
  const file = new File(10_000, 9_000);
  const clock = new ManualClock();
  let turns = 0;
  const turning = { isOver: false };
  const turn = () => {
    turns++;
    if (!turning.isOver) setImmediate(turn);
  };
  setImmediate(turn);
  file.takes = () => {
    clock.advance(2);
    assert(turns >= file.stepPages.length - 1, `${turns} turns in ${file.stepPages.length} steps`);
  };
  await new Vacuum(file, clock, () => true).finish();
  turning.isOver = true;
  assert.equal(file.calls.at(-1), "checkpoint");
  assert(file.stepPages.length > 100);
});

Deno.test("while packets go on being removed nothing is moved, unless there is little to move", async () => {
  const clock = new ManualClock();
  const removeFor = async (file: File, ms: number) => {
    const vacuum = new Vacuum(file, clock, () => true);
    for (let i = 0; i < ms; i += 20) {
      vacuum.wake();
      clock.advance(20);
      await settle();
    }
    return vacuum;
  };
  const half = new File(40_000, 32_000);
  await removeFor(half, 1000);
  assert.deepEqual(half.stepPages, []);
  await runOut(clock);
  assert.equal(half.calls.at(-1), "checkpoint");
  const most = new File(40_000, 36_000);
  const vacuum = await removeFor(most, 1000);
  assert.equal(most.stepPages.length > 0, true);
  vacuum.stop();
});

Deno.test("after a look that has found little, the next one waits for five seconds", async () => {
  const file = new File(100, 50);
  const clock = new ManualClock();
  const vacuum = new Vacuum(file, clock, () => true);
  const removeForMs = async (ms: number) => {
    for (const untilMs = clock.nowMs() + ms; clock.nowMs() < untilMs;) {
      vacuum.wake();
      clock.advance(100);
      await settle();
    }
    return file.calls.splice(0);
  };
  assert.deepEqual(await removeForMs(5000), ["space"]);
  assert.deepEqual(await removeForMs(10_000), ["space", "space"]);
  vacuum.stop();
});

Deno.test("giving space back waits for no sync of the disk, and what is stored behind it does", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  let level = "", committedAt = "";
  const steps = new Set<string>();
  driver.fault = (sql) => {
    const [, set] = /^PRAGMA synchronous ?= ?(\w+)/i.exec(sql) ?? [];
    level = set?.toLowerCase() ?? level;
    if (sql.startsWith("PRAGMA incremental_vacuum")) steps.add(level);
    if (sql === "COMMIT") committedAt = level;
    return undefined;
  };
  const queue = await OutboundQueue.open(dir.queue, { driver, syncIn: "loop" });
  await queue.enqueueMany(Array.from({ length: 100 }, () => new Uint8Array(100_000)));
  await sendingSideOf(queue).removeThrough(queue.lastId);
  await queue.close();
  assert.deepEqual([...steps], ["normal"]);
  assert(Deno.statSync(dir.queue).size < 1e6);
  steps.clear();
  await using again = await OutboundQueue.open(dir.queue, { driver, syncIn: "loop" });
  await again.enqueueMany(Array.from({ length: 100 }, () => new Uint8Array(100_000)));
  await sendingSideOf(again).removeThrough(again.lastId);
  while (steps.size === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await again.enqueue("x");
  assert.equal(committedAt, "full");
});

Deno.test("where the way back to synced commits fails, no commit is made without a sync", async () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  let level = "", staysBack = false, steps = 0, refusals = 0;
  const committedAt = new Set<string>();
  driver.fault = (sql) => {
    const [, set] = /^PRAGMA synchronous ?= ?(\w+)/i.exec(sql) ?? [];
    if (set === "full" && staysBack) {
      refusals++;
      return FaultDriver.error(SqliteCode.IOERR);
    }
    level = set ?? level;
    if (sql.startsWith("PRAGMA incremental_vacuum")) steps++;
    if (sql === "COMMIT") committedAt.add(level);
    return undefined;
  };
  const open = (name: string) => spoolQueue(dir.queue, name, { driver, syncIn: "loop" });
  await using first = await open("first");
  await first.enqueueMany(Array.from({ length: 100 }, () => new Uint8Array(100_000)));
  await sendingSideOf(first).removeThrough(first.lastId);
  committedAt.clear();
  staysBack = true;
  while (steps === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(level, "normal");
  // Whoever writes: packets, an edit, a queue that is made over the same connection.
  const refused = { name: "QueueFileError", reason: "io" };
  await assert.rejects(first.enqueue("x"), refused);
  await assert.rejects(first.removeDeadLetters({ firstId: 1, lastId: 2 }), refused);
  await assert.rejects(open("second"), refused);
  assert.equal(refusals >= 4, true);
  assert.deepEqual([...committedAt], []);
  staysBack = false;
  await using second = await open("second");
  await second.enqueue("y");
  await first.enqueue("z");
  assert.deepEqual([...committedAt], ["full"]);
});

Deno.test("where threads give up and the way back to synced commits fails, nothing is stored either", () => {
  using dir = new TempDir();
  const driver = new FaultDriver();
  const store = SqliteStore.open(dir.queue, { driver, durability: "power-loss" });
  const levels: string[] = [];
  let staysBack = true;
  driver.fault = (sql) => {
    const [, set] = /^PRAGMA synchronous ?= ?(\w+)/i.exec(sql) ?? [];
    if (set === "full" && staysBack) return FaultDriver.error(SqliteCode.IOERR);
    if (set !== undefined) levels.push(set);
    return undefined;
  };
  const edgeId = "00000000-0000-4000-8000-000000000000";
  store.file.syncsCommits(false);
  store.file.syncsCommits(true);
  assert.throws(() => store.setEdgeId(edgeId), { name: "QueueFileError", reason: "io" });
  assert.throws(() => store.file.vacuumStep(1), { name: "QueueFileError", reason: "io" });
  assert.throws(() => store.setEdgeId(edgeId), { name: "QueueFileError", reason: "io" });
  assert.equal(store.edgeId(), undefined);
  staysBack = false;
  store.setEdgeId(edgeId);
  assert.equal(levels.at(-1), "full");
  store.close();
});
