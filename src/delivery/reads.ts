/**
 * How far the peer's program has read, of one connection whose wire can tell. Pure
 * bookkeeping; positions come in as arguments. A packet that was read needs no hold: it lies in
 * no kernel any more.
 *
 * Invariants:
 * 1. A packet counts as read once its last byte was read, and was acknowledged.
 * 2. What is read stays read: a later reading that says less changes nothing.
 */

import type { PacketBatch } from "../base/ports.ts";
import { PairFifo } from "../base/pair_fifo.ts";

/** Packets and how many of them the peer's program has read. */
export class Reads {
  /** (end offset, id) of every packet that is sent and not read. */
  readonly #packetEnds = new PairFifo();
  #confirmedThroughId = 0;
  #readBytes = 0;
  #readPackets = 0;
  #heldPackets = 0;

  /** Every packet of this connection up to this one is read; 0: none is. */
  get confirmedThroughId(): number {
    return this.#confirmedThroughId;
  }

  get confirmedPackets(): number {
    return this.#readPackets;
  }

  /** How many packets of this connection are not confirmed. */
  get openPackets(): number {
    return this.#packetEnds.length;
  }

  /** How many of those the peer's kernel has acknowledged. */
  get heldPackets(): number {
    return this.#heldPackets;
  }

  /** Packets go out, in order, from this place in the stream on. */
  assigned(batches: readonly PacketBatch[], startBytes: number): void {
    let before = startBytes;
    for (const { firstId, bytes, ends } of batches) {
      let id = firstId;
      for (const end of ends) this.#packetEnds.push(before + end, id++);
      before += bytes.length;
    }
  }

  /**
   * Takes over a reading.
   *
   * @param readBytes How many bytes of the stream are read, of those that are acknowledged.
   * @param drainedPackets How many packets of this connection are acknowledged.
   * @returns Whether the program has read on, be it a part of a packet.
   */
  settle(readBytes: number, drainedPackets: number): boolean {
    const readOn = readBytes > this.#readBytes;
    if (readOn) this.#readBytes = readBytes;
    while (this.#packetEnds.length > 0 && this.#packetEnds.firstKey <= readBytes) {
      this.#confirmedThroughId = this.#packetEnds.firstValue;
      this.#readPackets++;
      this.#packetEnds.shift();
    }
    this.#heldPackets = drainedPackets - this.#readPackets;
    return readOn;
  }
}
