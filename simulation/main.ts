/**
 * The simulation's command: `main.ts --seeds 10000`, `main.ts --seed 7`,
 * `main.ts --planted`.
 *
 * @module
 */

import { InvalidArgumentError } from "commander";
import { parseArguments, parseWhole, print, toolCommand } from "../lab/program.ts";
import { LEASE_PLANTED } from "./lease_planted.ts";
import { runLease } from "./lease_run.ts";
import { type Catch, hunt, PLANTED, type Planted } from "./planted.ts";
import { runSeeds } from "./pool.ts";
import { run, type RunResult } from "./run.ts";

/** What one types to see a run again. */
const REPLAY = "deno task simulate --seed";
const EXIT = { ok: 0, violated: 1 } as const;
const PLANTED_MAX_SEEDS = 10_000;
/** Failing seeds that are printed one by one. */
const MAX_SHOWN = 10;

interface Options {
  readonly seeds: number;
  readonly from: number;
  readonly seed?: number;
  readonly planted?: true | readonly Planted[];
  readonly lease?: boolean;
  readonly json?: boolean;
  readonly workers: number;
}

/** Sums over runs. */
interface Totals {
  readonly seeds: number;
  readonly simulatedHours: number;
  readonly seconds: number;
  readonly accepted: number;
  readonly delivered: number;
  readonly duplicates: number;
  readonly lostUnread: number;
  readonly dead: number;
  readonly connections: number;
  readonly failures: readonly { readonly seed: number; readonly violation: string }[];
}

/** Runs the command; returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const command = toolCommand("simulate")
    .description("Runs the sender's unchanged code through faults in a simulated world.")
    .option("--seeds <count>", "how many worlds to draw", parseWhole, 1000)
    .option("--from <seed>", "the first seed", parseWhole, 1)
    .option("--seed <seed>", "run this one seed and print what happens", parseWhole)
    .option("--lease", "worlds in which several senders want the lease of one queue")
    .option(
      "--planted [part]",
      "plant faults into copies of the code and look for each; or for those with this in their name",
      plantedWith,
    )
    .option(
      "--workers <count>",
      "how many run side by side",
      parseWhole,
      navigator.hardwareConcurrency,
    )
    .option("--json", "print JSON");
  const over = parseArguments(command, args);
  if (over !== undefined) return over;
  const options = command.opts<Options>();
  if (options.seed !== undefined) {
    const { seed, lease = false, json = false } = options;
    return lease ? await replayLease(seed, json) : await replay(seed, json);
  }
  if (options.planted !== undefined) return await huntAll(options);
  return await search(options);
}

async function replay(seed: number, json: boolean): Promise<number> {
  const queuePath = await Deno.makeTempFile({ prefix: "sendq-simulation-" });
  try {
    const result = await run(seed, {
      queuePath,
      ...(json ? {} : { trace: (line: string) => print(`${line}\n`) }),
    });
    print(json ? `${JSON.stringify(result, null, 2)}\n` : `\n${sentence(result)}\n`);
    return result.violation === undefined ? EXIT.ok : EXIT.violated;
  } finally {
    await Deno.remove(queuePath);
  }
}

/** A world of the lease has no trace: it is small enough to be stepped through. */
async function replayLease(seed: number, json: boolean): Promise<number> {
  const result = await runLease(seed);
  print(json ? `${JSON.stringify(result, null, 2)}\n` : `${sentence(result)}\n`);
  return result.violation === undefined ? EXIT.ok : EXIT.violated;
}

async function search({ seeds, from, workers, json, lease = false }: Options): Promise<number> {
  const startMs = performance.now();
  const results: RunResult[] = [];
  let shown = 0;
  await runSeeds({
    workerUrl: new URL(lease ? "./lease_worker.ts" : "./worker.ts", import.meta.url),
    fromSeed: from,
    count: seeds,
    workers,
    onResult: (result) => {
      results.push(result);
      if (result.violation !== undefined && !json && shown++ < MAX_SHOWN) {
        print(`${sentence(result)}\n  again: ${REPLAY} ${result.seed}${lease ? " --lease" : ""}\n`);
      }
      return true;
    },
  });
  const totals = sum(results, (performance.now() - startMs) / 1000);
  print(json ? `${JSON.stringify(totals, null, 2)}\n` : summary(totals));
  return totals.failures.length === 0 ? EXIT.ok : EXIT.violated;
}

/** The planted faults that are asked for; a mistyped name looks for none and must not pass. */
function plantedWith(part: string): readonly Planted[] {
  const wanted = [...PLANTED, ...LEASE_PLANTED].filter(({ name }) => name.includes(part));
  if (wanted.length === 0) throw new InvalidArgumentError("No planted fault has this in its name.");
  return wanted;
}

async function huntAll(
  { from, workers, json, lease = false, planted = true }: Options,
): Promise<number> {
  const catches: Catch[] = [];
  const all = lease ? LEASE_PLANTED : [...PLANTED, ...LEASE_PLANTED];
  const wanted = planted === true ? all : planted;
  if (!json) print(row("planted fault", "seeds", "found by"));
  for (const planted of wanted) {
    const found = await hunt(planted, { fromSeed: from, maxSeeds: PLANTED_MAX_SEEDS, workers });
    catches.push(found);
    const seeds = found.seeds === undefined ? `> ${PLANTED_MAX_SEEDS}` : String(found.seeds);
    if (!json) print(row(found.name, seeds, found.violation?.split("\n")[0] ?? "NOT FOUND"));
  }
  if (json) print(`${JSON.stringify(catches, null, 2)}\n`);
  return catches.every(({ seeds }) => seeds !== undefined) ? EXIT.ok : EXIT.violated;
}

function row(name: string, seeds: string, violation: string): string {
  return `${name.padEnd(40)} ${seeds.padStart(6)}  ${violation}\n`;
}

function sentence({ seed, violation, accepted, simulatedMs }: RunResult): string {
  return violation === undefined
    ? `seed ${seed}: ${accepted} packets, ${(simulatedMs / 1000).toFixed(0)} s: all is well`
    : `seed ${seed}, t=${(simulatedMs / 1000).toFixed(3)}s: ${violation}`;
}

function sum(results: readonly RunResult[], seconds: number): Totals {
  const total = (value: (result: RunResult) => number): number =>
    results.reduce((sum, result) => sum + value(result), 0);
  return {
    seeds: results.length,
    simulatedHours: total(({ simulatedMs }) => simulatedMs) / 3_600_000,
    seconds,
    accepted: total(({ accepted }) => accepted),
    delivered: total(({ delivered }) => delivered),
    duplicates: total(({ duplicates }) => duplicates),
    lostUnread: total(({ lostUnread }) => lostUnread),
    dead: total(({ dead }) => dead),
    connections: total(({ connections }) => connections),
    failures: results.flatMap(({ seed, violation }) =>
      violation === undefined ? [] : [{ seed, violation }]
    ),
  };
}

function summary(totals: Totals): string {
  const { seeds, simulatedHours, seconds, accepted, duplicates, lostUnread, connections } = totals;
  return `${seeds} seeds, ${simulatedHours.toFixed(0)} simulated hours in ${
    seconds.toFixed(0)
  } s: ` +
    `${accepted} packets over ${connections} connections, ${duplicates} delivered again, ` +
    `${lostUnread} died unread with their server, ${totals.dead} became dead letters, ` +
    `${totals.failures.length} seeds failed\n`;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
