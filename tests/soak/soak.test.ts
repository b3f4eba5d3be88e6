import assert from "node:assert/strict";
import { networkAvailable } from "../../lab/network.ts";

const SOAK = new URL("../../soak/main.ts", import.meta.url).pathname;
/** 20 s, in which this seed brings all but one kind of fault. */
const ARGUMENTS = ["--minutes", String(20 / 60), "--seed", "16510"];
const FAULTS = ["sender-killed", "server-closes", "server-killed", "server-killed-unread"];

interface Outcome {
  readonly code: number;
  readonly table: string;
  readonly log: string;
}

/** A process of its own: it needs more rights than a test has. */
async function soak(...args: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--allow-all", SOAK, ...ARGUMENTS, ...args],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, table: decoder.decode(stdout), log: decoder.decode(stderr) };
}

function assertKept({ code, table, log }: Outcome, ...faults: string[]): void {
  assert.equal(code, 0, table + log);
  for (const fault of [...FAULTS, ...faults]) assert.ok(table.includes(`1 ${fault}`), table);
  const stored = Number(/packets stored +\| (\d+)/.exec(table)?.[1]);
  assert.ok(stored > 1_000, table);
  assert.match(table, /^\| lost +\| 0 /m);
}

const available = await networkAvailable();
// deno-lint-ignore no-console -- an ignored test has to say why
if (!available.ok) console.warn(`soak on a test network ignored: ${available.reason}`);

// Side by side: most of their time they wait.
Deno.test("a small soak keeps the promise", async (t) => {
  const places = [
    { name: "on a test network", args: [], cut: "path-cut", ignore: !available.ok },
    { name: "over loopback", args: ["--loopback"], cut: "connection-reset", ignore: false },
  ];
  await Promise.all(places.map(({ name, args, cut, ignore }) =>
    t.step({
      name,
      ignore,
      sanitizeOps: false,
      sanitizeResources: false,
      sanitizeExit: false,
      fn: async () => assertKept(await soak(...args), cut),
    })
  ));
});

Deno.test("soak, wrong arguments exit 2 and say what is right", async () => {
  for (const [flag, value] of [["--minutes", "0"], ["--seed", "-1"]] as const) {
    const { code, log } = await soak(`${flag}=${value}`);
    assert.equal(code, 2, log);
    assert.match(log, /Expected a/);
  }
});
