import { cutBatches, lastIdOf, sliceBatch } from "../../base/packet_batch.ts";
import type { PacketBatch } from "../../base/ports.ts";
import type { IdRange } from "../store/types.ts";

/** What a batch costs beside its bytes: objects, and an entry a packet. */
const BATCH_OVERHEAD_BYTES = 300;
const PACKET_OVERHEAD_BYTES = 4;

/**
 * What this process has just stored, in memory: the newest packets of a queue. None is missing
 * between the oldest one kept here and the newest, except for ids that are not in the file
 * any more either. So whoever reads from the oldest one on need not ask the file.
 */
export class RecentBatches {
  readonly #maxBytes: number;
  #batches: PacketBatch[] = [];
  /** Everything before this index is gone; moved, never shifted. */
  #head = 0;
  #bytes = 0;

  /** @param maxBytes The most memory it may hold, overhead included. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Adds packets just stored. After a gap (another process's packets) it starts afresh. */
  append(batches: readonly PacketBatch[]): void {
    for (const batch of batches) {
      const newest = this.#batches.at(-1);
      if (newest !== undefined && lastIdOf(newest) + 1 !== batch.firstId) this.clear();
      this.#batches.push(batch);
      this.#bytes += sizeOf(batch);
    }
    while (this.#bytes > this.#maxBytes) this.#dropOldest();
    this.#compact();
  }

  /** Forgets packets up to and including `id`. */
  removeThrough(id: number): void {
    let oldest = this.#batches[this.#head];
    while (oldest !== undefined && lastIdOf(oldest) <= id) {
      this.#dropOldest();
      oldest = this.#batches[this.#head];
    }
    this.#compact();
  }

  excise({ firstId, lastId }: IdRange): void {
    const newest = this.#batches.at(-1);
    if (newest === undefined || lastIdOf(newest) < firstId) return;
    const batches: PacketBatch[] = [];
    for (const batch of this.#batches.slice(this.#head)) {
      if (lastIdOf(batch) < firstId || batch.firstId > lastId) {
        batches.push(batch);
        continue;
      }
      if (batch.firstId < firstId) batches.push(sliceBatch(batch, 0, firstId - batch.firstId));
      if (lastIdOf(batch) > lastId) {
        batches.push(sliceBatch(batch, lastId + 1 - batch.firstId, batch.ends.length));
      }
    }
    this.#batches = batches;
    this.#head = 0;
    this.#bytes = batches.reduce((sum, batch) => sum + sizeOf(batch), 0);
  }

  /** The packets that follow `afterId`; `undefined`: the file has to be asked. */
  read(afterId: number, maxBytes: number): PacketBatch[] | undefined {
    const oldest = this.#batches[this.#head];
    if (oldest === undefined || afterId + 1 < oldest.firstId) return undefined;
    const from = this.#indexOf(afterId + 1);
    let to = from;
    for (let bytes = 0; to < this.#batches.length && bytes <= maxBytes; to++) {
      // The first may lie before `afterId` for the most part.
      if (to > from) bytes += this.#batches[to]?.bytes.length ?? 0;
    }
    return from === to ? undefined : cutBatches(this.#batches.slice(from, to), afterId, maxBytes);
  }

  clear(): void {
    this.#batches = [];
    this.#head = 0;
    this.#bytes = 0;
  }

  #indexOf(id: number): number {
    let low = this.#head, high = this.#batches.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const batch = this.#batches[middle];
      if (batch !== undefined && lastIdOf(batch) < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #dropOldest(): void {
    const oldest = this.#batches[this.#head++];
    if (oldest !== undefined) this.#bytes -= sizeOf(oldest);
  }

  /** Copies at most as much as was dropped since the last time. */
  #compact(): void {
    if (this.#head >= 64 && this.#head * 2 >= this.#batches.length) {
      this.#batches = this.#batches.slice(this.#head);
      this.#head = 0;
    }
  }
}

function sizeOf(batch: PacketBatch): number {
  return batch.bytes.length + PACKET_OVERHEAD_BYTES * batch.ends.length + BATCH_OVERHEAD_BYTES;
}
