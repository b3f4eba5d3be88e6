/**
 * The fuzzer's command: `main.ts --seeds 1000 --from 5000`, `main.ts --seed 7`.
 *
 * @module
 */

import { parseArguments, parseWhole, print, toolCommand } from "../lab/program.ts";
import type { SeedReport } from "./run.ts";
import { watchSeeds } from "./watch.ts";

/** What one types to see a seed again. */
const REPLAY = "deno task fuzz --seed";
const EXIT = { ok: 0, violated: 1 } as const;

interface Options {
  readonly seeds: number;
  readonly from: number;
  readonly seed?: number;
}

/** Runs the command; returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const command = toolCommand("fuzz")
    .description("Damages queue files by chance, and gives them to every command.")
    .option("--seeds <count>", "how many queues to damage", parseWhole, 200)
    .option("--from <seed>", "the first seed", parseWhole, 1)
    .option("--seed <seed>", "run this one seed and print what each command says", parseWhole);
  const over = parseArguments(command, args);
  if (over !== undefined) return over;
  const { seeds, from, seed } = command.opts<Options>();
  const startMs = performance.now();
  let [commands, failed] = [0, 0];
  await watchSeeds({
    workerUrl: new URL("./worker.ts", import.meta.url),
    fromSeed: seed ?? from,
    count: seed === undefined ? seeds : 1,
    onReport: (report) => {
      commands += report.commands.length;
      if (report.violations.length > 0) failed++;
      if (seed !== undefined) print(wordsOf(report));
      else if (report.violations.length > 0) {
        print(`${violationsOf(report)}  again: ${REPLAY} ${report.seed}\n`);
      }
    },
  });
  if (seed === undefined) {
    const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
    print(`${seeds} seeds, ${commands} commands in ${seconds} s: ${failed} seeds failed\n`);
  }
  return failed === 0 ? EXIT.ok : EXIT.violated;
}

/** All that is known of a seed. */
function wordsOf(report: SeedReport): string {
  const rows = report.commands.map(({ command, code, words }) =>
    `  ${command.padEnd(22)} ${String(code).padStart(2)}  ${words}\n`
  );
  const end = report.violations.length === 0 ? "all is well\n" : violationsOf(report);
  return `${report.what}\n${rows.join("")}${end}`;
}

function violationsOf({ seed, what, violations }: SeedReport): string {
  return `seed ${seed}: ${what}\n${violations.map((words) => `  ${words}\n`).join("")}`;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
