/** The judge of the cluster ring, on evidence that is made up. */
import assert from "node:assert/strict";
import type { RecordedConnection } from "../../lab/record.ts";
import { addressOf, type SenderHost } from "../../cluster/network.ts";
import { type Evidence, figuresOf, rowOf } from "../../cluster/outcome.ts";
import type { Outcome } from "../../cluster/producer.ts";
import type { Scenario } from "../../cluster/scenario.ts";
import { PLANTED, SCENARIOS } from "../../cluster/scenarios.ts";

const SCENARIO: Scenario = { name: "none", title: "nothing", steps: [], expect: {} };

/** Acknowledged under its number as its id, at its number in milliseconds. */
function stored(id: number): Outcome {
  return { packet: `a${id}\n`, id, askedAtMs: id - 0.5, answeredAtMs: id, words: "" };
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

/** Four packets, the second of them twice, because the first sender was killed. */
const GOOD: Evidence = {
  outcomes: [4, 2, 3, 1].map(stored),
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
