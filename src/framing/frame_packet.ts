import { FramingError } from "./errors.ts";
import type { Framing } from "./framing.ts";
import { codecOf } from "./grammar.ts";

/**
 * Makes one packet of some bytes, framing included, as `enqueue` wants it.
 *
 * @param payload The bytes.
 * @param framing How the packet is told apart on the wire.
 * @returns The packet. With `"chunks"` it is `payload` itself.
 * @throws {OptionError} There is no such framing.
 * @throws {TypeError} The payload is no `Uint8Array`.
 * @throws {FramingError} The framing cannot carry them.
 *
 * @example A message for a server that speaks HL7
 * ```ts
 * import { framePacket } from "@sendq/sendq";
 * import assert from "node:assert/strict";
 *
 * const packet = framePacket(new TextEncoder().encode("MSH|^~\\&|\r"), "mllp");
 * assert.equal(packet[0], 0x0b);
 * assert.deepEqual([...packet.subarray(-2)], [0x1c, 0x0d]);
 * ```
 *
 * @category Framing
 */
export function framePacket(payload: Uint8Array, framing: Framing): Uint8Array {
  const codec = codecOf(framing, "framing");
  if (!(payload instanceof Uint8Array)) {
    throw new TypeError(
      "The payload must be a Uint8Array: new TextEncoder().encode(text) makes one",
    );
  }
  if (payload.length > codec.capacityBytes) {
    throw new FramingError(
      "too-large",
      0,
      `this packet of ${payload.length} bytes exceeds ${codec.capacityBytes} bytes that ` +
        `${codec.name} framing can carry. Choose length32.`,
    );
  }
  return codec.encode(payload, (reason, message) => {
    throw new FramingError(reason, 0, message);
  });
}
