import assert from "node:assert/strict";
import { planFaults } from "../../soak/plan.ts";

const HALF_AN_HOUR_MS = 30 * 60_000;

Deno.test("planFaults, a fault begins each 2 to 10 s, and is mended 1 s before the next", () => {
  for (let seed = 0; seed < 100; seed++) {
    const faults = planFaults(seed, HALF_AN_HOUR_MS, true);
    assert.ok(faults.length > 250, `seed ${seed}: ${faults.length} faults`);
    for (const [i, { atMs, lengthMs }] of faults.entries()) {
      const intervalMs = (faults[i + 1]?.atMs ?? HALF_AN_HOUR_MS) - atMs;
      assert.ok(intervalMs >= 2_000, `seed ${seed}: ${intervalMs} ms to the next`);
      assert.ok(i === faults.length - 1 || intervalMs <= 10_000, `seed ${seed}: ${intervalMs} ms`);
      assert.ok(lengthMs >= 0 && lengthMs <= intervalMs - 1_000, `seed ${seed}: ${lengthMs} ms`);
    }
  }
});

Deno.test("planFaults, the same seed draws the same faults, another one others", () => {
  assert.deepEqual(planFaults(7, 60_000, true), planFaults(7, 60_000, true));
  assert.notDeepEqual(planFaults(7, 60_000, true), planFaults(8, 60_000, true));
});

Deno.test("planFaults, every kind comes, and the sender is killed in the first quarter only", () => {
  for (const [network, kind] of [[true, "path-cut"], [false, "connection-reset"]] as const) {
    for (let seed = 0; seed < 100; seed++) {
      const faults = planFaults(seed, 5 * 60_000, network);
      assert.deepEqual(
        [...new Set(faults.map((fault) => fault.kind))].sort(),
        [
          ...[kind, "sender-killed", "server-closes", "server-killed", "server-killed-unread"],
          "server-stopped",
        ].sort(),
        `seed ${seed}`,
      );
      const killed = faults.filter((fault) => fault.kind === "sender-killed");
      assert.ok(killed.every(({ atMs }) => atMs < 75_000), `seed ${seed}`);
    }
  }
});
