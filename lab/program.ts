/**
 * What the tools that stand beside `src/` have in common as programs: how they read their
 * arguments, and how they print.
 *
 * @module
 */

import { Command, CommanderError, InvalidArgumentError } from "commander";
import { writeAllSync } from "../src/base/write_all.ts";

/** The exit code for arguments that are wrong. */
export const USAGE = 2;

/** A command that prints its help and its complaints, and leaves the exit to its caller. */
export function toolCommand(name: string): Command {
  return new Command(name)
    .exitOverride()
    .configureOutput({
      writeOut: print,
      writeErr: complain,
      getOutHelpWidth: () => 88,
      getErrHelpWidth: () => 88,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
}

/**
 * Reads the arguments.
 *
 * @returns With what to exit, because there is nothing to do: the help was asked for, or
 *   an argument is wrong. `undefined`: they are read.
 */
export function parseArguments(command: Command, args: readonly string[]): number | undefined {
  try {
    command.parse([...args], { from: "user" });
    return undefined;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
    throw error;
  }
}

/** An argument that is a number of things. */
export function parsePositive(text: string): number {
  const count = parseWhole(text);
  if (count < 1) throw new InvalidArgumentError("Expected a whole number above 0.");
  return count;
}

/** An argument that is a number, and perhaps 0. */
export function parseWhole(text: string): number {
  if (!/^[0-9]{1,10}$/.test(text)) throw new InvalidArgumentError("Expected a whole number.");
  return Number(text);
}

/** On which machine something was measured. */
export function machine(): string {
  const cpus = navigator.hardwareConcurrency;
  return `Linux ${Deno.osRelease()} ${Deno.build.arch}, ${cpus} CPUs, Deno ${Deno.version.deno}`;
}

/** What was asked for. */
export function print(text: string): void {
  write(Deno.stdout, text);
}

/** Everything else. */
export function complain(text: string): void {
  write(Deno.stderr, text);
}

function write(sink: { writeSync(bytes: Uint8Array): number }, text: string): void {
  try {
    writeAllSync(sink, new TextEncoder().encode(text));
  } catch (error) {
    // Nobody reads it: `deno task lab --list | head`.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
