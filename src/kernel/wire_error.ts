/** Failures of Deno's reads and writes, by the names that the kernel has for them. */

import { messageOf, WireError, wireError } from "../base/errors.ts";
import { errnoName } from "./constants.ts";

/**
 * Runs an operation of Deno on a connection, and gives its failure the kernel's name. The
 * result is marked as handled: ending a connection rejects what is pending, and an owner
 * that has moved on must not end the process by that.
 *
 * @param what What could not be done, if it fails.
 * @param isGivenUp Asked then: whether the connection was given back here meanwhile.
 * @throws {WireError} It failed; `"ECANCELED"`: for the connection was given back.
 */
export function asWireError<T>(
  operation: () => Promise<T>,
  what: string,
  isGivenUp: () => boolean,
): Promise<T> {
  const result = (async () => {
    try {
      return await operation();
    } catch (error) {
      if (isGivenUp()) {
        throw new WireError("ECANCELED", "The connection was given up here.", { cause: error });
      }
      throw toWireError(error, what);
    }
  })();
  result.catch(() => {});
  return result;
}

/**
 * Gives a failure of Deno the kernel's name, from its `code` property or the
 * number in its words; `"UNKNOWN"` where it has neither.
 *
 * @param what What could not be done, where that needs saying.
 */
export function toWireError(error: unknown, what?: string): WireError {
  const words = messageOf(error);
  const errno = / \(os error (\d+)\)$/.exec(words);
  const code = error instanceof Error && "code" in error && typeof error.code === "string"
    ? error.code
    : errno === null
    ? "UNKNOWN"
    : errnoName(Number(errno[1]));
  const plain = words.slice(0, errno?.index).replace(/^[A-Z]/, (c) => c.toLowerCase());
  return wireError(code, `${what === undefined ? "" : `${what}: `}${plain}`, error);
}

export const OUT_OF_DESCRIPTORS =
  "too many open files (EMFILE): raise the limit (ulimit -n, LimitNOFILE=)";

export const NO_PORT = "no free port (net.ipv4.ip_local_port_range)";

/** Whether too many files are open, also where that is the cause. */
export function isOutOfDescriptors(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return ["EMFILE", "ENFILE"].includes(toWireError(error).code) || isOutOfDescriptors(error.cause);
}
