/**
 * The cluster ring's command: a real PostgreSQL cluster that is broken.
 *
 * ```sh
 * deno task cluster                        # every scenario once
 * deno task cluster --only primary-killed  # one
 * deno task cluster --repeat 3             # medians of three runs
 * deno task cluster --planted              # faults that the judge has to find
 * ```
 *
 * Exit codes: 0 all as expected; 1 something was not; 2 wrong usage; 77 it cannot run here.
 *
 * @module
 */

import { networkAvailable } from "../lab/network.ts";
import {
  complain,
  machine,
  parseArguments,
  parsePositive,
  print,
  toolCommand,
  USAGE,
} from "../lab/program.ts";
import { DatabaseCluster } from "./database_cluster.ts";
import { PATRONI_TIMES, versions } from "./database_machine.ts";
import { type Figures, type Row, rowOf } from "./outcome.ts";
import { formatTable, LEGEND, passed } from "./report.ts";
import { runScenario } from "./runner.ts";
import type { Planted, Scenario } from "./scenario.ts";
import { PLANTED, SCENARIOS } from "./scenarios.ts";

const EXIT = { failed: 1, notPermitted: 77, interrupted: 130 } as const;

interface Options {
  readonly json?: true;
  readonly list?: true;
  readonly planted?: true;
  readonly only: readonly string[];
  readonly repeat: number;
  readonly keep?: string;
  readonly keepFailed?: string;
}

/** One way through a scenario. */
interface Job {
  readonly name: string;
  readonly title: string;
  readonly scenario: Scenario;
  readonly planted?: Planted;
}

let directory: string | undefined;

async function main(args: readonly string[]): Promise<number> {
  const command = toolCommand("cluster")
    .description("Breaks a PostgreSQL cluster under producers, edges and senders, and counts.")
    .option("--only <name>", "this one, and others named so", (name, names: string[]) => {
      return [...names, name];
    }, [])
    .option("--json", "print JSON instead of the table")
    .option("--list", "print the scenarios and end")
    .option("--planted", "only faults in what is tested, each of which has to be found")
    .option("--repeat <times>", "run each so often; times are medians", parsePositive, 1)
    .option(
      "--keep <directory>",
      "leave logs, records and disks there; others have to be able to enter it",
    )
    .option("--keep-failed <directory>", "the same, but only of runs that went wrong");
  const over = parseArguments(command, args);
  if (over !== undefined) return over;
  const options = command.opts<Options>();
  const jobs = options.planted
    ? PLANTED.map((planted): Job => ({ ...planted, planted }))
    : SCENARIOS.map((scenario): Job => ({ ...scenario, scenario }));
  const unknown = options.only.filter((name) => !jobs.some((job) => job.name === name));
  if (unknown.length > 0) {
    complain(`cluster: there is no scenario ${unknown.join(", ")}; see --list\n`);
    return USAGE;
  }
  const chosen = jobs.filter(({ name }) =>
    options.only.length === 0 || options.only.includes(name)
  );
  if (options.list) {
    for (const { name, title } of chosen) print(`${name.padEnd(26)} ${title}\n`);
    return 0;
  }
  const available = await networkAvailable();
  const found = await versions();
  const reason = available.ok ? "missing" in found ? found.missing : undefined : available.reason;
  if (reason !== undefined || "missing" in found) {
    complain(`cluster: not possible here: ${reason}\n`);
    return EXIT.notPermitted;
  }
  directory = await Deno.makeTempDir({ prefix: "sendq-cluster-" });
  // The programs of the machines are nobody's, and have to find their files.
  await Deno.chmod(directory, 0o755);
  try {
    const disks = await folder("disks", options.keep);
    await DatabaseCluster.makeDisks(disks);
    const ok = options.planted
      ? await findPlanted(chosen, disks, options)
      : await runAll(chosen, disks, options, found.words);
    return ok ? 0 : EXIT.failed;
  } finally {
    removeDirectory();
  }
}

async function runAll(
  jobs: readonly Job[],
  disks: string,
  options: Options,
  found: string,
): Promise<boolean> {
  const rows: Row[] = [];
  for (const job of jobs) {
    const runs: Figures[] = [];
    const broken: string[] = [];
    for (let time = 1; time <= options.repeat; time++) {
      const outcome = await runOne(job, disks, options, time);
      if (outcome instanceof Error) broken.push(outcome.message);
      else runs.push(outcome);
    }
    const row = rowOf(job.scenario, runs);
    rows.push({ ...row, failures: [...row.failures, ...broken] });
  }
  const { ttl, loop_wait, retry_timeout } = PATRONI_TIMES;
  const words = `${found}; ttl ${ttl}, loop_wait ${loop_wait}, retry_timeout ${retry_timeout}`;
  if (options.json) {
    print(JSON.stringify({ machine: machine(), cluster: words, rows }, null, 2) + "\n");
  } else print(`${formatTable(rows)}\n${LEGEND}\n\n${words}\n${machine()}\n`);
  return rows.every(passed);
}

/** A fault that is not found is the judge's. */
async function findPlanted(
  jobs: readonly Job[],
  disks: string,
  options: Options,
): Promise<boolean> {
  const found: { name: string; title: string; found: boolean; failures: readonly string[] }[] = [];
  for (const job of jobs) {
    const outcome = await runOne(job, disks, options, 1);
    const failures = outcome instanceof Error ? [outcome.message] : outcome.failures;
    const isFound = failures.some((words) => job.planted?.finds.test(words));
    found.push({ name: job.name, title: job.title, found: isFound, failures });
  }
  if (options.json) print(JSON.stringify(found, null, 2) + "\n");
  else {
    for (const { name, title, found: isFound, failures } of found) {
      const words = failures.length === 0 ? "nothing" : failures.join("; ");
      print(`${isFound ? "found    " : "NOT FOUND"} ${name}: ${title}\n          ${words}\n`);
    }
  }
  return found.every(({ found }) => found);
}

async function runOne(
  { name, scenario, planted }: Job,
  disks: string,
  options: Options,
  time: number,
): Promise<Figures | Error> {
  const { keep, keepFailed } = options;
  const own = await folder(`${name}-${time}`, keep ?? keepFailed);
  let isFailed = true;
  try {
    const figures = await runScenario(scenario, {
      ...{ directory: own, disks },
      ...(planted === undefined ? {} : { fault: planted.fault }),
    });
    const { seconds, acknowledged, lost, storedTwice, outOfOrder, failures } = figures;
    const { storingSeconds, failoverSeconds } = figures;
    complain(
      `${name} ${time}: ${seconds.toFixed(0)} s, ${acknowledged} acknowledged, ` +
        `${lost} lost, ${storedTwice} twice, ${outOfOrder} out of order, ` +
        `storing ${storingSeconds.toFixed(1)} s, failover ${failoverSeconds.toFixed(1)} s ` +
        `${failures.join("; ")}\n`,
    );
    isFailed = failures.length > 0;
    return figures;
  } catch (error) {
    complain(`${name} ${time}: ${error instanceof Error ? error.stack : error}\n`);
    const words = error instanceof Error ? error.message : String(error);
    return new Error(`the ring broke: ${words.split("\n")[0]}`);
  } finally {
    if (keep === undefined && (keepFailed === undefined || !isFailed)) {
      await Deno.remove(own, { recursive: true });
    }
  }
}

async function folder(name: string, keep: string | undefined): Promise<string> {
  const parent = keep === undefined ? directory : await Deno.realPath(keep);
  await Deno.mkdir(`${parent}/${name}`);
  return `${parent}/${name}`;
}

function removeDirectory(): void {
  if (directory === undefined) return;
  try {
    Deno.removeSync(directory, { recursive: true });
  } catch {
    // A machine that is being killed still writes there.
  }
  directory = undefined;
}

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    // The namespaces are removed, with all that runs in them, at the exit.
    Deno.addSignalListener(signal, () => {
      removeDirectory();
      Deno.exit(EXIT.interrupted);
    });
  }
  Deno.exit(await main(Deno.args));
}
