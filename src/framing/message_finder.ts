import { type Fail, FramingError } from "./errors.ts";
import type { Framing } from "./framing.ts";
import { codecOf } from "./grammar.ts";

interface FoundMessage {
  /** What it carries, without its framing. */
  readonly payload: Uint8Array;
  readonly endBytes: number;
}

/**
 * Looks for the first message of a stream that is short and comes in pieces: each time in
 * all that has come.
 *
 * @param maxBytes The longest message, framing included.
 * @returns What finds it; `undefined`: it is not whole yet; `"none"`: whatever comes, it is
 *   not in this framing, or too long.
 * @throws {OptionError} There is no such framing.
 */
export function messageFinder(
  framing: Framing,
  maxBytes: number,
): (bytes: Uint8Array) => FoundMessage | "none" | undefined {
  const codec = codecOf(framing, "framing");
  const fail: Fail = (reason, message) => {
    throw new FramingError(reason, 0, message);
  };
  return (bytes) => {
    if (bytes.length === 0) return undefined;
    const scanner = codec.scanner({ output: codec, maxPacketBytes: maxBytes, fail });
    try {
      const endBytes = scanner.feed(bytes, 0);
      if (scanner.payloadBytes > scanner.passage.maxPayloadBytes) return "none";
      if (endBytes < 0) return undefined;
      return { payload: scanner.payload(bytes.subarray(0, endBytes)), endBytes };
    } catch (error) {
      if (error instanceof FramingError) return "none";
      throw error;
    }
  };
}
