/**
 * The soak's command.
 *
 * ```sh
 * deno task soak                     # 30 minutes
 * deno task soak --minutes 1         # a whole small one
 * deno task soak --seed 7            # the same faults again
 * ```
 *
 * Exit codes: 0 the promise was kept; 1 it was not, or the soak broke; 2 wrong usage; 130
 * interrupted, with nothing wrong so far.
 *
 * @module
 */

import { InvalidArgumentError } from "commander";
import { complain, machine, parseArguments, print, toolCommand } from "../lab/program.ts";
import { networkAvailable, TestNetwork } from "../lab/network.ts";
import { failuresOf, formatTable } from "./report.ts";
import { soak } from "./soak.ts";

const EXIT = { failed: 1, interrupted: 130 } as const;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const MAX_SEED = 2 ** 32;
/** What timers take. */
const MAX_MINUTES = 24 * 24 * 60;

interface Options {
  readonly minutes: number;
  readonly seed?: number;
  readonly loopback?: true;
}

async function main(args: readonly string[], interrupted: AbortSignal): Promise<number> {
  const command = toolCommand("soak")
    .description(
      "Sends 2,000 packets a second for a long time, breaks something each 2 to 10 s, and counts.",
    )
    .option("--minutes <minutes>", "how long; may be a fraction", parseMinutes, 30)
    .option("--seed <seed>", "which faults, and when (default: by chance)", parseSeed)
    .option("--loopback", "build no test network, also where it is permitted");
  const over = parseArguments(command, args);
  if (over !== undefined) return over;
  const { minutes, seed = Math.floor(Math.random() * MAX_SEED), loopback } = command.opts<
    Options
  >();
  const where = loopback ? { ok: false, reason: "--loopback" } as const : await networkAvailable();
  if (!where.ok) complain(`soak: connections are reset instead of a path cut: ${where.reason}\n`);
  complain(
    `soak: ${minutes} minutes; the same faults again: deno task soak --minutes ${minutes} ` +
      `--seed ${seed}${where.ok ? "" : " --loopback"}\n`,
  );
  const directory = await Deno.makeTempDir({ prefix: "sendq-soak-" });
  try {
    await using network = where.ok ? await TestNetwork.create() : undefined;
    const figures = await soak({
      seed,
      durationMs: minutes * 60_000,
      network,
      directory,
      interrupted,
      log: (words) => complain(words + "\n"),
    });
    const failures = failuresOf(figures);
    print(`${formatTable(figures)}\n${machine()}\n`);
    for (const failure of failures) print(`FAILED: ${failure}\n`);
    if (failures.length > 0) return EXIT.failed;
    print(figures.interrupted ? "interrupted; nothing wrong so far\n" : "ok\n");
    return figures.interrupted ? EXIT.interrupted : 0;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function parseMinutes(text: string): number {
  const minutes = Number(text);
  if (!(minutes > 0 && minutes <= MAX_MINUTES)) {
    throw new InvalidArgumentError(`Expected a number above 0, at most ${MAX_MINUTES}.`);
  }
  return minutes;
}

function parseSeed(text: string): number {
  const seed = Number(text);
  if (!Number.isSafeInteger(seed) || seed < 0 || seed >= MAX_SEED) {
    throw new InvalidArgumentError(`Expected a whole number from 0 to ${MAX_SEED - 1}.`);
  }
  return seed;
}

if (import.meta.main) {
  const interrupt = new AbortController();
  for (const signal of SIGNALS) Deno.addSignalListener(signal, () => interrupt.abort());
  Deno.exit(await main(Deno.args, interrupt.signal));
}
