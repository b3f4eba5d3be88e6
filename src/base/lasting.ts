/**
 * Which errors no time will mend. A sender stops only for what a person has to change: an error
 * that nobody thought of is tried again.
 *
 * Told by name and field, because this folder knows nothing of Deno's classes.
 */

/** What has to be changed by a person, by the error's name. */
const LASTING_NAMES: ReadonlySet<string> = new Set([
  // Somebody has to say what to do with the file.
  "EdgeRefusedError",
  // Another sender is at work, and may be for years.
  "FencedError",
  // A permission is missing; nobody can grant it to a process that runs.
  "NotCapable",
  "SocketOptionError",
  "UnsupportedPlatformError",
]);

/** Of a `QueueFileError`: what is wrong with the file itself, and not with its disk. */
const LASTING_FILE_REASONS: ReadonlySet<unknown> = new Set([
  "corrupt",
  "newer-version",
  "not-a-queue",
]);

/** Whether trying again is of no use, whatever happens meanwhile; `false` for what is not known. */
export function isLasting(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.name === "QueueFileError") {
    return "reason" in error && LASTING_FILE_REASONS.has(error.reason);
  }
  return LASTING_NAMES.has(error.name);
}

/** The same of what a queue has thrown: one that was closed is not opened again. */
export function isLastingOfQueue(error: unknown): boolean {
  return isLasting(error) || (error instanceof Error && error.name === "ClosedError");
}
