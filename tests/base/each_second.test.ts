import assert from "node:assert/strict";
import { eachSecond } from "../../src/base/waits.ts";
import { ManualClock } from "../support/manual_clock.ts";

Deno.test("those who begin at about the same time have one timer, and each its second", () => {
  const clock = new ManualClock();
  const calls: string[] = [];
  const ends = ["a", "b"].map((name) => eachSecond(clock, () => calls.push(name)));
  clock.advance(60);
  ends.push(eachSecond(clock, () => calls.push("late")));
  assert.equal(clock.timers.size, 2);
  clock.advance(940);
  assert.deepEqual(calls.splice(0), ["a", "b"]);
  clock.advance(1000);
  assert.deepEqual(calls.splice(0), ["late", "a", "b"]);
  for (const end of ends) end();
  for (const end of ends) end();
  assert.equal(clock.timers.size, 0);
  clock.advance(5000);
  assert.deepEqual(calls, []);
});

Deno.test("the same callback may come twice, and one that ends another is obeyed", () => {
  const clock = new ManualClock();
  let calls = 0;
  const count = () => {
    calls++;
    endOther();
  };
  eachSecond(clock, count);
  const endOther = eachSecond(clock, count);
  clock.advance(3000);
  assert.equal(calls, 3);
});

Deno.test("who begins while others are called has a second of its own", () => {
  const clock = new ManualClock();
  let begun = 0;
  const end = eachSecond(clock, () => {
    if (begun++ === 0) eachSecond(clock, () => begun += 10);
  });
  clock.advance(1000);
  assert.equal(begun, 1);
  clock.advance(1000);
  assert.equal(begun, 12);
  end();
});

Deno.test("what was missed while the loop stood still is not caught up with", () => {
  const timers: (() => void)[] = [];
  const clock = new ManualClock();
  let aheadMs = 0;
  const late = {
    wallMs: () => clock.wallMs(),
    defer: (callback: () => void) => clock.defer(callback),
    nowMs: () => clock.nowMs() + aheadMs,
    setTimer: (delayMs: number, callback: () => void) => {
      timers.push(callback);
      return clock.setTimer(delayMs, callback);
    },
  };
  let calls = 0;
  eachSecond(late, () => calls++);
  aheadMs = 10_500;
  clock.advance(1000);
  assert.equal(calls, 1);
  clock.advance(499);
  assert.equal(calls, 1);
  clock.advance(1);
  assert.equal(calls, 2);
});

Deno.test("one that throws keeps no other from being called", async () => {
  const clock = new ManualClock();
  const thrown = Promise.withResolvers<unknown>();
  const onError = (event: ErrorEvent) => {
    event.preventDefault();
    thrown.resolve(event.error);
  };
  addEventListener("error", onError);
  try {
    let calls = 0;
    eachSecond(clock, () => {
      throw new Error("of one");
    });
    eachSecond(clock, () => calls++);
    clock.advance(1000);
    assert.equal(calls, 1);
    assert.match(String(await thrown.promise), /of one/);
  } finally {
    removeEventListener("error", onError);
  }
});
