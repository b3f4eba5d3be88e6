import assert from "node:assert/strict";
import type { ClusterStats, ReplicationStats } from "../../src/base/cluster_stats.ts";
import { healthOf } from "../../src/postgres/health.ts";
import { survivesWords } from "../../src/postgres/survives.ts";
import { clusterTrouble, standbyWords } from "../../src/sender/cluster_words.ts";

function standby(name: string, sync: string) {
  return { name, state: "streaming", sync, lagBytes: 0, lagMs: null };
}

function said(fields: Record<string, unknown>) {
  return healthOf({
    ...{ holder: "process 7", epoch: 3, beat: 41, beatAgeMs: 120, ttlMs: 3000, weakness: null },
    ...{ waitsFor: "ANY 1 (a, b)", commit: "on", maySee: true, standbys: [] },
    ...fields,
  });
}

Deno.test("whether commits get through is told from the standbys that are there", () => {
  const cases: [string, string[], ReplicationStats["state"]][] = [
    ["a", ["sync"], "replicated"],
    ["a, b", ["sync", "potential"], "replicated"],
    ["*", ["async"], "blocked"],
    ["2 (a, b)", ["sync"], "blocked"],
    ["FIRST 2 (a, b)", ["sync", "sync"], "replicated"],
    ["any 2 (a, b, c)", ["quorum", "async"], "blocked"],
    ["ANY 2(a, b, c)", ["quorum", "quorum"], "replicated"],
    ["", ["async"], "alone"],
    ["  ", [], "alone"],
  ];
  for (const [waitsFor, syncs, state] of cases) {
    const standbys = syncs.map((sync, i) => standby(`s${i}`, sync));
    assert.equal(said({ waitsFor, standbys }).replication.state, state, waitsFor);
  }
  const [one] = [standby("a", "sync")];
  assert.equal(said({ commit: "local", standbys: [one] }).replication.state, "alone");
  // Who may not look at the standbys does not say that there are none.
  const blind = said({ maySee: false, standbys: [] }).replication;
  assert.deepEqual(blind, { state: "unknown", waitsFor: "ANY 1 (a, b)", standbys: [] });
  assert.match(standbyWords(blind), /how many are there is not known/);
});

Deno.test("a lease, and what a standby lacks", () => {
  const { lease, replication } = said({
    holder: null,
    standbys: [{ ...standby("a", "quorum"), lagBytes: 4096, lagMs: 12 }],
  });
  assert.deepEqual(lease, {
    ...{ holder: undefined, epoch: 3, beat: 41, beatAgeMs: 120, ttlMs: 3000 },
  });
  assert.deepEqual(replication.standbys, [
    { name: "a", state: "streaming", sync: "quorum", lagBytes: 4096, lagMs: 12 },
  ]);
});

Deno.test("what a person has to see to comes first", () => {
  const well: ClusterStats = {
    lease: { holder: "process 7", epoch: 3, beatAgeMs: 120, validForMs: 2500, failure: null },
    replication: said({ standbys: [standby("a", "quorum")] }).replication,
    weakness: null,
  };
  const blocked = said({ waitsFor: "ANY 2 (a, b)", standbys: [standby("a", "quorum")] });
  const lapsed = { holder: "process 7", epoch: 3, beatAgeMs: 4210, validForMs: 0, failure: null };
  const told = (change: Partial<ClusterStats>) => {
    const trouble = clusterTrouble({ ...well, ...change });
    return trouble && `${trouble.tone}: ${trouble.headline}. ${trouble.detail}`;
  };
  assert.equal(clusterTrouble(undefined), undefined);
  assert.equal(told({}), undefined);
  assert.equal(told({ lease: null }), undefined);
  assert.match(told({ lease: lapsed }) ?? "", /^bad: May not send\. .* for 4\.2 s, so that/);
  assert.match(
    told({ lease: { ...lapsed, failure: "Queue q: the user is no sendq_sender" } }) ?? "",
    / may have begun\. Queue q: the user is no sendq_sender\. It goes on by itself once one is taken\.$/,
  );
  assert.equal(
    told({ replication: blocked.replication }),
    "bad: Nothing can be stored. Each commit waits for ANY 2 (a, b), and only 1 is there.",
  );
  const words = "synchronous_standby_names is empty";
  assert.match(told({ weakness: { words, refused: false } }) ?? "", /^warning: Weaker .* is empty/);
  assert.match(
    told({ lease: lapsed, weakness: { words, refused: true } }) ?? "",
    /^bad: Nothing can be stored\. A commit would mean less/,
  );
});

Deno.test("what an acknowledged packet survives", () => {
  const waits = { waitsFor: "ANY 1 (a, b)" };
  assert.match(
    survivesWords("machine-loss", waits, null),
    /^the loss of .* waits for ANY 1 \(a, b\)\)$/,
  );
  assert.match(survivesWords("power-loss", waits, null), /^a power cut of the primary, but not/);
  assert.equal(
    survivesWords("machine-loss", { waitsFor: "" }, "synchronous_standby_names is empty"),
    "less than machine-loss promises, because of a setting of the database: " +
      "synchronous_standby_names is empty",
  );
});
