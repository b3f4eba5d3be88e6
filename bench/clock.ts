/**
 * CLOCK_MONOTONIC, which all processes of a machine share; `performance.now()`
 * starts at another moment in each.
 *
 * @module
 */

const CLOCK_MONOTONIC = 1;
const libc = Deno.dlopen("libc.so.6", {
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
});
const timespec = new BigInt64Array(2);

/** Milliseconds by the machine's own clock. */
export function monotonicMs(): number {
  if (libc.symbols.clock_gettime(CLOCK_MONOTONIC, timespec) !== 0) {
    throw new Error("clock_gettime(CLOCK_MONOTONIC) failed");
  }
  return Number(timespec[0]) * 1000 + Number(timespec[1]) / 1e6;
}
