import assert from "node:assert/strict";
import { runLease } from "../../simulation/lease_run.ts";
import type { RunResult } from "../../simulation/run.ts";

const FIXED_SEEDS = 60;
const FRESH_SEEDS = 40;

async function mustHold(fromSeed: number, count: number): Promise<RunResult[]> {
  const results: RunResult[] = [];
  for (let seed = fromSeed; seed < fromSeed + count; seed++) {
    const result = await runLease(seed);
    assert.equal(
      result.violation,
      undefined,
      `seed ${seed}: ${result.violation}\nagain: deno task simulate --lease --seed ${seed}`,
    );
    results.push(result);
  }
  return results;
}

Deno.test(`simulation of the lease: ${FIXED_SEEDS} fixed seeds hold, and do see faults`, async () => {
  const results = await mustHold(1, FIXED_SEEDS);
  const sum = (value: (result: RunResult) => number): number =>
    results.reduce((total, result) => total + value(result), 0);
  // Worlds without trouble would prove nothing.
  assert.ok(sum(({ connections }) => connections) > 5 * FIXED_SEEDS);
  assert.ok(sum(({ duplicates }) => duplicates) > FIXED_SEEDS);
  // A database that goes back forgets some of what it has acknowledged; the rest arrives.
  const accepted = sum(({ accepted }) => accepted);
  const forgotten = sum(({ lostUnread }) => lostUnread);
  assert.ok(forgotten > 0 && forgotten < accepted / 20, `${forgotten} of ${accepted}`);
  assert.ok(sum(({ delivered }) => delivered) >= accepted - forgotten);
});

{
  const from = 1_000_000 + Math.floor(Math.random() * 1e9);
  Deno.test(`simulation of the lease: ${FRESH_SEEDS} fresh seeds hold, from ${from}`, async () => {
    await mustHold(from, FRESH_SEEDS);
  });
}

Deno.test("simulation of the lease: the same seed is the same run", async () => {
  assert.deepEqual(await runLease(7), await runLease(7));
});
