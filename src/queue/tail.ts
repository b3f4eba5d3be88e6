/**
 * What this process has just stored, kept in memory, so that the wire need not
 * read it back from the file.
 *
 * @module
 */

import type { StoredPacket } from "../ports.ts";

/** What a packet costs beside its bytes: two objects and an array slot, roughly. */
const OVERHEAD_BYTES = 200;

/** The newest packets of a queue, with ids that follow each other without a gap. */
export class MemoryTail {
  readonly #maxBytes: number;
  #packets: StoredPacket[] = [];
  /** Everything before this index is gone; moved, never shifted. */
  #head = 0;
  #bytes = 0;

  /**
   * Makes an empty tail.
   *
   * @param maxBytes The most memory it may hold, each packet's overhead included.
   */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Adds packets just stored. After a gap (another process's packets) it starts afresh. */
  append(firstId: number, payloads: readonly Uint8Array[]): void {
    const newest = this.#packets.at(-1);
    if (newest !== undefined && newest.id + 1 !== firstId) this.clear();
    let id = firstId;
    for (const payload of payloads) {
      this.#packets.push({ id: id++, payload });
      this.#bytes += payload.length + OVERHEAD_BYTES;
    }
    while (this.#bytes > this.#maxBytes) this.#dropOldest();
    this.#compact();
  }

  /** Forgets packets up to and including `id`. */
  removeThrough(id: number): void {
    let oldest = this.#packets[this.#head];
    while (oldest !== undefined && oldest.id <= id) {
      this.#dropOldest();
      oldest = this.#packets[this.#head];
    }
    this.#compact();
  }

  /**
   * The packets that follow `afterId`, or `undefined` when the file has to be
   * asked.
   */
  read(afterId: number, maxBytes: number): StoredPacket[] | undefined {
    const oldest = this.#packets[this.#head];
    if (oldest === undefined || afterId + 1 < oldest.id) return undefined;
    const from = this.#head + (afterId + 1 - oldest.id);
    if (from >= this.#packets.length) return undefined;
    let bytes = 0;
    let to = from;
    for (; to < this.#packets.length; to++) {
      bytes += this.#packets[to]?.payload.length ?? 0;
      if (bytes > maxBytes && to > from) break;
    }
    return this.#packets.slice(from, to);
  }

  /** Forgets everything. */
  clear(): void {
    this.#packets = [];
    this.#head = 0;
    this.#bytes = 0;
  }

  #dropOldest(): void {
    this.#bytes -= (this.#packets[this.#head]?.payload.length ?? 0) + OVERHEAD_BYTES;
    this.#head++;
  }

  /** Copies at most as much as was dropped since the last time. */
  #compact(): void {
    if (this.#head >= 256 && this.#head * 2 >= this.#packets.length) {
      this.#packets = this.#packets.slice(this.#head);
      this.#head = 0;
    }
  }
}

/** Small payloads share a block: one allocation for many. */
const BLOCK_BYTES = 64 * 1024;
const SHARED_MAX_BYTES = 4 * 1024;

/** Copies payloads, so that a caller may reuse its buffer at once. */
export class PayloadCopier {
  #block = new ArrayBuffer(0);
  #used = 0;

  /** Replaces each item by a copy of it. */
  replaceByCopies(payloads: Uint8Array[]): void {
    for (let i = 0; i < payloads.length; i++) {
      const payload = payloads[i];
      if (payload !== undefined) payloads[i] = this.copy(payload);
    }
  }

  /** A copy of `payload`. */
  copy(payload: Uint8Array): Uint8Array {
    const length = payload.length;
    if (length > SHARED_MAX_BYTES) return new Uint8Array(payload);
    if (this.#used + length > this.#block.byteLength) {
      this.#block = new ArrayBuffer(BLOCK_BYTES);
      this.#used = 0;
    }
    const copy = new Uint8Array(this.#block, this.#used, length);
    copy.set(payload);
    this.#used += length;
    return copy;
  }
}
