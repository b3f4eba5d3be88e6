/** What the kernel does with a signal that nobody in this process listens for. */

import { libc } from "./libc.ts";

/** `SIGHUP`: the terminal has gone. */
export const SIGHUP = 1;
/** `SIG_IGN`, the first field of `struct sigaction`. */
const SIG_IGN = 1n;
/** More than `struct sigaction` takes: 152 bytes with glibc, 140 with musl. */
const SIGACTION_BYTES = 256;

/**
 * Whether a signal is ignored, as nohup(1) has it. A listener would undo that.
 *
 * @param signal Its number.
 * @throws {Deno.errors.NotCapable} The C library is not granted.
 */
export function isSignalIgnored(signal: number): boolean {
  const action = new Uint8Array(SIGACTION_BYTES);
  if (libc().sigaction(signal, null, action) !== 0) return false;
  return new DataView(action.buffer).getBigUint64(0, true) === SIG_IGN;
}
