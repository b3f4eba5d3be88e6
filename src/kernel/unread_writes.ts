/**
 * How much of what was written to a Unix socket is unread at most, from the memory that the
 * kernel counts for it. Pure bookkeeping.
 *
 * The kernel keeps each write in one piece of memory or several, in order, and lets go of a
 * piece once its last byte was read. So what is unread are the newest writes, and of the
 * oldest of these a part. Of each write we know its bytes, and memory that it takes at least:
 * as many bytes, or what Send-Q grew by while it was made, where a reader can only have
 * taken away from it. The newest writes that fit into Send-Q are unread at most.
 *
 * Example: three writes of 100 bytes, 768 of memory each, and Send-Q 1536. Were the first
 * one unread, too, Send-Q would be 2304 at least: so 200 bytes are unread, and 100 were read.
 */

interface Write {
  readonly bytes: number;
  /** What the kernel counts for it, at least. */
  readonly memoryBytes: number;
}

export class UnreadWrites {
  #writes: Write[] = [];
  #head = 0;
  /** Of all from `#head` on. */
  #bytes = 0;
  #memoryBytes = 0;

  /** The kernel has taken a write, and Send-Q was so much larger after it than before. */
  took(bytes: number, grownBytes: number): void {
    const memoryBytes = Math.max(bytes, grownBytes);
    this.#writes.push({ bytes, memoryBytes });
    this.#bytes += bytes;
    this.#memoryBytes += memoryBytes;
  }

  /** How many bytes are unread at most, by a Send-Q that was read while nothing was thrown away. */
  unreadBytes(sendQueueBytes: number): number {
    let oldest = this.#writes[this.#head];
    // Where those behind it account for all of Send-Q, it was read.
    while (oldest !== undefined && this.#memoryBytes - oldest.memoryBytes >= sendQueueBytes) {
      this.#bytes -= oldest.bytes;
      this.#memoryBytes -= oldest.memoryBytes;
      oldest = this.#writes[++this.#head];
    }
    if (this.#head * 2 > this.#writes.length) {
      this.#writes = this.#writes.slice(this.#head);
      this.#head = 0;
    }
    if (oldest === undefined) return 0;
    const behindBytes = this.#bytes - oldest.bytes;
    const restBytes = sendQueueBytes - (this.#memoryBytes - oldest.memoryBytes);
    return behindBytes + Math.min(oldest.bytes, restBytes);
  }
}
