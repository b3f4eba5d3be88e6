/**
 * The ledger of one connection: which packet ends at which byte offset, how far
 * the kernel has taken the bytes, and how far the peer's TCP has acknowledged
 * them. Pure bookkeeping; time comes in as an argument.
 *
 * Invariants:
 * 1. acked ≤ written ≤ assigned, and none of the three ever shrinks.
 * 2. A packet is drained when its last byte is acked, never earlier.
 * 3. Bytes of the session (a heartbeat, a goodbye) have their place in the stream, between
 *    two packets, and belong to none: their acknowledgement drains nothing.
 */

import { PairFifo } from "../base/pair_fifo.ts";

export class Ledger {
  /** (end offset, id) of every packet that is assigned and not drained. */
  readonly #packetEnds = new PairFifo();
  /** (end offset, time) of what the kernel took and the peer has not acked. */
  readonly #writes = new PairFifo();
  #assignedBytes = 0;
  #writtenBytes = 0;
  #ackedBytes = 0;
  /** Where the last bytes end that belong to no packet. */
  #insertedEnd = 0;
  #drainedThroughId: number;
  #drainedPackets = 0;

  /** @param afterId The id before the first packet of this connection. */
  constructor(afterId: number) {
    this.#drainedThroughId = afterId;
  }

  /** Bytes given to this connection: those of all packets, and of the session. */
  get assignedBytes(): number {
    return this.#assignedBytes;
  }

  /** Bytes the kernel has taken: the sum of what `write` returned. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  get ackedBytes(): number {
    return this.#ackedBytes;
  }

  /** Assigned and not acknowledged. */
  get inFlightBytes(): number {
    return this.#assignedBytes - this.#ackedBytes;
  }

  get inFlightPackets(): number {
    return this.#packetEnds.length;
  }

  /** Every packet up to and including this id is drained. */
  get drainedThroughId(): number {
    return this.#drainedThroughId;
  }

  get drainedPackets(): number {
    return this.#drainedPackets;
  }

  /** When the kernel took the oldest byte that is not acked; undefined when all are. */
  get oldestUnackedAtMs(): number | undefined {
    return this.#writes.length === 0 ? undefined : this.#writes.firstValue;
  }

  /** Whether the kernel has taken bytes of a packet that is not drained. */
  get carriesPackets(): boolean {
    if (this.#packetEnds.length === 0) return false;
    return this.#packetEnds.firstKey <= this.#insertedEnd ||
      this.#writtenBytes > Math.max(this.#insertedEnd, this.#ackedBytes);
  }

  /**
   * Gives bytes of the session their place, behind everything else.
   *
   * @throws {RangeError} A packet is not written to its end yet.
   */
  insert(byteCount: number): void {
    if (this.#writtenBytes !== this.#assignedBytes) {
      throw new RangeError(
        `Bytes of the session would stand among those of packets: ${this.#writtenBytes} of ` +
          `${this.#assignedBytes} are written.`,
      );
    }
    this.#assignedBytes += byteCount;
    this.#insertedEnd = this.#assignedBytes;
  }

  /** Gives a packet its place in the stream, behind all earlier ones. */
  assign(id: number, packetBytes: number): void {
    this.#assignedBytes += packetBytes;
    this.#packetEnds.push(this.#assignedBytes, id);
  }

  /** Gives packets with ids that follow each other their places, behind all earlier ones. */
  assignBatch(firstId: number, ends: Uint32Array): void {
    const startBytes = this.#assignedBytes;
    let id = firstId;
    // No field is written for each packet: each time that would be a number on the heap.
    for (const end of ends) this.#packetEnds.push(startBytes + end, id++);
    this.#assignedBytes += ends.at(-1) ?? 0;
  }

  wrote(takenBytes: number, nowMs: number): void {
    if (takenBytes === 0) return;
    this.#writtenBytes += takenBytes;
    if (this.#writtenBytes > this.#assignedBytes) {
      throw new RangeError(
        `The kernel took ${this.#writtenBytes} bytes of ${this.#assignedBytes} assigned.`,
      );
    }
    // Writes of the same moment share an entry: the age needs no finer grain.
    if (this.#writes.length > 0 && nowMs - this.#writes.lastValue < 1) {
      this.#writes.extendLast(this.#writtenBytes);
    } else {
      this.#writes.push(this.#writtenBytes, nowMs);
    }
  }

  /**
   * Takes a reading of how many bytes of this stream were acknowledged.
   *
   * @param ackedBytes Clamped to what was written: our FIN counts in the
   *   kernel's figure, and a write may be taken before we are told.
   * @returns Whether it brought anything new.
   */
  acknowledge(ackedBytes: number): boolean {
    const acked = Math.min(ackedBytes, this.#writtenBytes);
    if (acked <= this.#ackedBytes) return false;
    this.#ackedBytes = acked;
    let drainedThroughId = this.#drainedThroughId;
    let drainedPackets = this.#drainedPackets;
    while (this.#packetEnds.length > 0 && this.#packetEnds.firstKey <= acked) {
      drainedThroughId = this.#packetEnds.firstValue;
      drainedPackets++;
      this.#packetEnds.shift();
    }
    this.#drainedThroughId = drainedThroughId;
    this.#drainedPackets = drainedPackets;
    while (this.#writes.length > 0 && this.#writes.firstKey <= acked) this.#writes.shift();
    return true;
  }
}
