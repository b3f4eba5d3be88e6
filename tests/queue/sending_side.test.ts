import assert from "node:assert/strict";
import { SendingSide, type SendingSideParts } from "../../src/queue/sending_side.ts";
import type { Tenure } from "../../src/queue/tenure.ts";

/** What comes of a promise, and all that follows from that. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

Deno.test("however often somebody rings: one poll is under way, and one more waits", async () => {
  let ring: (rung: boolean) => void = () => {};
  const polls: PromiseWithResolvers<void>[] = [];
  const told: unknown[] = [];
  const side = new SendingSide({
    place: {
      listen(onRing: (rung: boolean) => void) {
        ring = onRing;
        return { mode: "watch", pollReason: undefined, stop: () => Promise.resolve() };
      },
      useSpareSpace() {},
    },
    committer: {
      poll() {
        const poll = Promise.withResolvers<void>();
        polls.push(poll);
        return poll.promise;
      },
    },
    reader: { sweep: () => () => {} },
    time: { isToBeNoted: false },
    listeners: { polls: { call: (failure: unknown) => told.push(failure) } },
    isClosed: () => false,
  } as unknown as SendingSideParts);
  const doorbell = side.answerDoorbell({} as Tenure);
  const ringOften = () => {
    for (let i = 0; i < 10_000; i++) ring(i % 100 !== 0);
  };
  ringOften();
  await settled();
  assert.equal(polls.length, 1);
  // What is rung while it looks may be what it has not seen.
  polls[0]?.resolve();
  await settled();
  assert.equal(polls.length, 2);
  ringOften();
  const failure = new Error("it cannot be asked");
  polls[1]?.reject(failure);
  await settled();
  assert.equal(polls.length, 3);
  assert.deepEqual(told, [failure]);
  polls[2]?.resolve();
  await settled();
  assert.equal(polls.length, 3);
  assert.deepEqual(told, [failure, undefined], "it can be asked again");
  // From here on anew.
  ring(true);
  await settled();
  assert.equal(polls.length, 4);
  polls[3]?.resolve();
  await doorbell.stop();
});
