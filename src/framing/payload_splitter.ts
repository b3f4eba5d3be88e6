import type { Scanner } from "./codec.ts";
import type { FramingError } from "./errors.ts";
import type { Framing } from "./framing.ts";
import { codecOf } from "./grammar.ts";
import { PacketSplitter } from "./splitter.ts";

/**
 * Cuts a stream into what its packets carry, without their framing: a reader of answers,
 * for example. One that carries nothing is there as well.
 *
 * @example
 * ```ts
 * import { PayloadSplitter } from "./payload_splitter.ts";
 * import assert from "node:assert/strict";
 *
 * const splitter = new PayloadSplitter("lines", 1024);
 * const payloads = splitter.push(new TextEncoder().encode("OK\n\nO"));
 * assert.deepEqual(payloads.map((payload) => new TextDecoder().decode(payload)), ["OK", ""]);
 * ```
 */
export class PayloadSplitter {
  readonly #packets: PacketSplitter;
  /** Looks at each whole packet once more, for where its payload lies. */
  readonly #scanner: Scanner;

  /**
   * Makes it.
   *
   * @param framing How packets are told apart.
   * @param maxPacketBytes The largest packet, framing included.
   * @throws {OptionError} There is no such framing.
   */
  constructor(framing: Framing, maxPacketBytes: number) {
    this.#packets = new PacketSplitter({ input: framing, maxPacketBytes });
    const codec = codecOf(framing, "input");
    this.#scanner = codec.scanner({
      output: codec,
      maxPacketBytes,
      fail: (_reason, message) => {
        throw new TypeError(message);
      },
    });
  }

  /** What is wrong with the stream: nothing more is read from it. */
  get fault(): FramingError | undefined {
    return this.#packets.fault;
  }

  /** Bytes taken in of a packet that is not whole yet. */
  get unfinishedBytes(): number {
    return this.#packets.unfinishedBytes;
  }

  /**
   * Takes in the next bytes.
   *
   * @param chunk Any number of bytes, cut anywhere.
   * @returns What the packets carry that they complete; may share the chunk's memory.
   * @throws {FramingError} An earlier push met a fault.
   */
  push(chunk: Uint8Array): Uint8Array[] {
    return this.#packets.push(chunk).map((packet) => {
      this.#scanner.feed(packet, 0);
      return this.#scanner.payload(packet);
    });
  }
}
