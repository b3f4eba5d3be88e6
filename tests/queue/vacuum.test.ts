import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { Vacuum } from "../../src/queue/commit/vacuum.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { settle } from "./helpers.ts";

/** A file that gives back what it is asked to. */
class File {
  readonly calls: string[] = [];
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
    const given = Math.min(pages, this.freePages);
    this.pages -= given;
    this.freePages -= given;
    return { pages: this.pages, freePages: this.freePages };
  }

  checkpoint(): void {
    this.calls.push("checkpoint");
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
        const steps = Math.ceil((free - 1024) / 200);
        assert.deepEqual(file.calls, ["space", ...Array(steps).fill("step"), "checkpoint"]);
      },
    ),
    { numRuns: 30 },
  );
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
  assert.deepEqual(file.calls, ["space", "step"]);
  isIdle = false;
  await runOut(clock);
  assert.deepEqual(file.calls, ["space", "step"]);
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
  assert.deepEqual(file.calls, ["space", "space"]);
  vacuum.stop();
  vacuum.wake();
  assert.equal(clock.timers.size, 0);
  await runOut(clock);
  assert.deepEqual(file.calls, ["space", "space"]);
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
