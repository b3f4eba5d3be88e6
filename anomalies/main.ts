/**
 * The anomaly tests' command, after SQLite's: in one short run with a server that is
 * killed once, the n-th system call of each kind fails, for every n.
 *
 * ```sh
 * deno task anomalies                          # a sample of each kind, a few minutes
 * deno task anomalies --all                    # every n of every kind
 * deno task anomalies --kind pwrite --from 17 --to 17
 * ```
 *
 * Exit codes: 0 all is well; 1 a promise was broken; 2 wrong usage; 77 nothing can be
 * traced here.
 *
 * @module
 */

import { Option } from "commander";
import {
  complain,
  parseArguments,
  parsePositive,
  print,
  toolCommand,
  USAGE,
} from "../lab/program.ts";
import { straceMissing } from "../lab/strace.ts";
import type { SyncIn } from "../src/queue/options.ts";
import { type Anomaly, type Kind, KINDS, type TracedCall } from "./calls.ts";
import { runtimeAborted } from "./judge.ts";
import { type Outcome, type Plan, run } from "./run.ts";

const EXIT = { violated: 1, notPermitted: 77 } as const;

interface Options {
  readonly kind?: readonly string[];
  readonly from: number;
  readonly to: number;
  readonly every: number;
  readonly sample: number;
  readonly all?: true;
  readonly persistent: boolean;
  readonly syncIn: SyncIn;
  readonly spool?: true;
  readonly lanes: number;
}

/** What came of one kind and errno. */
interface Tally {
  readonly title: string;
  /** Calls in a run without faults. */
  readonly calls: number;
  readonly planned: number;
  /** Runs in which the call failed. */
  failed: number;
  delivered: number;
  told: number;
  aborted: number;
  violated: number;
}

async function main(args: readonly string[]): Promise<number> {
  const command = toolCommand("anomalies")
    .description("Lets the n-th system call of each kind fail, and looks for what was lost.")
    .option("--kind <names...>", `some of ${KINDS.map(({ name }) => name).join(", ")}`)
    .option("--from <n>", "the first call that fails", parsePositive, 1)
    .option("--to <n>", "the last one", parsePositive, Infinity)
    .option("--every <k>", "each k-th of them", parsePositive, 1)
    .option("--sample <count>", "at most so many of a kind and errno, evenly", parsePositive, 8)
    .option("--all", "every one of them")
    .option("--persistent", "all later calls of the kind fail, too", false)
    .addOption(
      new Option("--sync-in <place>", "who waits for the disk")
        .choices(["loop", "threads"]).default("loop"),
    )
    .option("--spool", "the queue lies in a spool, beside another that stores as well")
    .option("--lanes <count>", "run so many side by side", parsePositive, 2);
  const over = parseArguments(command, args);
  if (over !== undefined) return over;
  const options = command.opts<Options>();
  const unknown = (options.kind ?? []).filter((name) => !KINDS.some((kind) => kind.name === name));
  if (unknown.length > 0) {
    complain(`anomalies: there is no kind ${unknown.join(", ")}; see --help\n`);
    return USAGE;
  }
  const missing = await straceMissing();
  if (missing !== undefined) {
    complain(`anomalies: ${missing}\n`);
    return EXIT.notPermitted;
  }
  const chosen = KINDS.filter(({ name }) => options.kind?.includes(name) ?? true);
  const tallies: Tally[] = [];
  for (const kind of chosen) {
    const plain = await run({ kind, ...howOf(options), hostname: hostnameOf(0) });
    if (plain.violations.length > 0) {
      complain(`anomalies: a run without faults: ${plain.violations.join("; ")}\n`);
      return EXIT.violated;
    }
    if (plain.life.code !== 0) {
      complain(`anomalies: a run without faults does not deliver: ${JSON.stringify(plain.life)}\n`);
      return EXIT.violated;
    }
    tallies.push(...await runKind(kind, plain.calls, options));
  }
  print(table(tallies));
  return tallies.some(({ violated }) => violated > 0) ? EXIT.violated : 0;
}

/** One kind, in runs side by side. */
async function runKind(
  kind: Kind,
  traced: readonly TracedCall[],
  options: Options,
): Promise<Tally[]> {
  const { persistent } = options;
  const how = howOf(options);
  // The n-th of any thread, for it fails in each.
  const calls = [...new Set(traced.map(({ n }) => n))].sort((a, b) => a - b);
  const numbers = pick(calls, options);
  const jobs = kind.errnos.map((errno) => ({
    tally: {
      ...{ title: `${kind.name} ${errno}`, calls: calls.length, planned: numbers.length },
      ...{ failed: 0, delivered: 0, told: 0, aborted: 0, violated: 0 },
    } as Tally,
    todo: numbers.map((n): Anomaly => ({ kind, n, errno, persistent })),
  }));
  const todo = jobs.flatMap(({ tally, todo }) => todo.map((anomaly) => ({ tally, anomaly })));
  const total = todo.length;
  await Promise.all(Array.from({ length: options.lanes }, async (_, lane) => {
    for (let job = todo.shift(); job !== undefined; job = todo.shift()) {
      const { tally, anomaly } = job;
      const outcome = await run({ kind, anomaly, ...how, hostname: hostnameOf(lane) });
      count(tally, outcome);
      complain(`\r${kind.name}: ${total - todo.length} of ${total} `);
      if (outcome.violations.length > 0) print(report(anomaly, how, outcome));
    }
  }));
  complain("\n");
  return jobs.map(({ tally }) => tally);
}

/** What does not change from run to run. */
function howOf({ syncIn, spool }: Options): Pick<Plan, "syncIn" | "place"> {
  return { syncIn, place: spool === true ? "spool" : "file" };
}

/** Beside each other on the same ports. */
function hostnameOf(lane: number): string {
  return `127.0.0.${1 + lane}`;
}

function pick(calls: readonly number[], { from, to, every, sample, all }: Options): number[] {
  const asked = calls.filter((n) => n >= from && n <= to).filter((_, at) => at % every === 0);
  if (all || asked.length <= sample) return asked;
  const step = (asked.length - 1) / Math.max(1, sample - 1);
  return Array.from({ length: sample }, (_, at) => asked[Math.round(at * step)] ?? 0);
}

function count(tally: Tally, { life, injected, violations }: Outcome): void {
  if (injected.length > 0) tally.failed++;
  if (violations.length > 0) tally.violated++;
  else if (runtimeAborted(life)) tally.aborted++;
  else if (life.code === 0) tally.delivered++;
  else tally.told++;
}

function report(
  { kind, n, errno, persistent }: Anomaly,
  { syncIn, place }: Pick<Plan, "syncIn" | "place">,
  { violations, injected, life }: Outcome,
): string {
  const again = `deno task anomalies --kind ${kind.name} --from ${n} --to ${n}` +
    `${persistent ? " --persistent" : ""}${syncIn === "loop" ? "" : ` --sync-in ${syncIn}`}` +
    `${place === "file" ? "" : " --spool"}`;
  const lines = [
    ...violations,
    ...injected.slice(0, 3).map(({ line }) => line),
    ...life.told.map((told) => JSON.stringify(told)),
    ...life.words.trim().split("\n"),
  ];
  return `\n${kind.name} ${n} ${errno}:\n  ${lines.join("\n  ")}\n  again: ${again}\n`;
}

function table(tallies: readonly Tally[]): string {
  const head = ["", "calls", "left out", "failed", "delivered", "told", "aborted", "VIOLATED"];
  const rows = tallies.map(({ title, calls, planned, failed, ...rest }) => [
    ...[title, calls, calls - planned, failed, rest.delivered, rest.told, rest.aborted],
    rest.violated,
  ]);
  const sums = rows.reduce(
    (sum, row) => row.map((cell, at) => at === 0 ? "all" : Number(sum[at] ?? 0) + Number(cell)),
    [] as (string | number)[],
  );
  return [head, ...rows, sums].map(([title = "", ...cells]) =>
    String(title).padEnd(22) + cells.map((cell) => String(cell).padStart(10)).join("") + "\n"
  ).join("");
}

if (import.meta.main) Deno.exit(await main(Deno.args));
