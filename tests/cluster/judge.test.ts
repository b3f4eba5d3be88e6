/** The judge of the cluster ring, on evidence that is made up. */
import assert from "node:assert/strict";
import type { RecordedConnection } from "../../lab/record.ts";
import { addressOf, type SenderHost } from "../../cluster/network.ts";
import { type Evidence, figuresOf, rowOf } from "../../cluster/outcome.ts";
import type { Outcome } from "../../cluster/producer.ts";
import { formatTable } from "../../cluster/report.ts";
import type { Scenario } from "../../cluster/scenario.ts";
import { PLANTED, SCENARIOS } from "../../cluster/scenarios.ts";

const SCENARIO: Scenario = { name: "none", title: "nothing", steps: [], expect: {} };

/** Acknowledged under its number as its id, at its number in milliseconds. */
function stored(id: number, letter = "a"): Outcome {
  return { packet: `${letter}${id}\n`, id, askedAtMs: id - 0.5, answeredAtMs: id, words: "" };
}

/** Read from a sender in this order, each a millisecond after the one before. */
function connection(
  number: number,
  host: SenderHost,
  ids: readonly number[],
  fromMs: number,
): RecordedConnection {
  return {
    number,
    peer: `${addressOf(host)}:50000`,
    packets: ids.map((id, at) => ({
      bytes: new TextEncoder().encode(`a${id}\n`),
      readAtMs: fromMs + at,
    })),
    partialBytes: 0,
    end: "fin",
  };
}

/** Read from a sender in this order, each at its time. */
function readAt(packets: readonly (readonly [packet: string, readAtMs: number])[]) {
  return {
    ...connection(1, "sender1", [], 0),
    packets: packets.map(([packet, readAtMs]) => (
      { bytes: new TextEncoder().encode(`${packet}\n`), readAtMs }
    )),
  };
}

/** Four packets, the second of them twice, because the first sender was killed. */
const GOOD: Evidence = {
  outcomes: [4, 2, 3, 1].map((id) => stored(id)),
  edges: [],
  record: [connection(1, "sender1", [1, 2], 1), connection(2, "sender2", [2, 3, 4], 103)],
  database: { lastId: 4, packets: 0 },
  tenures: [{ epoch: 1, host: "sender1" }, { epoch: 2, host: "sender2" }],
  removals: [{ epoch: 1, host: "sender1" }, { epoch: 2, host: "sender2" }],
  ends: [],
  noStandby: [],
  disturbed: { fromMs: 2, toMs: 110 },
  troubles: [],
  seconds: 1,
};

function failuresOf(change: Partial<Evidence>, scenario = SCENARIO): readonly string[] {
  return figuresOf(scenario, { ...GOOD, ...change }).failures;
}

Deno.test("the judge finds nothing where nothing is wrong, and counts", () => {
  assert.deepEqual(figuresOf(SCENARIO, GOOD), {
    ...{ acknowledged: 4, lost: 0, storedTwice: 0, duplicates: 1, outOfOrder: 0, refused: 0 },
    ...{ storingSeconds: 0.106, failoverSeconds: 0.101, seconds: 1, failures: [] },
  });
});

Deno.test("the judge finds each kind of fault", () => {
  const [first, second] = GOOD.record;
  assert(first && second);
  assert.deepEqual(failuresOf({ record: [first] }), ["2 acknowledged packets lost"]);
  assert.deepEqual(failuresOf({ database: { lastId: 5, packets: 0 } }), ["1 packets stored twice"]);
  assert.match(
    failuresOf({ record: [connection(1, "sender1", [1, 2, 3, 3, 4], 1)] }).join(),
    /^1 packets stored twice/,
  );
  assert.match(
    failuresOf({ record: [connection(1, "sender1", [1, 3, 2, 4], 1)] }).join(),
    /times out of order within a connection/,
  );
  assert.match(
    failuresOf({ record: [connection(1, "sender1", [1, 2, 4], 1), second] }).join(),
    /^1 times out of order/,
    "a packet that was skipped",
  );
  assert.deepEqual(
    failuresOf({ outcomes: GOOD.outcomes.map((one) => ({ ...one, id: 1 })) })[0],
    "3 packets were given the id of another one",
  );
  assert.match(
    failuresOf({ database: { lastId: 3, packets: 0 } }).join(),
    /^1 acknowledged packets have no id in the database/,
  );
  assert.deepEqual(failuresOf({ database: { lastId: 4, packets: 1 } }), [
    "1 packets were left in the queue",
  ]);
  const refused: Outcome = { ...stored(9), id: undefined, words: "busy" };
  assert.deepEqual(failuresOf({ outcomes: [...GOOD.outcomes, refused] }), []);
  assert.deepEqual(
    failuresOf({
      outcomes: [...GOOD.outcomes, refused],
      record: [...GOOD.record, connection(3, "sender2", [9], 200)],
    }),
    ["1 packets were read that were refused, or that nobody had stored"],
  );
});

Deno.test("the judge finds a sender that goes on without its right", () => {
  const late = connection(1, "sender1", [1, 2, 3], 102);
  assert.deepEqual(
    failuresOf({ record: [late, connection(2, "sender2", [2, 3, 4], 103)] }),
    ["1 packets were sent by a sender that had lost its right"],
  );
  assert.deepEqual(failuresOf({ removals: [{ epoch: 2, host: "sender1" }] }), [
    "1 removals by a sender that had lost its right",
  ]);
  const end = { host: "sender1", signal: null } as const;
  const last = { atMs: 0, saysMs: 0, fields: {}, named: undefined, toSendAgain: 0 };
  const fenced = {
    ...end,
    code: 1,
    last: { ...last, message: "another sender has taken it over" },
  };
  const expects: Scenario = { ...SCENARIO, expect: { fenced: true } };
  assert.deepEqual(failuresOf({}, expects), [
    "no sender ended because it had lost its right",
  ]);
  assert.deepEqual(failuresOf({ ends: [fenced] }, expects), []);
  assert.deepEqual(
    failuresOf({ ends: [{ ...end, code: 1, last: { ...last, message: "out of memory" } }] }),
    ["sender1 ended with 1 and said: out of memory"],
  );
});

Deno.test("the judge finds an acknowledgement while there was no standby", () => {
  const noStandby = [{ fromMs: 2.2, toMs: 3.2 }];
  assert.deepEqual(failuresOf({ noStandby }), [
    "1 packets were acknowledged while there was no standby",
  ]);
  assert.deepEqual(failuresOf({ noStandby: [{ fromMs: 2.6, toMs: 3.2 }] }), []);
});

/** Two packets of a producer, and two of each of two edges, whose ids are those of its file. */
const WITH_EDGES: Evidence = {
  ...GOOD,
  outcomes: [stored(1), stored(4)],
  edges: ["d", "e"].map((letter) => (
    { letter, outcomes: [stored(2, letter), stored(1, letter)], left: 0 }
  )),
  record: [readAt([["a1", 3], ["d1", 4], ["e1", 5], ["e2", 6], ["a4", 7], ["d2", 9]])],
  database: { lastId: 6, packets: 0 },
  disturbed: { fromMs: 1.5, toMs: 10 },
};

Deno.test("each edge's packets are held against the order of its file", () => {
  const { failures, acknowledged, storingSeconds, failoverSeconds } = figuresOf(
    SCENARIO,
    WITH_EDGES,
  );
  assert.deepEqual([failures, acknowledged], [[], 6]);
  assert.equal(storingSeconds, 0.008, "an edge's: after its second packet nothing was stored");
  assert.equal(failoverSeconds, 0.005, "an edge's: between its packets four of others were read");

  const failuresWith = (change: Partial<Evidence>) =>
    figuresOf(SCENARIO, { ...WITH_EDGES, ...change }).failures;
  const read = (...packets: string[]) => ({
    record: [readAt(packets.map((packet, at) => [packet, at]))],
  });
  assert.deepEqual(failuresWith(read("a1", "d1", "e1", "e2", "a4")), [
    "1 acknowledged packets lost",
  ]);
  assert.deepEqual(failuresWith(read("a1", "d2", "d1", "e1", "e2", "a4")), [
    "1 times out of order within a connection",
  ]);
  assert.deepEqual(
    failuresWith({
      ...read("a1", "d1", "d2", "d1", "d2", "e1", "e2", "a4"),
      database: { lastId: 8, packets: 0 },
    }),
    ["2 packets stored twice", "1 times out of order within a connection"],
  );
  assert.deepEqual(failuresWith({ database: { lastId: 7, packets: 0 } }), [
    "1 packets stored twice",
  ]);
  assert.deepEqual(failuresWith({ database: { lastId: 5, packets: 0 } }), [
    "1 acknowledged packets have no id in the database",
  ]);
  assert.deepEqual(failuresWith(read("a1", "d1", "d2", "e1", "e2", "e3", "f1", "a4")), [
    "2 packets were read that were refused, or that nobody had stored",
  ]);
  const [first, second] = WITH_EDGES.edges;
  assert(first && second);
  const refused: Outcome = { ...stored(3, "d"), id: undefined, words: "full" };
  assert.deepEqual(
    failuresWith({ edges: [{ ...first, outcomes: [...first.outcomes, refused] }, second] }),
    ["1 packets were refused by an edge's file"],
  );
  assert.deepEqual(failuresWith({ edges: [first, { ...second, left: 2 }] }), [
    "2 packets were left in an edge's file",
  ]);
});

Deno.test("for how long nothing is stored is held against its limit", () => {
  const figures = figuresOf(SCENARIO, GOOD);
  const row = (storingSeconds: number) =>
    rowOf({ ...SCENARIO, expect: { storingWithinSeconds: 5 } }, [{ ...figures, storingSeconds }])
      .failures;
  assert.deepEqual(row(4.9), []);
  assert.deepEqual(row(5.1), ["nothing was stored for 5.10 s, 5.00 at most"]);
});

Deno.test("a row has the median of its failovers, the shortest and the longest", () => {
  const figures = figuresOf(SCENARIO, GOOD);
  const row = rowOf(
    SCENARIO,
    [3, 1, 2].map((failoverSeconds) => ({ ...figures, failoverSeconds })),
  );
  const { failoverSeconds, leastFailoverSeconds, mostFailoverSeconds } = row;
  assert.deepEqual([leastFailoverSeconds, failoverSeconds, mostFailoverSeconds], [1, 2, 3]);
  assert.match(formatTable([row]), /\| 2\.0 \(1\.0 to 3\.0\) +\|/);
});

Deno.test("a failover is held against its limit, or the engine's", () => {
  const figures = figuresOf(SCENARIO, GOOD);
  const row = (
    seconds: number,
    storing: number,
    failoverWithinSeconds: number | "engine" | "engine-then-lease",
  ) =>
    rowOf({ ...SCENARIO, expect: { failoverWithinSeconds } }, [
      { ...figures, failoverSeconds: seconds, storingSeconds: storing },
    ]).failures;
  assert.deepEqual(row(4.9, 0, 5), []);
  assert.deepEqual(row(5.1, 9, 5), ["nothing was delivered for 5.10 s, 5.00 at most"]);
  assert.deepEqual(row(3.9, 0, "engine"), []);
  assert.deepEqual(row(6.9, 6, "engine"), []);
  assert.deepEqual(row(9.9, 6, "engine-then-lease"), []);
  assert.equal(row(10.1, 6, "engine-then-lease").length, 1);
  assert.deepEqual(row(7.1, 6, "engine"), ["nothing was delivered for 7.10 s, 7.00 at most"]);
});

Deno.test("no two scenarios of the cluster have the same name, nor two planted faults", () => {
  for (const all of [SCENARIOS, PLANTED]) {
    assert.equal(new Set(all.map(({ name }) => name)).size, all.length);
  }
});
