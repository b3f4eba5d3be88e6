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
import type { Confirmation } from "./confirmation.ts";

/** While packets are unread, the wire is asked this often how far the peer's program is. */
const READ_ON_POLL_MS = 25;

/** Packets and how many of them the peer's program has read. */
export class Reads implements Confirmation {
  /** (end offset, id) of every packet that is sent and not read. */
  readonly #packetEnds = new PairFifo();
  #readBytes = 0;
  confirmedThroughId = 0;
  confirmedPackets = 0;
  heldPackets = 0;

  get openPackets(): number {
    return this.#packetEnds.length;
  }

  /** That the program has read on is told to nobody. */
  dueInMs(): number {
    return this.heldPackets > 0 ? READ_ON_POLL_MS : Infinity;
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
      this.confirmedThroughId = this.#packetEnds.firstValue;
      this.confirmedPackets++;
      this.#packetEnds.shift();
    }
    this.heldPackets = drainedPackets - this.confirmedPackets;
    return readOn;
  }
}
