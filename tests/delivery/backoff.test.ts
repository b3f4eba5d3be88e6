import assert from "node:assert/strict";
import { Backoff } from "../../src/delivery/backoff.ts";

Deno.test("the ceiling doubles up to the cap, and chance picks below it", () => {
  const backoff = new Backoff(100, 1000, () => 0.5);
  assert.deepEqual(Array.from({ length: 6 }, () => backoff.nextDelayMs()), [
    50,
    100,
    200,
    400,
    500,
    500,
  ]);
});

Deno.test("full jitter: from nothing to nearly the ceiling", () => {
  assert.equal(new Backoff(100, 1000, () => 0).nextDelayMs(), 0);
  assert.ok(new Backoff(100, 1000, () => 0.999).nextDelayMs() < 100);
});

Deno.test("a reset starts over", () => {
  const backoff = new Backoff(100, 1000, () => 0.5);
  backoff.nextDelayMs();
  backoff.nextDelayMs();
  assert.equal(backoff.failures, 2);
  backoff.reset();
  assert.equal(backoff.failures, 0);
  assert.equal(backoff.nextDelayMs(), 50);
});

Deno.test("a year of failures does not overflow", () => {
  const backoff = new Backoff(100, 1000, () => 0.5);
  for (let failure = 0; failure < 5000; failure++) backoff.nextDelayMs();
  assert.equal(backoff.nextDelayMs(), 500);
});
