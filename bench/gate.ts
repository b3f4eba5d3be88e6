// deno-lint-ignore-file no-console
/**
 * The regression gate: fails when a ratio of the quick benchmark has fallen far
 * below what it was. Ratios only, and half of each is left for noise, so that a
 * slow machine passes and a lost order of magnitude does not.
 *
 * @module
 */

import { benchmark } from "./main.ts";

/** Least allowed ratio to the raw SQLite rows of the same round: half of what was measured. */
const LEAST: readonly (readonly [figure: string, ratio: number])[] = [
  ["power-loss, 100 B, 100 enqueuers", 0.25],
  ["power-loss, 100 B, 10000 enqueuers", 0.5],
];

const figures = await benchmark(["throughput"], { rounds: 3, quick: true });
let failed = 0;
for (const [name, least] of LEAST) {
  const ratio = figures.find((figure) => figure.name === name)?.ratio;
  if (ratio === undefined) throw new Error(`the benchmark has no figure "${name}"`);
  // The best of the rounds: what disturbs a round only ever makes it slower.
  const passed = ratio.max >= least;
  if (!passed) failed++;
  console.log(
    `${passed ? "ok  " : "FAIL"} ${name}: ${ratio.max.toFixed(2)} of the floor at best ` +
      `(median ${ratio.median.toFixed(2)}), at least ${least} is wanted`,
  );
}
Deno.exit(failed === 0 ? 0 : 1);
