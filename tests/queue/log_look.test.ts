import assert from "node:assert/strict";
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
