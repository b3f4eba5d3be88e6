/** Where a command reads and prints, and what is said where that or a file cannot be read. */

import { messageOf } from "../../base/errors.ts";
import type { ByteSource } from "../../framing/input_pump.ts";
import { isOutOfDescriptors, OUT_OF_DESCRIPTORS } from "../../kernel/wire_error.ts";
import { CommandError, UsageError } from "./exit_code.ts";

/**
 * Standard input, output and error: `Deno` itself has them, and a test hands in
 * its own.
 */
export interface Stdio {
  /** What the command is given. */
  readonly stdin: StandardInput;
  /** What the command is asked for. */
  readonly stdout: StandardOutput;
  /** What else it has to say. */
  readonly stderr: StandardOutput;
}

/** Standard input. */
export interface StandardInput {
  /** Reads some bytes; `null` at the end. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** Whether a person types it. */
  isTerminal(): boolean;
}

/** Standard output or standard error. */
export interface StandardOutput {
  /** Writes some of the bytes, once there is room; returns how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** The same at once. */
  writeSync(bytes: Uint8Array): number;
  /** Whether a person reads it. */
  isTerminal(): boolean;
}

/** How standard input is called where a file is expected. Deno opens none of these paths. */
export const STDIN_NAMES: ReadonlySet<string> = new Set([
  ...["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"],
]);
/** The same of standard output. */
export const STDOUT_NAMES: ReadonlySet<string> = new Set([
  ...["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"],
]);

/**
 * What to say where a file was not opened for which `--allow-read` and `--allow-write` are not
 * enough: what lies in /dev, also the pipe of a shell's `<(…)`, takes all of Deno's permissions.
 *
 * @returns The same error, where it is about something else.
 */
export function inWords(error: unknown, path: string, instead: string): unknown {
  if (!(error instanceof Deno.errors.NotCapable)) return error;
  return new Deno.errors.NotCapable(
    `${path}: Deno opens what lies in /dev and /proc only with --allow-all; ${instead}`,
    { cause: error },
  );
}

/**
 * Why a file that somebody has named was not read.
 *
 * @param what How it was named, for the message.
 * @param instead What to do where Deno opens it only with all permissions.
 * @returns A {@linkcode UsageError}; where a permission of Deno is missing, one that says so; a
 *   {@linkcode CommandError} where too many files are open.
 */
export function unreadable(
  error: unknown,
  path: string,
  what: string,
  instead = "name a file elsewhere",
): unknown {
  if (error instanceof Deno.errors.NotCapable) return inWords(error, path, instead);
  // The file is not to blame.
  return isOutOfDescriptors(error)
    ? new CommandError(`${what} cannot be read: ${OUT_OF_DESCRIPTORS}`, { cause: error })
    : new UsageError(`${what} cannot be read: ${messageOf(error)}`);
}

/**
 * What a file holds that an option names.
 *
 * @param what How it was named, for messages.
 * @throws {UsageError} It cannot be read.
 */
export function readFor(path: string, what: string): Uint8Array {
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    throw unreadable(error, path, what);
  }
}

/**
 * A source whose failures say what could not be read.
 *
 * @returns It throws a {@linkcode UsageError} where it is a directory, which opens and cannot be
 *   read, and a {@linkcode CommandError} for everything else.
 */
export function named(source: ByteSource, name: string): ByteSource {
  return {
    async read(buffer) {
      try {
        return await source.read(buffer);
      } catch (error) {
        if (error instanceof Deno.errors.IsADirectory) {
          throw new UsageError(`${name} is a directory`);
        }
        throw new CommandError(`${name} cannot be read: ${messageOf(error)}`, { cause: error });
      }
    },
  };
}
