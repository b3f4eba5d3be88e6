/**
 * Files that a command line names beside a queue's, and standard input and output under the names
 * that they have there.
 *
 * @module
 */

import { messageOf } from "../../base/errors.ts";
import type { ByteSource } from "../../framing/input_pump.ts";
import { CommandError, UsageError } from "./exit_code.ts";

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
 * @param error What was thrown.
 * @param path The file.
 * @param instead What to do without that.
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
 * A source whose failures say what could not be read.
 *
 * @param source Where bytes come from.
 * @param name What messages call it.
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
