/**
 * The fault laboratory's command.
 *
 * ```sh
 * deno task lab                      # every scenario once
 * deno task lab F1 F2 --repeat 3     # some, medians of three runs
 * deno task lab --long               # ten minutes of each hard condition
 * ```
 *
 * Exit codes: 0 all as expected; 1 something was not; 2 wrong usage; 77 network
 * namespaces are not permitted here.
 *
 * @module
 */

import {
  complain,
  machine,
  parseArguments,
  parsePositive,
  print,
  toolCommand,
  USAGE,
} from "./program.ts";
import type { Place } from "./opened_queue.ts";
import { networkAvailable } from "./network.ts";
import { type Figures, type Row, rowOf, skippedRow } from "./outcome.ts";
import { formatTable, LEGEND, passed } from "./report.ts";
import { missingFor } from "./runner.ts";
import { type Scenario, secondsOf } from "./scenario.ts";
import { SCENARIOS } from "./scenarios.ts";

const ONE = new URL("./one.ts", import.meta.url).pathname;
const LONG_SECONDS = 600;
const EXIT = { failed: 1, notPermitted: 77, interrupted: 130 } as const;

interface Options {
  readonly json?: true;
  readonly list?: true;
  readonly long?: true;
  readonly spool?: boolean;
  readonly repeat: number;
  readonly lanes: number;
}

interface Job {
  readonly scenario: Scenario;
  readonly runs: (Figures | Error)[];
}

const children = new Set<Deno.ChildProcess>();
let directory: string | undefined;

async function main(args: readonly string[]): Promise<number> {
  const command = toolCommand("lab")
    .description(
      "Runs the send command through faults on real networks and prints what came of it.",
    )
    .argument("[scenarios...]", "their names; all of them where none is given")
    .option("--json", "print JSON instead of the table")
    .option("--list", "print the scenarios and end")
    .option("--long", `only the hard conditions, for ${LONG_SECONDS / 60} minutes each`)
    .option("--spool", "the queue lies in a spool")
    .option("--repeat <times>", "run each so often; times are medians", parsePositive, 1)
    .option("--lanes <count>", "run so many side by side", parsePositive, 4);
  const over = parseArguments(command, args);
  if (over !== undefined) return over;
  const options = command.opts<Options>();
  const unknown = command.args.filter((name) => !SCENARIOS.some((known) => known.name === name));
  if (unknown.length > 0) {
    complain(`lab: there is no scenario ${unknown.join(", ")}; see --list\n`);
    return USAGE;
  }
  const chosen = SCENARIOS
    .filter(({ name }) => command.args.length === 0 || command.args.includes(name))
    .filter(({ steady }) => !options.long || steady);
  if (options.list) {
    for (const { name, title } of chosen) print(`${name.padEnd(30)} ${title}\n`);
    return 0;
  }
  const available = await networkAvailable();
  if (!available.ok) {
    complain(`lab: not permitted here: ${available.reason}\n`);
    return EXIT.notPermitted;
  }
  const rows = await runAll(chosen, options);
  if (options.json) print(JSON.stringify({ machine: machine(), rows }, null, 2) + "\n");
  else print(`${formatTable(rows)}\n${LEGEND}\n\n${machine()}\n`);
  return rows.every(passed) ? 0 : EXIT.failed;
}

async function runAll(chosen: readonly Scenario[], options: Options): Promise<Row[]> {
  const { repeat, lanes, long = false, spool = false } = options;
  const jobs = chosen.map((scenario): Job => ({ scenario, runs: [] }));
  const ready = jobs.filter(({ scenario }) => missingFor(scenario) === undefined);
  const todo = Array.from({ length: repeat }, () => ready).flat()
    // The longest first, so that no lane is left alone with it at the end.
    .toSorted((a, b) => secondsOf(b.scenario) - secondsOf(a.scenario));
  directory = await Deno.makeTempDir({ prefix: "sendq-lab-" });
  const total = todo.length;
  let done = 0;
  await Promise.all(Array.from({ length: lanes }, async () => {
    for (let job = todo.shift(); job !== undefined; job = todo.shift()) {
      const { scenario } = job;
      const outcome = await runOne(
        scenario,
        spool ? "spool" : "file",
        long ? LONG_SECONDS : undefined,
      );
      job.runs.push(outcome);
      const words = outcome instanceof Error
        ? outcome.message
        : `${outcome.seconds.toFixed(0)} s ${outcome.failures.join("; ")}`;
      complain(`[${++done}/${total}] ${scenario.name}: ${words}\n`);
    }
  }));
  await removeDirectory();
  return jobs.map(({ scenario, runs }) => {
    const missing = missingFor(scenario);
    if (missing !== undefined) return skippedRow(scenario, missing);
    const figures = runs.flatMap((run) => run instanceof Error ? [] : [run]);
    const broken = runs.flatMap((run) => run instanceof Error ? [run.message] : []);
    const row = figures.length > 0 ? rowOf(scenario, figures) : skippedRow(scenario, "it broke");
    return { ...row, failures: [...row.failures, ...broken] };
  });
}

/** In a process of its own. */
async function runOne(
  scenario: Scenario,
  place: Place,
  seconds: number | undefined,
): Promise<Figures | Error> {
  const folder = await Deno.makeTempDir({ ...(directory === undefined ? {} : { dir: directory }) });
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--allow-all", ONE, scenario.name, folder, place],
      ...(seconds === undefined ? [] : [String(seconds)]),
    ],
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  children.add(child);
  const { success, stdout, stderr } = await child.output();
  children.delete(child);
  await Deno.remove(folder, { recursive: true });
  if (!success) {
    const words = new TextDecoder().decode(stderr).trim();
    complain(`${words}\n`);
    return new Error(`the laboratory broke: ${words.split("\n")[0]}`);
  }
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** The children remove their networks by themselves when they are interrupted. */
async function interrupted(): Promise<void> {
  for (const child of children) child.kill("SIGTERM");
  await Promise.all([...children].map((child) => child.status));
  await removeDirectory();
  Deno.exit(EXIT.interrupted);
}

async function removeDirectory(): Promise<void> {
  if (directory === undefined) return;
  await Deno.remove(directory, { recursive: true }).catch(() => {});
  directory = undefined;
}

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => void interrupted());
  }
  Deno.exit(await main(Deno.args));
}
