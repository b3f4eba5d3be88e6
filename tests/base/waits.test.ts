import assert from "node:assert/strict";
import { onAbort, restUnlessAborted, unlessAborted } from "../../src/base/waits.ts";
import { ManualClock } from "../support/manual_clock.ts";

/** An AbortSignal that knows who listens. */
class CountedSignal extends EventTarget {
  aborted = false;
  listeners = 0;

  override addEventListener(...given: Parameters<EventTarget["addEventListener"]>): void {
    this.listeners++;
    super.addEventListener(...given);
  }

  override removeEventListener(...given: Parameters<EventTarget["removeEventListener"]>): void {
    this.listeners--;
    super.removeEventListener(...given);
  }

  get asSignal(): AbortSignal {
    return this as unknown as AbortSignal;
  }
}

Deno.test("a thousand rests leave no listener and no timer behind", async () => {
  const clock = new ManualClock();
  const signal = new CountedSignal();
  for (let i = 0; i < 1000; i++) {
    const resting = restUnlessAborted(clock, 250, signal.asSignal);
    assert.equal(signal.listeners, 1);
    clock.advance(250);
    await resting;
    assert.equal(signal.listeners, 0);
  }
  assert.equal(clock.timers.size, 0);
});

Deno.test("an abort ends a rest, and none begins behind it", async () => {
  const clock = new ManualClock();
  const aborting = new AbortController();
  const resting = restUnlessAborted(clock, 250, aborting.signal);
  aborting.abort();
  await resting;
  await restUnlessAborted(clock, 250, aborting.signal);
  assert.equal(clock.timers.size, 0);
});

Deno.test("however many wait for a signal, it has one listener, and calls them in their order", () => {
  const signal = new CountedSignal();
  const called: number[] = [];
  const forget = Array.from(
    { length: 1000 },
    (_, i) => onAbort(signal.asSignal, () => called.push(i)),
  );
  assert.equal(signal.listeners, 1);
  for (const [i, forgetOne] of forget.entries()) {
    if (i % 2 === 0) forgetOne();
  }
  assert.equal(signal.listeners, 1);
  signal.dispatchEvent(new Event("abort"));
  assert.deepEqual(called, Array.from({ length: 500 }, (_, i) => 2 * i + 1));
  for (const forgetOne of forget) forgetOne();
  signal.dispatchEvent(new Event("abort"));
  assert.equal(called.length, 500, "each is called once");
});

Deno.test("who is taken back by another's call is not called", () => {
  const aborting = new AbortController();
  const called: string[] = [];
  onAbort(aborting.signal, () => {
    called.push("first");
    forgetSecond();
  });
  const forgetSecond = onAbort(aborting.signal, () => called.push("second"));
  const forgetThird = onAbort(aborting.signal, () => {
    called.push("third");
    forgetThird();
  });
  aborting.abort();
  assert.deepEqual(called, ["first", "third"]);
});

Deno.test("a promise is waited for until abort, and nothing of the wait is left behind", async () => {
  const signal = new CountedSignal();
  assert.equal(await unlessAborted(Promise.resolve(1), signal.asSignal), 1);
  await assert.rejects(unlessAborted(Promise.reject(new Error("no")), signal.asSignal), /no/);
  assert.equal(signal.listeners, 0);
  assert.equal(await unlessAborted(Promise.resolve(2), undefined), 2);
  const aborting = new AbortController();
  const late = Promise.withResolvers<never>();
  const waiting = unlessAborted(late.promise, aborting.signal);
  aborting.abort(new Error("stop"));
  await assert.rejects(waiting, /stop/);
  late.reject(new Error("whoever has moved on is not ended by it"));
  await assert.rejects(unlessAborted(Promise.resolve(3), aborting.signal), /stop/);
});
