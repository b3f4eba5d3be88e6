import assert from "node:assert/strict";
import { networkAvailable } from "../../lab/network.ts";
import { type Figures, figuresOf, rowOf } from "../../lab/outcome.ts";
import { formatTable } from "../../lab/report.ts";
import { missingFor, runScenario } from "../../lab/runner.ts";
import type { Expectation, Scenario } from "../../lab/scenario.ts";
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
    // Those with a box first: their long holds have to pass before they end.
    const todo = SCENARIOS.filter(({ quick }) => quick)
      .toSorted((a, b) => Number(b.box !== undefined) - Number(a.box !== undefined));
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

const scenarioWith = (expect: Expectation): Scenario => ({
  name: "x",
  title: "x",
  steps: [],
  expect,
});

/** The figures of a server that read these packets, one connection a list. */
function figuresFor(...connections: string[][]): Figures {
  return figuresWith({}, ...connections);
}

function figuresWith(expect: Expectation, ...connections: string[][]): Figures {
  const record = connections.map((packets, i) => ({
    number: i + 1,
    peer: "192.0.2.2:50000",
    packets: packets.map((text) => ({ bytes: new TextEncoder().encode(text), readAtMs: 0 })),
    partialBytes: 0,
    end: "fin" as const,
  }));
  return figuresOf(scenarioWith(expect), { ...evidence, record });
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

Deno.test("a loss that a scenario is there to show is an outcome of its own, and no failure", () => {
  const resultOf = (expect: Expectation, ...connections: string[][]) => {
    const row = rowOf(scenarioWith(expect), [figuresWith(expect, ...connections)]);
    return / ([^|]*?) +\|\n$/.exec(formatTable([row]))?.[1];
  };
  assert.equal(resultOf({ lost: "some" }, ["p0\n"]), "loss, as expected");
  assert.equal(resultOf({ lost: "some" }, ["p0\n", "p1\n", "p2\n"]), "ok");
  assert.equal(resultOf({}, ["p0\n"]), "FAILED: 2 packets lost");
  // A loss that is expected excuses nothing else.
  assert.match(resultOf({ lost: "some" }, ["p1\n", "p0\n"]) ?? "", /^FAILED: .*out of order/);
});

Deno.test("a scenario may allow fewer duplicates than were held", () => {
  const twice = [["p0\n", "p1\n", "p2\n"], ["p2\n"]];
  const words = "1 duplicates instead of 0";
  assert.ok(figuresWith({ duplicated: 0 }, ...twice).failures.includes(words));
  assert.ok(!figuresWith({ duplicated: 1 }, ...twice).failures.includes(words));
});
