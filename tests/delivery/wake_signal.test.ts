import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { WakeSignal } from "../../src/delivery/wake_signal.ts";
import { ManualClock } from "../support/manual_clock.ts";

/** A clock whose event loop turns when told. */
class TurningClock extends ManualClock {
  #deferred: (() => void)[] = [];

  override defer(callback: () => void): void {
    this.#deferred.push(callback);
  }

  get isQuiet(): boolean {
    return this.#deferred.length === 0;
  }

  turn(): void {
    for (const callback of this.#deferred.splice(0)) callback();
  }
}

/** Whether a promise is settled, once all promise jobs are done. */
async function isSettled(promise: Promise<void>): Promise<boolean> {
  let settled = false;
  promise.then(() => settled = true);
  for (let i = 0; i < 5; i++) await Promise.resolve();
  return settled;
}

Deno.test("a ring before the wait counts, once", async () => {
  const signal = new WakeSignal(new TurningClock());
  signal.wake();
  signal.wake();
  assert(await isSettled(signal.wait(Infinity)));
  const second = signal.wait(Infinity);
  assert(!await isSettled(second));
  signal.wake();
  assert(await isSettled(second));
});

Deno.test("a wait is over in time, and leaves no timer behind when it is rung before", async () => {
  const clock = new TurningClock();
  const signal = new WakeSignal(clock);
  const late = signal.wait(2.5);
  clock.advance(2);
  assert(!await isSettled(late));
  clock.advance(1);
  assert(await isSettled(late));
  const rung = signal.wait(1000);
  signal.wake();
  assert(await isSettled(rung));
  assert.equal(clock.timers.size, 0);
  assert(!await isSettled(signal.wait(Infinity)), "the time that was up is no ring");
});

Deno.test("the first news after a pause ring at once", async () => {
  const clock = new TurningClock();
  const signal = new WakeSignal(clock);
  for (let i = 0; i < 3; i++) {
    clock.advance(1);
    signal.wakeSoon();
    assert(await isSettled(signal.wait(Infinity)));
    assert(clock.isQuiet);
  }
});

Deno.test("news turn after turn share a ring, within a millisecond, and none is forgotten", async () => {
  await fc.assert(fc.asyncProperty(
    // Each turn of the event loop: how long it takes, and whether it brings news.
    fc.array(
      fc.record({ tookMs: fc.constantFrom(0, 0.1, 0.4, 3), news: fc.boolean() }),
      { maxLength: 40 },
    ),
    async (turns) => {
      const clock = new TurningClock();
      const signal = new WakeSignal(clock);
      let rungAtMs = 0;
      /** When the oldest news came that nobody was woken for. */
      let waitingSinceMs: number | undefined;
      signal.wake();
      await signal.wait(Infinity);
      let waiting = signal.wait(Infinity);
      const look = async () => {
        if (!await isSettled(waiting)) return;
        assert.notEqual(waitingSinceMs, undefined, "woken for nothing");
        waitingSinceMs = undefined;
        rungAtMs = clock.nowMs();
        waiting = signal.wait(Infinity);
      };
      for (const { tookMs, news } of turns) {
        if (news) {
          waitingSinceMs ??= clock.nowMs();
          signal.wakeSoon();
        }
        await look();
        clock.turn();
        await look();
        clock.advance(tookMs);
        // Seen at the end of the turn before; this one may have taken long.
        if (waitingSinceMs !== undefined) {
          assert(clock.nowMs() - tookMs - rungAtMs < 1, "a whole millisecond without a ring");
        }
      }
      // Without further news, the ring comes within three turns.
      for (let i = 0; i < 3; i++) {
        clock.turn();
        await look();
      }
      assert.equal(waitingSinceMs, undefined, "news that nobody was woken for");
      assert(clock.isQuiet);
    },
  ));
});
