/**
 * The field ring's command: real servers and real clients.
 *
 * ```sh
 * deno task field                    # every case whose packages are there
 * deno task field redis smpp         # those whose names have one of the words
 * deno task field --install          # fetches the packages first; Debian's as root
 * ```
 *
 * Exit codes: 0 all as expected; 1 something was not; 2 wrong usage.
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
} from "../lab/program.ts";
import {
  type ClientRow,
  type LeftOut,
  LOADS,
  type Needs,
  type RefusalRow,
  type Report,
  type Result,
} from "./case.ts";
import { CLIENT_CASES, runClients } from "./clients.ts";
import { install, inWords, missing, together, versionOf } from "./packages.ts";
import { REFUSALS, runRefusal } from "./refusals.ts";
import { formatReport } from "./report.ts";
import { runServer } from "./run_server.ts";
import { endAll, inFolder } from "./running.ts";
import { SERVERS } from "./servers.ts";

const EXIT = { failed: 1, interrupted: 130 } as const;

interface Options {
  readonly json?: true;
  readonly list?: true;
  readonly install?: true;
  readonly lanes: number;
  readonly scratch: string;
}

/** What is run, and puts its row where it belongs. */
interface Job {
  readonly name: string;
  readonly needs: Needs;
  run(): Promise<{ readonly failures: readonly string[] }>;
}

async function main(args: readonly string[]): Promise<number> {
  const command = toolCommand("field")
    .description(
      "Sends to real servers that are killed on the way, and compares with what they have " +
        "written down; and lets real clients send through a relay.",
    )
    .argument("[words...]", "only cases whose name has one of them")
    .option("--json", "print JSON instead of the tables")
    .option("--list", "print the cases, and what each needs")
    .option("--install", "first fetch what is missing: from Debian as root, from npm")
    .option("--lanes <count>", "run so many side by side", parsePositive, 3)
    .option("--scratch <directory>", "where packages from npm are put", "/tmp/sendq-field");
  const over = parseArguments(command, args);
  if (over !== undefined) return over;
  const { json, list, lanes, scratch, ...options } = command.opts<Options>();
  const servers: Result[] = [];
  const clients: ClientRow[] = [];
  const refusals: RefusalRow[] = [];
  const leftOut: LeftOut[] = [];
  const words = command.args.map((word) => word.toLowerCase());
  const jobs = jobsInto({ servers, clients, refusals }, scratch)
    .filter(({ name }) => words.length === 0 || words.some((word) => matches(name, word)));
  if (jobs.length === 0) {
    complain(`field: no case has ${words.join(" or ")} in its name; see --list\n`);
    return USAGE;
  }
  if (list) {
    for (const { name, needs } of jobs) {
      print(`${name.padEnd(50)} ${inWords(together([needs]))}\n`);
    }
    return 0;
  }
  await Deno.mkdir(scratch, { recursive: true });
  if (options.install) {
    await install(await missing(together(jobs.map(({ needs }) => needs)), scratch), scratch);
  }
  const failed = await runAll(jobs, lanes, scratch, leftOut);
  const inOrder = <Row extends { readonly case: string }>(rows: readonly Row[]) =>
    rows.toSorted((a, b) => orderOf(jobs, a.case) - orderOf(jobs, b.case));
  const report: Report = {
    date: new Date().toISOString().slice(0, 10),
    machine: machine(),
    servers: inOrder(servers),
    clients: inOrder(clients),
    refusals: inOrder(refusals),
    leftOut: inOrder(leftOut),
  };
  print(json ? JSON.stringify(report, null, 2) + "\n" : formatReport(report));
  return failed ? EXIT.failed : 0;
}

function jobsInto(
  rows: { servers: Result[]; clients: ClientRow[]; refusals: RefusalRow[] },
  scratch: string,
): Job[] {
  const kept = <Row>(into: Row[], row: Row) => {
    into.push(row);
    return row;
  };
  return [
    ...SERVERS.flatMap((server) =>
      LOADS.map((load): Job => ({
        name: `${server.name}: ${load.name}`,
        needs: server.needs,
        run: async () => kept(rows.servers, await runServer(server, load, scratch)),
      }))
    ),
    ...CLIENT_CASES.map((client): Job => ({
      name: client.name,
      needs: client.needs,
      run: async () => {
        const version = await versionOf(client, scratch);
        const row = await inFolder(scratch, (work) => runClients(client, work));
        return kept(rows.clients, { case: client.name, version, ...row });
      },
    })),
    ...REFUSALS.map((refusal): Job => ({
      name: refusal.name,
      needs: refusal.needs,
      run: async () => kept(rows.refusals, await runRefusal(refusal, scratch)),
    })),
  ];
}

/** @returns Whether anything was not as expected. */
async function runAll(
  jobs: readonly Job[],
  lanes: number,
  scratch: string,
  leftOut: LeftOut[],
): Promise<boolean> {
  const todo = [...jobs];
  let done = 0, failed = false;
  await Promise.all(Array.from({ length: lanes }, async () => {
    for (let job = todo.shift(); job !== undefined; job = todo.shift()) {
      const lacks = inWords(await missing(job.needs, scratch));
      let said: string;
      if (lacks !== "") {
        const reason = `there is no ${lacks}; --install fetches it`;
        leftOut.push({ case: job.name, reason });
        said = `left out: ${reason}`;
      } else {
        const failures = await job.run().then(
          (row) => row.failures,
          (error: unknown) => [`the ring broke: ${error instanceof Error ? error.stack : error}`],
        );
        failed ||= failures.length > 0;
        said = failures.join("; ") || "ok";
      }
      complain(`[${++done}/${jobs.length}] ${job.name}: ${said}\n`);
    }
  }));
  return failed;
}

function matches(name: string, word: string): boolean {
  return name.toLowerCase().includes(word);
}

function orderOf(jobs: readonly Job[], name: string): number {
  return jobs.findIndex((job) => job.name === name || job.name.startsWith(`${name}: `));
}

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, async () => {
      await endAll();
      Deno.exit(EXIT.interrupted);
    });
  }
  Deno.exit(await main(Deno.args));
}
