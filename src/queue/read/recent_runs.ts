/**
 * What this process has just stored, kept in memory, so that the wire need not
 * read it back from the file.
 *
 * @module
 */

import { cutRuns, lastIdOf, sliceRun } from "../../base/packet_run.ts";
import type { PacketRun } from "../../base/ports.ts";
import type { IdRange } from "../store/types.ts";

/** What a run costs beside its bytes: objects, and an entry a packet. */
const RUN_OVERHEAD_BYTES = 300;
const PACKET_OVERHEAD_BYTES = 4;

/**
 * The newest packets of a queue: all from the first on, without a gap but for
 * those that were taken out of the file as well.
 */
export class MemoryTail {
  readonly #maxBytes: number;
  #runs: PacketRun[] = [];
  /** Everything before this index is gone; moved, never shifted. */
  #head = 0;
  #bytes = 0;

  /**
   * Makes an empty tail.
   *
   * @param maxBytes The most memory it may hold, overhead included.
   */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Adds packets just stored. After a gap (another process's packets) it starts afresh. */
  append(runs: readonly PacketRun[]): void {
    for (const run of runs) {
      const newest = this.#runs.at(-1);
      if (newest !== undefined && lastIdOf(newest) + 1 !== run.firstId) this.clear();
      this.#runs.push(run);
      this.#bytes += sizeOf(run);
    }
    while (this.#bytes > this.#maxBytes) this.#dropOldest();
    this.#compact();
  }

  /** Forgets packets up to and including `id`. */
  removeThrough(id: number): void {
    let oldest = this.#runs[this.#head];
    while (oldest !== undefined && lastIdOf(oldest) <= id) {
      this.#dropOldest();
      oldest = this.#runs[this.#head];
    }
    this.#compact();
  }

  /** Forgets packets from the middle. */
  excise({ firstId, lastId }: IdRange): void {
    const newest = this.#runs.at(-1);
    if (newest === undefined || lastIdOf(newest) < firstId) return;
    const runs: PacketRun[] = [];
    for (const run of this.#runs.slice(this.#head)) {
      if (lastIdOf(run) < firstId || run.firstId > lastId) {
        runs.push(run);
        continue;
      }
      if (run.firstId < firstId) runs.push(sliceRun(run, 0, firstId - run.firstId));
      if (lastIdOf(run) > lastId) {
        runs.push(sliceRun(run, lastId + 1 - run.firstId, run.ends.length));
      }
    }
    this.#runs = runs;
    this.#head = 0;
    this.#bytes = runs.reduce((sum, run) => sum + sizeOf(run), 0);
  }

  /**
   * The packets that follow `afterId`, or `undefined` when the file has to be
   * asked.
   */
  read(afterId: number, maxBytes: number): PacketRun[] | undefined {
    const oldest = this.#runs[this.#head];
    if (oldest === undefined || afterId + 1 < oldest.firstId) return undefined;
    const from = this.#indexOf(afterId + 1);
    let to = from;
    for (let bytes = 0; to < this.#runs.length && bytes <= maxBytes; to++) {
      // The first may lie before `afterId` for the most part.
      if (to > from) bytes += this.#runs[to]?.bytes.length ?? 0;
    }
    return from === to ? undefined : cutRuns(this.#runs.slice(from, to), afterId, maxBytes);
  }

  /** Forgets everything. */
  clear(): void {
    this.#runs = [];
    this.#head = 0;
    this.#bytes = 0;
  }

  /** The index of the run that holds `id`. */
  #indexOf(id: number): number {
    let low = this.#head, high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const run = this.#runs[middle];
      if (run !== undefined && lastIdOf(run) < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #dropOldest(): void {
    const oldest = this.#runs[this.#head++];
    if (oldest !== undefined) this.#bytes -= sizeOf(oldest);
  }

  /** Copies at most as much as was dropped since the last time. */
  #compact(): void {
    if (this.#head >= 64 && this.#head * 2 >= this.#runs.length) {
      this.#runs = this.#runs.slice(this.#head);
      this.#head = 0;
    }
  }
}

function sizeOf(run: PacketRun): number {
  return run.bytes.length + PACKET_OVERHEAD_BYTES * run.ends.length + RUN_OVERHEAD_BYTES;
}
