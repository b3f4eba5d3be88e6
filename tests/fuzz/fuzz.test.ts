import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import type { Main } from "../../fuzz/commands.ts";
import { runSeed, type SeedReport } from "../../fuzz/run.ts";
import { watchSeeds } from "../../fuzz/watch.ts";
import { main } from "../../src/cli/main.ts";

const FIXED_SEEDS = 3;
/** Its damage leaves a queue with packets that every command can use. */
const USABLE_SEED = 1;

Deno.test(`fuzz: ${FIXED_SEEDS} fixed seeds hold, and every command runs`, async () => {
  const reports: SeedReport[] = [];
  await watchSeeds({
    workerUrl: new URL("../../fuzz/worker.ts", import.meta.url),
    fromSeed: 1,
    count: FIXED_SEEDS,
    onReport: (report) => reports.push(report),
  });
  for (const { seed, what, violations } of reports) {
    const again = `seed ${seed}: ${what}\nagain: deno task fuzz --seed ${seed}`;
    assert.deepEqual(violations, [], again);
  }
  assert.equal(reports.length, FIXED_SEEDS);
  const codes = new Set(reports.flatMap(({ commands }) => commands.map(({ code }) => code)));
  // Damage that nobody notices would prove nothing.
  assert(codes.has(0) && codes.has(1), [...codes].join());
});

/** The command, after which something is done to its queue. */
function spoiled(name: string, spoil: (queue: string) => void): Main {
  return async (args, io) => {
    const code = await main(args, io);
    const queue = args[args.indexOf("-q") + 1];
    if (args[0] === name && queue !== undefined) spoil(queue);
    return code;
  };
}

function sql(statement: string): (path: string) => void {
  return (path) => {
    const database = new DatabaseSync(path);
    try {
      database.exec(statement);
    } finally {
      database.close();
    }
  };
}

const print = (text: string): Uint8Array => new TextEncoder().encode(text);

const PLANTED: readonly [name: string, command: string, planted: Main, found: RegExp][] = [
  [
    "looking that changes the file",
    "list",
    spoiled("list", (path) => Deno.writeFileSync(path, new Uint8Array(1), { append: true })),
    /^list --limit 0 changes the file$/,
  ],
  [
    "storing that loses what is there",
    "enqueue",
    spoiled("enqueue", sql("DELETE FROM packets; DELETE FROM dead_letters")),
    /^enqueue destroys [0-9]+ packets/,
  ],
  [
    "storing that does not store",
    "import",
    (args, io) => args[0] === "import" ? Promise.resolve(0) : main(args, io),
    /^import says that it has stored a packet, which is not there$/,
  ],
  [
    "a packet that nobody stored is sent",
    "send",
    async (args, io) => {
      if (args[0] !== "send") return await main(args, io);
      using connection = await Deno.connect({
        hostname: "127.0.0.1",
        port: Number(args[1]?.split(":").at(-1)),
      });
      await connection.write(print("made up\n"));
      return 0;
    },
    /^send sends what nobody stored: "made up\\n"$/,
  ],
  [
    "a packet that nobody stored is exported",
    "export",
    async (args, io) => {
      if (args[0] === "export") io.stdout.writeSync(print("made up\n"));
      return await main(args, io);
    },
    /^export --format raw gives what nobody stored: "made up\\n"$/,
  ],
  [
    "an error that nobody expected",
    "check",
    (args, io) => {
      if (args[0] !== "check") return main(args, io);
      io.stderr.writeSync(print("sendq: TypeError: x is undefined\n"));
      return Promise.resolve(1);
    },
    /^check says TypeError/,
  ],
  [
    "an error that is thrown",
    "status",
    (args, io) => args[0] === "status" ? Promise.reject(new TypeError("planted")) : main(args, io),
    /an error was thrown: TypeError: planted/,
  ],
  [
    "an exit code that is none",
    "backup",
    (args, io) => args[0] === "backup" ? Promise.resolve(3) : main(args, io),
    /^backup exits with 3$/,
  ],
];

for (const [name, only, planted, found] of PLANTED) {
  Deno.test(`fuzz: ${name} is found`, async () => {
    const { violations } = await runSeed(USABLE_SEED, { main: planted, only });
    assert(violations.some((words) => found.test(words)), violations.join("\n"));
  });
}

Deno.test("fuzz: a command that does not come back is found, and the next seed runs", async () => {
  const reports: [seed: number, violations: string][] = [];
  let words = 0;
  const clock = {
    // The worker's fourth word is that it begins with the command that does not come back.
    setTimer: (_delayMs: number, callback: () => void) => {
      if (++words === 4) queueMicrotask(callback);
      return () => {};
    },
  };
  await watchSeeds({
    workerUrl: new URL("./misbehaving_worker.ts", import.meta.url),
    fromSeed: 1,
    count: 4,
    clock,
    onReport: ({ seed, violations }) => reports.push([seed, violations.join()]),
  });
  assert.deepEqual(reports.map(([seed]) => seed), [1, 2, 3, 4]);
  const [first, second, third, fourth] = reports.map(([, violations]) => violations);
  assert.deepEqual([first, second, fourth], ["", "list does not end in 60000 ms", ""]);
  assert.match(third ?? "", / breaks off: .*planted/);
});
