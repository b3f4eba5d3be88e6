import assert from "node:assert/strict";
import { networkAvailable } from "../../lab/network.ts";
import { type Figures, figuresOf } from "../../lab/outcome.ts";
import { missingFor, runScenario } from "../../lab/runner.ts";
import { SCENARIOS } from "../../lab/scenarios.ts";

const LANES = 3;

const available = await networkAvailable();
// deno-lint-ignore no-console -- an ignored test has to say why
if (!available.ok) console.warn(`laboratory's quick selection ignored: ${available.reason}`);

// Times are not asserted here, for they are the machine's as well: the
// laboratory's command holds them against their limits.
Deno.test({
  name: "the laboratory's quick selection comes out as expected",
  ignore: !available.ok,
  async fn(t) {
    const todo = SCENARIOS.filter(({ quick }) => quick);
    assert.ok(todo.length >= 5);
    await Promise.all(Array.from({ length: LANES }, async () => {
      for (let scenario = todo.shift(); scenario !== undefined; scenario = todo.shift()) {
        const chosen = scenario;
        const missing = missingFor(chosen);
        // deno-lint-ignore no-console -- an ignored step has to say why
        if (missing !== undefined) console.warn(`${chosen.name} ignored: ${missing}`);
        await t.step({
          name: `${chosen.name}: ${chosen.title}`,
          ignore: missing !== undefined,
          sanitizeOps: false,
          sanitizeResources: false,
          sanitizeExit: false,
          async fn() {
            const directory = await Deno.makeTempDir();
            assert.deepEqual((await runScenario(chosen, directory)).failures, []);
            await Deno.remove(directory, { recursive: true });
          },
        });
      }
    }));
  },
});

Deno.test("no two scenarios have the same name", () => {
  assert.equal(new Set(SCENARIOS.map(({ name }) => name)).size, SCENARIOS.length);
});

const evidence = {
  sent: new Map([["p", ["p0\n", "p1\n", "p2\n"]]]),
  ends: [],
  onDiskAtDeaths: 0,
  fault: undefined,
  heal: undefined,
  secondSender: undefined,
  seconds: 1,
  events: [],
};

/** The figures of a server that read these packets, one connection a list. */
function figuresFor(...connections: string[][]): Figures {
  const record = connections.map((packets, i) => ({
    number: i + 1,
    peer: "192.0.2.2:50000",
    packets: packets.map((text) => ({ bytes: new TextEncoder().encode(text), readAtMs: 0 })),
    partialBytes: 0,
    end: "fin" as const,
  }));
  const scenario = { name: "x", title: "x", steps: [], expect: {} };
  return figuresOf(scenario, { ...evidence, record });
}

Deno.test("what must not happen is a failure", () => {
  assert.deepEqual(figuresFor(["p0\n", "p1\n", "p2\n"]).failures, []);
  const broken: [string, string[][]][] = [
    ["lost", [["p0\n", "p1\n"]]],
    ["out of order", [["p1\n", "p0\n", "p2\n"]]],
    ["out of order", [["p0\n", "p1\n", "p1\n", "p2\n"]]],
    ["out of order", [["p0\n", "p2\n"], ["p1\n"]]],
    ["duplicates", [["p0\n", "p1\n", "p2\n"], ["p2\n"]]],
    ["nobody had sent", [["p0\n", "p1\n", "p2\n", "p\n"]]],
    ["nobody had sent", [["p0\n", "p1\n", "p2\n", "q0\n"]]],
  ];
  for (const [words, connections] of broken) {
    const { failures } = figuresFor(...connections);
    assert.ok(failures.some((failure) => failure.includes(words)), `${words}: ${failures}`);
  }
});
