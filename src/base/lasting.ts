/**
 * What a failure means for the one who met it: try again, or stop.
 *
 * | kind of error | what happens |
 * |---|---|
 * | a missing Deno permission (`NotCapable`) | stop: nobody will grant it meanwhile |
 * | the platform or a socket option is refused | stop: the next connection would be refused too |
 * | the queue's file is damaged, newer, or no queue | stop: see `sendq check` and `sendq repair` |
 * | everything else: the network, a full or failing disk, no descriptors left | try again |
 *
 * @module
 */

import { QueueFileError, SocketOptionError, UnsupportedPlatformError } from "./errors.ts";

/** Whether trying again cannot help. */
export function isLasting(error: unknown): boolean {
  if (error instanceof QueueFileError) {
    return error.reason === "corrupt" || error.reason === "newer-version" ||
      error.reason === "not-a-queue";
  }
  return error instanceof UnsupportedPlatformError || error instanceof SocketOptionError ||
    (error instanceof Error && error.name === "NotCapable");
}
