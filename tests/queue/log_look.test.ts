import assert from "node:assert/strict";
import type { FileWatch } from "../../src/base/ports.ts";
import { LogLook } from "../../src/queue/log_look.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";

/** What looks once a second say, for so many seconds. */
function looks(look: LogLook, clock: ManualClock, seconds: number): boolean[] {
  return Array.from({ length: seconds }, () => {
    clock.advance(1000);
    return look.mayHaveNews();
  });
}

Deno.test("a log that lies untouched is asked for once in ten seconds", () => {
  using dir = new TempDir();
  const path = dir.file("log");
  Deno.writeTextFileSync(path, "x");
  const clock = new ManualClock();
  const look = new LogLook(path, clock);
  assert.deepEqual(looks(look, clock, 3), [true, true, true]);
  assert.deepEqual(looks(look, clock, 10), [...Array(9).fill(false), true]);
  assert.deepEqual(looks(look, clock, 10), [...Array(9).fill(false), true]);
});

Deno.test("a write is seen by its time or its size, and others with the same time follow", () => {
  using dir = new TempDir();
  const path = dir.file("log");
  Deno.writeTextFileSync(path, "x");
  const clock = new ManualClock();
  const look = new LogLook(path, clock);
  looks(look, clock, 3);
  assert.equal(looks(look, clock, 1)[0], false);
  const atS = Date.UTC(2026, 0, 2) / 1000;
  Deno.utimeSync(path, atS, atS);
  assert.deepEqual(looks(look, clock, 4), [true, true, true, false]);
  Deno.writeTextFileSync(path, "longer");
  Deno.utimeSync(path, atS, atS);
  assert.deepEqual(looks(look, clock, 4), [true, true, true, false]);
});

Deno.test("a log that cannot be looked at is asked for each time", () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  assert.deepEqual(looks(new LogLook(dir.file("none"), clock), clock, 12), Array(12).fill(true));
});

/** What a kernel would tell. */
class WatchStandIn implements FileWatch {
  readonly writes: (() => void)[] = [];
  ended = 0;
  canWatch = true;

  nextWrite(_path: string, onWrite: () => void): () => Promise<void> {
    if (!this.canWatch) throw new Error("no watches are left");
    this.writes.push(onWrite);
    return () => {
      this.ended++;
      return Promise.resolve();
    };
  }

  touches(): () => Promise<void> {
    assert.fail("a log has no touches");
  }
}

/** A log, and who tells of writes into it. */
function watched(dir: TempDir) {
  const path = dir.file("log");
  Deno.writeTextFileSync(path, "x");
  const clock = new ManualClock();
  const watch = new WatchStandIn();
  return { path, clock, watch, look: new LogLook(path, clock, watch) };
}

Deno.test("where writes are told, a log that is quiet is not looked at", async () => {
  using dir = new TempDir();
  const { path, clock, watch, look } = watched(dir);
  assert.deepEqual(looks(look, clock, 3), [true, true, true]);
  assert.equal(watch.writes.length, 1);
  // What nobody tells, nobody sees, until SQLite is asked in any case.
  Deno.writeTextFileSync(path, "longer");
  assert.deepEqual(looks(look, clock, 10), [...Array(9).fill(false), true]);
  watch.writes[0]?.();
  assert.equal(watch.ended, 1);
  assert.deepEqual(looks(look, clock, 3), [true, true, true]);
  assert.equal(watch.writes.length, 1, "while it is written, it is looked at");
  assert.deepEqual(looks(look, clock, 2), [false, false]);
  assert.equal(watch.writes.length, 2);
  await look.stop();
  assert.equal(watch.ended, 2);
});

Deno.test("a write between the last look and the watch is seen", () => {
  using dir = new TempDir();
  const { path, clock, watch, look } = watched(dir);
  looks(look, clock, 1);
  watch.writes[0]?.();
  Deno.writeTextFileSync(path, "longer");
  looks(look, clock, 3);
  assert.equal(watch.writes.length, 1);
  Deno.writeTextFileSync(path, "longer still");
  assert.deepEqual(looks(look, clock, 4), [true, true, true, false]);
  assert.equal(watch.writes.length, 2);
});

Deno.test("where no watch is left, the log is looked at, and a watch tried again", () => {
  using dir = new TempDir();
  const { path, clock, watch, look } = watched(dir);
  watch.canWatch = false;
  assert.deepEqual(looks(look, clock, 5), [true, true, true, false, false]);
  Deno.writeTextFileSync(path, "longer");
  assert.deepEqual(looks(look, clock, 4), [true, true, true, false]);
  watch.canWatch = true;
  assert.deepEqual(looks(look, clock, 1), [false]);
  assert.equal(watch.writes.length, 1);
});
