/**
 * Disk space that is kept for removals. On a full disk even a removal needs room, for
 * SQLite's log, before it can give any back; a queue that has filled its own disk
 * would never get out of that by itself.
 *
 * The space is the end of the lock file. Whoever opens a queue first writes it, with
 * bytes that no filesystem can compress; the sender gives it up when a removal meets a
 * full disk, and writes it again once there is room.
 *
 * @module
 */

import { diskSharesAt } from "./sqlite/disk_space.ts";

/** What is written at a time; also what `getRandomValues` makes at most. */
const BLOCK_BYTES = 64 * 1024;

/** Space at the end of an open file. */
export class Reserve {
  readonly #file: Deno.FsFile;
  readonly #start: number;
  #wanted: number;
  #bytes = 0;

  /**
   * Takes over what an earlier sender has left, and adds what is missing.
   *
   * @param file Open for writing.
   * @param path Its path, which says how large the disk is.
   * @param start Where in it the reserve begins.
   */
  constructor(file: Deno.FsFile, path: string, start: number) {
    this.#file = file;
    this.#start = start;
    const { reserveBytes, isKnown } = diskSharesAt(path);
    this.#wanted = inBlocks(reserveBytes);
    const { size, blocks } = file.statSync();
    // A file with holes has promised space that it does not have.
    const whole = blocks !== null && 512 * blocks >= size - start;
    this.#bytes = whole ? Math.min(this.#wanted, Math.max(0, size - start)) : 0;
    if (size > start + this.#bytes) this.#cut();
    const found = this.#bytes;
    if (this.restore() || isKnown || found > 0) return;
    // Perhaps the disk is small, perhaps only full: the queue has one half of what there was.
    this.#bytes = inBlocks(this.#bytes / 2);
    if (this.#bytes > 0) this.#wanted = this.#bytes;
    this.#cut();
  }

  /** How much there is. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How much there should be: 8 MiB, on a small disk less. */
  get wantedBytes(): number {
    return this.#wanted;
  }

  /** Gives all of it up. Returns whether there was any. */
  release(): boolean {
    if (this.#bytes === 0) return false;
    this.#bytes = 0;
    this.#cut();
    return true;
  }

  /** Writes what is missing, as far as there is room. Returns whether it is whole. */
  restore(): boolean {
    const block = new Uint8Array(BLOCK_BYTES);
    try {
      while (this.#bytes < this.#wanted) {
        crypto.getRandomValues(block);
        this.#file.seekSync(this.#start + this.#bytes, Deno.SeekMode.Start);
        for (let at = 0; at < block.length;) at += this.#file.writeSync(block.subarray(at));
        this.#bytes += block.length;
      }
      return true;
    } catch {
      // No room; or the disk fails, which others will tell.
      this.#cut();
      return false;
    }
  }

  #cut(): void {
    try {
      this.#file.truncateSync(this.#start + this.#bytes);
    } catch {
      // What is too much stays where it is.
    }
  }
}

function inBlocks(bytes: number): number {
  return Math.floor(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}
