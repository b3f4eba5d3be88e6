/**
 * Batches: packets with ids that follow each other, whose bytes lie one behind the
 * other. One is a row of the file, an entry of the memory tail and a piece of
 * the wire, so that small packets share the cost of each.
 */

import type { PacketBatch } from "../../base/ports.ts";
import type { PacketSpan } from "./types.ts";

/**
 * The most bytes in a batch of several packets: 4 KiB costs a quarter of the throughput, 64 KiB
 * gains 15 %; what is damaged or read in vain is one batch.
 */
const BATCH_BYTES = 16 * 1024;
const BATCH_PACKETS = 4096;
/** Ends of the batch being made: a packer is done before the next one begins. */
const ends = new Uint32Array(BATCH_PACKETS);

/**
 * Cuts packets into batches; those that lie behind each other in memory and expire
 * together share one.
 */
export class BatchPacker {
  readonly #batches: PacketBatch[] = [];
  #packets = 0;
  #bytes = 0;
  #block: Uint8Array | undefined;
  #start = 0;
  #expiresAtMs = Infinity;
  #firstId: number;

  constructor(firstId: number) {
    this.#firstId = firstId;
  }

  add(span: PacketSpan): void {
    if (
      span.block !== this.#block || span.start !== this.#start + this.#bytes ||
      span.expiresAtMs !== this.#expiresAtMs
    ) {
      this.#flush();
      this.#block = span.block;
      this.#start = span.start;
      this.#expiresAtMs = span.expiresAtMs;
    }
    if (span.sizes === undefined) this.#addPacket(span.bytes);
    else for (const size of span.sizes) this.#addPacket(size);
  }

  finish(): PacketBatch[] {
    this.#flush();
    return this.#batches;
  }

  #addPacket(size: number): void {
    if (this.#bytes + size > BATCH_BYTES || this.#packets === BATCH_PACKETS) this.#flush();
    this.#bytes += size;
    ends[this.#packets++] = this.#bytes;
  }

  #flush(): void {
    if (this.#packets === 0 || this.#block === undefined) return;
    const endByte = this.#start + this.#bytes;
    this.#batches.push({
      firstId: this.#firstId,
      bytes: this.#block.subarray(this.#start, endByte),
      ends: ends.slice(0, this.#packets),
      expiresAtMs: this.#expiresAtMs,
    });
    this.#firstId += this.#packets;
    this.#start = endByte;
    this.#packets = this.#bytes = 0;
  }
}

/**
 * Small packets share a block: one allocation for many. Where few come, a block is small, for a
 * process may have a thousand queues.
 */
const LEAST_BLOCK_BYTES = 4 * 1024;
const BLOCK_BYTES = 64 * 1024;
const SHARED_MAX_BYTES = 16 * 1024;
/** A block that is used up in this time was too small. */
const SHORT_MS = 100;

/** Where packets are copied to, one behind the other, so that callers may reuse their buffers. */
export class Arena {
  readonly #nowMs: () => number;
  #block: Uint8Array = new Uint8Array(0);
  #used = 0;
  #blockBytes = LEAST_BLOCK_BYTES;
  #madeAtMs = -Infinity;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** The block that packets were copied to last. */
  get block(): Uint8Array {
    return this.#block;
  }

  /** Copies one packet. Returns where it begins in the block. */
  copy(payload: Uint8Array): number {
    const start = this.#reserve(payload.length);
    this.#block.set(payload, start);
    return start;
  }

  /** Copies several, of `bytes` in all. Returns where the first one begins. */
  copyAll(payloads: readonly Uint8Array[], bytes: number): number {
    const start = this.#reserve(bytes);
    let end = start;
    for (const payload of payloads) {
      this.#block.set(payload, end);
      end += payload.length;
    }
    return start;
  }

  /** Returns where the room begins. */
  #reserve(bytes: number): number {
    if (this.#used + bytes > this.#block.length) {
      const blockBytes = bytes > SHARED_MAX_BYTES ? bytes : this.#nextBlockBytes();
      this.#block = new Uint8Array(Math.max(bytes, blockBytes));
      this.#used = 0;
    }
    const start = this.#used;
    this.#used += bytes;
    return start;
  }

  #nextBlockBytes(): number {
    const nowMs = this.#nowMs();
    const isShort = nowMs - this.#madeAtMs < SHORT_MS;
    this.#madeAtMs = nowMs;
    this.#blockBytes = isShort
      ? Math.min(BLOCK_BYTES, 4 * this.#blockBytes)
      : Math.max(LEAST_BLOCK_BYTES, this.#blockBytes / 2);
    return this.#blockBytes;
  }
}
