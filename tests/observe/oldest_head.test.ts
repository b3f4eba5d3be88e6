import assert from "node:assert/strict";
import { OldestHead } from "../../src/observe/http.ts";
import { bytes } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";

const packet = (id: number) => ({ id, payload: bytes(`packet ${id}\n`), expiresAtMs: Infinity });
const oldest = (id: number) => ({ id, enqueuedAtMs: 0, ageMs: 0, attempts: 0 }) as never;

Deno.test("the oldest packet is read once for all who look, and a second is waited for it", async () => {
  const clock = new ManualClock();
  const asked: number[] = [];
  let answer = Promise.withResolvers<ReturnType<typeof packet>[]>();
  const head = new OldestHead((afterId) => {
    asked.push(afterId);
    return answer.promise;
  }, clock);
  const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

  // Nobody answers: all are told without it, and nobody asks once more.
  const looks = Array.from({ length: 32 }, () => head.shownWith(oldest(7)));
  await settled();
  clock.advance(1000);
  for (const shown of await Promise.all(looks)) assert.equal("head" in shown, false);
  const late = head.shownWith(oldest(7));
  assert.deepEqual(asked, [6]);
  answer.resolve([packet(7)]);
  assert.equal(atob((await late as { head: string }).head), "packet 7\n");
  // It is known from then on.
  assert.equal((await head.shownWith(oldest(7)) as { bytes: number }).bytes, 9);
  assert.deepEqual(asked, [6]);

  // Another one is read anew, and one that failed is asked for again.
  answer = Promise.withResolvers();
  answer.reject(new Error("the queue is closed"));
  assert.equal("head" in await head.shownWith(oldest(8)), false);
  answer = Promise.withResolvers();
  answer.resolve([packet(9)]);
  assert.equal((await head.shownWith(oldest(8))).id, 9);
  assert.deepEqual(asked, [6, 7, 7]);
});
