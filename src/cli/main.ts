/**
 * The command `sendq`. Run it with the permissions that the sub-command's help
 * names:
 *
 * ```sh
 * producer | deno run --allow-net=192.0.2.7:4000 \
 *   --allow-read=outbox.db,outbox.db.lock --allow-write=outbox.db,outbox.db.lock \
 *   --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \
 *   jsr:@sendq/sendq/cli send tcp://192.0.2.7:4000 --queue outbox.db
 * ```
 *
 * @module
 */

import { OptionError } from "../base/errors.ts";
import { exitCodeOf, explain, UsageError } from "./terminal/exit_code.ts";
import { withoutPasswords } from "./terminal/figures.ts";
import { complain } from "./terminal/output.ts";
import type { StandardInput, StandardOutput, Stdio } from "./terminal/stdio.ts";

export type { StandardInput, StandardOutput, Stdio };

/**
 * Runs the command.
 *
 * @param args The arguments, without the program's name.
 * @param io Where it reads and prints; without it, the process's own streams.
 * @returns The exit code.
 */
export async function main(args: readonly string[], io: Stdio = Deno): Promise<number> {
  try {
    return await run(args, io);
  } catch (thrown) {
    let error: unknown = thrown;
    if (thrown instanceof OptionError) {
      const { asUsageError } = await import("./arguments/options.ts");
      error = asUsageError(thrown);
    }
    let words = `sendq: ${explain(error)}\n`;
    if (error instanceof UsageError) {
      const { usageOf } = await import("./program.ts");
      words += `${await usageOf(args[0], io)}\n`;
    } else if (args.includes("--verbose") && error instanceof Error) {
      words += `${withoutPasswords(error.stack ?? "")}\n`;
    }
    complain(io, words);
    return exitCodeOf(error);
  }
}

/**
 * Scripts start a process for each packet, and loading commander, which loads Node's files,
 * processes and streams, is a quarter of its CPU: it is left out where it has nothing to say.
 */
async function run(args: readonly string[], io: Stdio): Promise<number> {
  refuseLostBytes(args);
  if (args[0] === "enqueue") {
    const { enqueue, plainArguments } = await import("./commands/enqueue_packets.ts");
    const plain = plainArguments(args.slice(1));
    if (plain !== undefined) return await enqueue(plain.texts, plain.options, io);
  }
  const { runProgram } = await import("./program.ts");
  return await runProgram(args, io);
}

/** Deno puts U+FFFD in the place of each byte that is no UTF-8, and nobody knows any more which. */
function refuseLostBytes(args: readonly string[]): void {
  const at = args.findIndex((arg) => arg.includes("\ufffd"));
  if (at < 0) return;
  throw new UsageError(
    `argument ${at + 1}, ${args[at]}, has bytes that are no UTF-8, or U+FFFD itself: they would ` +
      "not be what was meant. Packets come byte for byte on stdin and by --file, and in texts of " +
      "a session \\xHH is a byte",
  );
}

// The exit is explicit because a read of stdin under way would hold the process.
if (import.meta.main) Deno.exit(await main(Deno.args));
