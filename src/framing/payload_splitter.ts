import type { Framing } from "./framing.ts";
import { PacketSplitter } from "./splitter.ts";

/**
 * Cuts a stream into what its packets carry, without their framing: answers, for example. One
 * that carries nothing is there as well.
 */
export class PayloadSplitter extends PacketSplitter {
  /**
   * @param maxPacketBytes The largest packet, framing included.
   * @throws {OptionError} There is no such framing.
   */
  constructor(framing: Framing, maxPacketBytes: number) {
    super({ input: framing, maxPacketBytes, payloadsOnly: true });
  }
}
