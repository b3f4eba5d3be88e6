import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { Suspects } from "../../src/delivery/suspects.ts";

/** Connections until everything but the culprits is confirmed. */
function play(options: {
  readonly ids: readonly number[];
  readonly culprits: ReadonlySet<number>;
  readonly windowPackets: number;
  readonly maxAttempts: number;
  /** Breaks of the network's, by the number of the connection. */
  readonly badLuck?: (connection: number) => boolean;
}): { gaveUp: Map<number, number>; connections: number; sends: Map<number, number> } {
  const suspects = new Suspects(options.maxAttempts);
  const gaveUp = new Map<number, number>();
  const sends = new Map<number, number>();
  let left = [...options.ids];
  let confirmedId = 0;
  let connections = 0;
  while (left.length > 0) {
    connections++;
    assert.ok(connections < 10_000, "the culprit is not found");
    let broken = false;
    while (left.length > 0 && !broken) {
      const trialId = suspects.trialThroughId(confirmedId);
      const allowed = left.filter((id) => id <= trialId).length;
      const underWay = left.slice(0, Math.min(options.windowPackets, Math.max(1, allowed)));
      for (const id of underWay) sends.set(id, (sends.get(id) ?? 0) + 1);
      broken = underWay.some((id) => options.culprits.has(id)) ||
        (options.badLuck?.(connections) ?? false);
      if (!broken) {
        confirmedId = underWay.at(-1) ?? confirmedId;
        left = left.slice(underWay.length);
        continue;
      }
      const throughId = underWay.at(-1) ?? 0;
      const packets = underWay.length;
      const attempts = suspects.broke({ confirmedId, throughId, packets });
      if (attempts === undefined) continue;
      assert.equal(packets, 1, "given up in company");
      gaveUp.set(throughId, attempts);
      left = left.filter((id) => id !== throughId);
    }
  }
  return { gaveUp, connections, sends };
}

const someIds = fc.uniqueArray(fc.integer({ min: 1, max: 5000 }), {
  minLength: 1,
  maxLength: 300,
}).map((ids) => ids.sort((a, b) => a - b));

Deno.test("those and only those that end each connection are given up", () => {
  fc.assert(fc.property(
    someIds,
    fc.array(fc.nat(299), { maxLength: 3 }),
    fc.integer({ min: 1, max: 400 }),
    fc.integer({ min: 2, max: 12 }),
    (ids, picks, windowPackets, maxAttempts) => {
      const culprits = new Set(picks.map((pick) => ids[pick % ids.length] ?? 0));
      const { gaveUp, sends, connections } = play({ ids, culprits, windowPackets, maxAttempts });
      assert.deepEqual(new Set(gaveUp.keys()), culprits);
      for (const [id, attempts] of gaveUp) {
        assert.ok(attempts >= maxAttempts, `${id} was given up after ${attempts}`);
        assert.ok(attempts <= (sends.get(id) ?? 0));
      }
      // Halving, and then as often as it takes: twice as often behind another culprit.
      const halvings = 2 + 2 * Math.ceil(Math.log2(Math.max(2, windowPackets)));
      let allowed = 1;
      for (let n = 0; n < culprits.size; n++) allowed += halvings + maxAttempts * 2 ** n;
      assert.ok(connections <= allowed, `${connections} connections`);
    },
  ));
});

Deno.test("a server that ends every connection costs few packets, however long it does", () => {
  const suspects = new Suspects(3);
  const gaveUp: number[] = [];
  let head = 1;
  for (let connection = 1; connection <= 3 * (2 ** 6 - 1); connection++) {
    const attempts = suspects.broke({ confirmedId: 0, throughId: head, packets: 1 });
    if (attempts === undefined) continue;
    gaveUp.push(attempts);
    head++;
  }
  assert.deepEqual(gaveUp, [3, 6, 12, 24, 48, 96]);
  // A packet that gets through proves that it was not the server.
  for (let i = 1; i < 3; i++) {
    assert.equal(suspects.broke({ confirmedId: head, throughId: head + 1, packets: 1 }), undefined);
  }
  assert.equal(suspects.broke({ confirmedId: head, throughId: head + 1, packets: 1 }), 3);
});

Deno.test("a bad path alone gives nothing up while packets get through in between", () => {
  const ids = Array.from({ length: 1000 }, (_, i) => i + 1);
  const { gaveUp } = play({
    ids,
    culprits: new Set(),
    windowPackets: 100,
    maxAttempts: 3,
    badLuck: (connection) => connection < 40 && connection % 2 === 0,
  });
  assert.equal(gaveUp.size, 0);
});

Deno.test("the first break suspects nobody, and without a limit nobody is given up", () => {
  const suspects = new Suspects(3);
  assert.equal(suspects.broke({ confirmedId: 0, throughId: 64, packets: 64 }), undefined);
  assert.equal(suspects.trialThroughId(0), Infinity);
  suspects.broke({ confirmedId: 0, throughId: 64, packets: 64 });
  assert.equal(suspects.trialThroughId(0), 32);
  assert.equal(suspects.trialThroughId(32), 48);
  assert.equal(suspects.trialThroughId(64), Infinity);

  const patient = new Suspects(Infinity);
  for (const throughId of [800, 800, 400, 200]) {
    assert.equal(patient.broke({ confirmedId: 0, throughId, packets: throughId }), undefined);
  }
  assert.equal(patient.trialThroughId(0), 100, "half as much each time");
  for (let i = 0; i < 100; i++) {
    assert.equal(patient.broke({ confirmedId: 0, throughId: 1, packets: 1 }), undefined);
  }
  assert.equal(patient.trialThroughId(0), 1);
  assert.equal(patient.trialThroughId(1), Infinity, "until something is confirmed");
});
