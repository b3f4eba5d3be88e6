/**
 * The receiving half of one end: order, buffer and window.
 *
 * @module
 */

import type { Segment } from "./segment.ts";

/** What has arrived, what is missing, and how much more may come. */
export class ReceiveSide {
  readonly #bufferBytes: number;
  readonly #usefulBytes: number;
  readonly #outOfOrder = new Map<number, Segment>();
  #received: Uint8Array[] = [];
  #promisedEnd: number;
  /** In order so far, the peer's FIN included. */
  next = 0;
  /** Bytes that can be read now. */
  readableBytes = 0;
  /** The peer's FIN is here, behind all its data. */
  finReceived = false;

  /**
   * @param bufferBytes What can be held unread.
   * @param mssBytes A window smaller than this is not worth opening.
   */
  constructor(bufferBytes: number, mssBytes: number) {
    this.#bufferBytes = bufferBytes;
    this.#usefulBytes = Math.min(mssBytes, bufferBytes / 2);
    this.#promisedEnd = bufferBytes;
  }

  /** The window as the peer knows it. */
  get promisedBytes(): number {
    return Math.max(0, this.#promisedEnd - this.next);
  }

  /** The window to advertise: never takes a promise back, hides what is too small to be of use. */
  promise(): number {
    const windowBytes = this.#windowBytes();
    this.#promisedEnd = Math.max(this.#promisedEnd, this.next + windowBytes);
    return windowBytes;
  }

  /** Whether a read has opened the window enough to say so unasked. */
  isWorthTelling(oldWindowBytes: number): boolean {
    const grownBytes = this.#windowBytes() - oldWindowBytes;
    return grownBytes > 0 &&
      (oldWindowBytes < this.#usefulBytes || grownBytes >= this.#bufferBytes / 2);
  }

  /** Takes up to `maxBytes`. */
  read(maxBytes: number): Uint8Array | undefined {
    const first = this.#received[0];
    if (first === undefined) return undefined;
    const part = first.length <= maxBytes ? first : first.subarray(0, maxBytes);
    if (part === first) this.#received.shift();
    else this.#received[0] = first.subarray(maxBytes);
    this.readableBytes -= part.length;
    return part;
  }

  /**
   * Takes a segment with data or a FIN.
   *
   * @returns Whether something new is in order.
   */
  accept(segment: Segment): boolean {
    const length = segment.bytes?.length ?? 0;
    const end = segment.seq + length + (segment.fin ? 1 : 0);
    const fits = segment.seq + length <= this.next + this.#freeBytes();
    if (end > this.next && fits) this.#outOfOrder.set(segment.seq, segment);
    let progressed = false;
    for (let next = this.#inOrder(); next !== undefined; next = this.#inOrder()) {
      this.#deliver(next);
      progressed = true;
    }
    return progressed;
  }

  #inOrder(): Segment | undefined {
    if (this.#outOfOrder.size === 0) return undefined;
    const exact = this.#outOfOrder.get(this.next);
    if (exact !== undefined) return exact;
    for (const [seq, segment] of this.#outOfOrder) {
      const end = seq + (segment.bytes?.length ?? 0) + (segment.fin ? 1 : 0);
      if (end <= this.next) this.#outOfOrder.delete(seq);
      else if (seq < this.next) return segment;
    }
    return undefined;
  }

  #deliver(segment: Segment): void {
    this.#outOfOrder.delete(segment.seq);
    const fresh = segment.bytes?.subarray(this.next - segment.seq);
    if (fresh !== undefined && fresh.length > 0) {
      this.#received.push(fresh);
      this.readableBytes += fresh.length;
      this.next += fresh.length;
    }
    if (!segment.fin || this.finReceived) return;
    this.next++;
    this.finReceived = true;
  }

  #freeBytes(): number {
    return Math.max(0, this.#bufferBytes - this.readableBytes);
  }

  #windowBytes(): number {
    const free = this.#freeBytes();
    return Math.max(this.promisedBytes, free >= this.#usefulBytes ? free : 0);
  }
}
