import assert from "node:assert/strict";
import { type Anomaly, KINDS } from "../../anomalies/calls.ts";
import { type Life, violationsOf } from "../../anomalies/judge.ts";
import { type Outcome, run } from "../../anomalies/run.ts";
import type { Place } from "../../lab/opened_queue.ts";
import { straceMissing } from "../../lab/strace.ts";

const missing = await straceMissing();
// deno-lint-ignore no-console -- an ignored test has to say why
if (missing !== undefined) console.warn(`anomaly tests ignored: ${missing}`);

function runWith(
  name: string,
  anomaly: Omit<Anomaly, "kind">,
  rest: { readonly liar?: true; readonly place?: Place } = {},
): Promise<Outcome> {
  const kind = KINDS.find((kind) => kind.name === name);
  assert.ok(kind !== undefined);
  const how = { syncIn: "loop", place: "file", hostname: "127.0.0.1" } as const;
  return run({ kind, anomaly: { kind, ...anomaly }, ...how, ...rest });
}

// One of each sort: a commit on a full disk, a sync, a lock and a write to the network.
// The command tries all of them.
for (
  const [name, n, errno, place] of [
    ["pwrite", 40, "ENOSPC", "file"],
    ["fsync", 12, "EIO", "file"],
    ["flock", 1, "ENOLCK", "file"],
    ["sendto", 3, "EIO", "file"],
    // What two queues store together.
    ["pwrite", 40, "ENOSPC", "spool"],
    ["fsync", 12, "EIO", "spool"],
  ] as const
) {
  Deno.test({
    name:
      `anomalies: ${name} ${n} fails with ${errno}, ${place}: nothing is lost, each end is told`,
    ignore: missing !== undefined,
    async fn() {
      const { injected, violations } = await runWith(
        name,
        { n, errno, persistent: false },
        { place },
      );
      assert.deepEqual(violations, []);
      assert.equal(injected.length, 1);
    },
  });
}

Deno.test({
  name: "anomalies: a sender that says stored before it stores is found",
  ignore: missing !== undefined,
  async fn() {
    const anomaly = { n: 40, errno: "ENOSPC", persistent: true };
    const { violations } = await runWith("pwrite", anomaly, { liar: true });
    assert.match(violations[0] ?? "", /^packet \d was stored, has not arrived and is not in the/);
  },
});

const GOOD: Life = {
  packets: 2,
  told: [{ stored: 0 }, { stored: 1 }, { kept: 0 }],
  ...{ code: 0, words: "", connections: [[0], [0, 1]], kept: [], rest: [] },
};
const error = { name: "QueueFileError", message: "the disk is full" };

for (
  const [what, life, words] of [
    ["a good life", {}, undefined],
    ["a packet that is kept", {
      code: 75,
      words: "no route",
      connections: [[0]],
      kept: [1],
      rest: [1],
    }, undefined],
    [
      "a packet confirmed falsely",
      { connections: [[0]] },
      "packet 1 was stored, has not arrived and",
    ],
    [
      "a packet that never comes",
      { code: 75, words: "no", connections: [[0]], kept: [1] },
      "packet 1 is in the queue and",
    ],
    ["a refused packet that is stored", {
      code: 1,
      told: [{ stored: 0 }, { refused: 1, outcome: "nothing-stored", error }],
    }, "packet 1 was refused as not stored"],
    ["a refused packet that may be stored", {
      code: 1,
      told: [{ stored: 0 }, { refused: 1, outcome: "unknown", error }],
    }, undefined],
    ["packets out of order", { connections: [[1, 0]] }, "connection 1 is out of order"],
    ["foreign bytes", { connections: [[0, 1], [NaN]] }, "connection 2 brings what nobody sent"],
    [
      "an exit code 0 with packets kept",
      { kept: [1], rest: [1] },
      "exit code 0, with 2 stored, 2 arrived, 1 kept",
    ],
    ["an end without a word", { code: 75, kept: [1], rest: [1] }, "exit code 75 without a word"],
    ["an error without a name", {
      code: 1,
      told: [{ failed: { name: "TypeError", message: "x" } }],
    }, "an error without a name"],
    [
      "an error that nobody caught",
      { code: 1, words: "error: Uncaught (in promise) TypeError" },
      "an error that nobody caught",
    ],
    ["a run that hangs", { code: 137 }, "it does not end"],
    ["a runtime that aborts", { code: 134 }, undefined],
    ["a runtime that panics", { code: 1, words: "Deno has panicked." }, undefined],
    ["a queue that is broken afterwards", { broken: "corrupt" }, "the queue is not to be used"],
  ] as const satisfies readonly (readonly [string, Partial<Life>, string | undefined])[]
) {
  Deno.test(`anomalies, the judge: ${what}`, () => {
    const violations = violationsOf({ ...GOOD, ...life });
    if (words === undefined) assert.deepEqual(violations, []);
    else assert.ok(violations.some((one) => one.startsWith(words)), violations.join("\n"));
  });
}
