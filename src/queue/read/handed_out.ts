import { lastIdOf } from "../../base/packet_batch.ts";
import { PairFifo } from "../../base/pair_fifo.ts";
import type { PacketBatch } from "../../base/ports.ts";
import type { HandedOutCount } from "../store/contract.ts";
import type { PacketCount } from "../store/types.ts";

/** A power of two. Most queues have few packets under way. */
const FIRST_CAPACITY = 8;
/** What a burst took beyond it is given back behind it. */
const KEPT_CAPACITY = 16 * 1024;

/**
 * What the sender was given and has not removed yet. A removal is held against it: a
 * damaged file may find more to remove than it has given out, or less.
 *
 * It remembers numbers, and no object a batch: they are kept for as long as packets are held, and
 * what lives for a second the runtime copies twice, and then looks through again and again.
 */
export class HandedOut {
  /** (first id, number of the first packet) of each batch; packets are numbered as they were given. */
  readonly #batches = new PairFifo();
  /** Where each packet ends in its batch, by its number; a ring. */
  #ends = new Uint32Array(FIRST_CAPACITY);
  #firstNumber = 0;
  #nextNumber = 0;
  /** Everything above it and up to `#throughId` was given out, if it was there. */
  #afterId = 0;
  /** The highest id that was given out, or above which everything was taken back. */
  #throughId = 0;

  /** Batches were given out; what lies above `afterId` was taken back before. */
  give(afterId: number, batches: readonly PacketBatch[]): void {
    this.takeBack(afterId);
    if (this.#throughId < afterId || afterId < this.#afterId) {
      this.takeBack(-Infinity);
      this.#afterId = afterId;
    }
    this.#throughId = afterId;
    for (const batch of batches) {
      this.#batches.push(batch.firstId, this.#nextNumber);
      this.#append(batch.ends);
      this.#throughId = lastIdOf(batch);
    }
  }

  /** Nothing above an id counts as given out any more. */
  takeBack(afterId: number): void {
    this.#throughId = Math.min(this.#throughId, afterId);
    while (this.#batches.length > 0) {
      const { lastKey: firstId, lastValue: number } = this.#batches;
      if (firstId + this.#nextNumber - number - 1 <= afterId) return;
      this.#nextNumber = number + Math.max(0, afterId + 1 - firstId);
      if (this.#nextNumber > number) return;
      this.#batches.pop();
    }
  }

  removeThrough(id: number): void {
    while (this.#batches.length > 0 && this.#batches.firstKey + this.#packetsOf(0) - 1 <= id) {
      this.#firstNumber = this.#numberBehind(0);
      this.#batches.shift();
    }
    const isLarge = this.#ends.length > KEPT_CAPACITY;
    if (isLarge && this.#batches.length === 0) this.#ends = new Uint32Array(FIRST_CAPACITY);
  }

  /**
   * What was given out above one id and up to another.
   *
   * @param enough Ends sooner, behind the batch with which there is so much of both.
   * @returns `undefined`: not all of it was given out here.
   */
  count(afterId: number, throughId: number, enough: PacketCount): HandedOutCount | undefined {
    if (afterId < this.#afterId || throughId > this.#throughId) return undefined;
    let packets = 0, bytes = 0;
    for (let index = 0; index < this.#batches.length; index++) {
      const firstId = this.#batches.keyAt(index);
      if (firstId > throughId) break;
      if (bytes >= enough.bytes && packets >= enough.packets) {
        return { afterId, throughId: firstId - 1, packets, bytes };
      }
      const from = Math.max(0, afterId + 1 - firstId);
      const to = Math.min(this.#packetsOf(index), throughId + 1 - firstId);
      if (to <= from) continue;
      const number = this.#batches.valueAt(index);
      packets += to - from;
      bytes += this.#endOf(number + to - 1) - (from === 0 ? 0 : this.#endOf(number + from - 1));
    }
    return { afterId, throughId, packets, bytes };
  }

  #numberBehind(index: number): number {
    const isLast = index === this.#batches.length - 1;
    return isLast ? this.#nextNumber : this.#batches.valueAt(index + 1);
  }

  #packetsOf(index: number): number {
    return this.#numberBehind(index) - this.#batches.valueAt(index);
  }

  #endOf(number: number): number {
    return this.#ends[number & (this.#ends.length - 1)] ?? NaN;
  }

  #append(ends: Uint32Array): void {
    const packets = this.#nextNumber - this.#firstNumber + ends.length;
    if (packets > this.#ends.length) this.#grow(packets);
    const slot = this.#nextNumber & (this.#ends.length - 1);
    const room = this.#ends.length - slot;
    if (ends.length <= room) {
      this.#ends.set(ends, slot);
    } else {
      this.#ends.set(ends.subarray(0, room), slot);
      this.#ends.set(ends.subarray(room), 0);
    }
    this.#nextNumber += ends.length;
  }

  #grow(packets: number): void {
    let capacity = this.#ends.length;
    while (capacity < packets) capacity *= 2;
    const ends = new Uint32Array(capacity);
    for (let number = this.#firstNumber; number < this.#nextNumber; number++) {
      ends[number & (capacity - 1)] = this.#endOf(number);
    }
    this.#ends = ends;
  }
}
