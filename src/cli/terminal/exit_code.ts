/**
 * The exit codes that every command shares, and the one line that it says
 * before it exits with anything but 0.
 */

import {
  ClosedError,
  FencedError,
  KernelCallError,
  ListenError,
  OutcomeUnknownError,
  PacketRefusedError,
  PacketSizeError,
  QueueFileError,
  QueueFullError,
  QueueLockedError,
  SessionRefusedError,
  SocketOptionError,
  UnsupportedPlatformError,
  WireError,
} from "../../base/errors.ts";
import { EdgeRefusedError } from "../../postgres/errors.ts";
import { FramingError } from "../../framing/errors.ts";
import { printable, withoutPasswords } from "./figures.ts";
import { inFlags } from "./flags.ts";

/** What a command's exit says; 75 and 77 are EX_TEMPFAIL and EX_NOPERM of sysexits.h. */
export const ExitCode = {
  /** Everything asked for was done. */
  DONE: 0,
  /** It failed, or packets were not delivered; the last lines on stderr say why. */
  FAILED: 1,
  /** The command line is wrong; nothing was done. */
  USAGE: 2,
  /** Stopped with packets in the queue; the next start delivers them. */
  PACKETS_KEPT: 75,
  /** A permission of Deno or of the system is missing. */
  NOT_PERMITTED: 77,
} as const;

/** One of {@linkcode ExitCode}. */
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** For the end of each help text. */
export const EXIT_CODE_HELP = `Exit codes:
  0   done
  1   failed, or packets were not delivered; the last lines say why
  2   wrong usage
  75  stopped with packets kept in the queue; the next start delivers them
  77  not permitted here; the message names what to grant`;

/** The command line contradicts itself or has a value out of range. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What was asked for cannot be done; the message says why. */
export class CommandError extends Error {
  override readonly name = "CommandError";
}

const EXPECTED_ERRORS = [
  ClosedError,
  CommandError,
  Deno.errors.AddrInUse,
  Deno.errors.NotCapable,
  EdgeRefusedError,
  FencedError,
  FramingError,
  KernelCallError,
  ListenError,
  OutcomeUnknownError,
  PacketRefusedError,
  PacketSizeError,
  QueueFileError,
  QueueFullError,
  QueueLockedError,
  SessionRefusedError,
  SocketOptionError,
  UnsupportedPlatformError,
  UsageError,
  WireError,
];

/** Which code an error ends a command with. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof Deno.errors.NotCapable) return ExitCode.NOT_PERMITTED;
  if (error instanceof UsageError) return ExitCode.USAGE;
  return ExitCode.FAILED;
}

/**
 * An error in one line, saying what to do next; a mistake in what was given may have several.
 * An error that nobody expected is named with its class.
 */
export function explain(error: unknown): string {
  if (!(error instanceof Error)) return `unexpected error: ${shown(String(error))}`;
  const expected = EXPECTED_ERRORS.some((known) => error instanceof known);
  // Its words are about flags, or a route file's fields, as they stand there.
  if (error instanceof UsageError) return error.message.split("\n").map(shown).join("\n");
  const message = shown(error.message.replaceAll(/\s*\n\s*/g, " "));
  // A directory may be called like an option.
  const path = error instanceof QueueFileError ? shown(error.path) : "";
  return expected
    ? (path === "" ? inFlags(message) : message.split(path).map(inFlags).join(path))
    : `unexpected ${error.name}: ${message} (add --verbose for where it happened)`;
}

/** What was given stands in it, and what others have said. */
function shown(text: string): string {
  return printable(withoutPasswords(text));
}
