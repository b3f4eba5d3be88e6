/**
 * Disk space that is kept for removals: on a full disk even a removal needs room, for SQLite's log,
 * before it can give any back.
 *
 * The space is the end of the lock file. Its sender has the filesystem keep it, in half a
 * millisecond. Whoever may not, or stores before there was a sender, writes it, with
 * bytes that no filesystem can compress. The sender gives it up when a removal meets a full
 * disk, and puts it back once there is room.
 */

import type { Allocate } from "../base/ports.ts";
import { writeAllSync } from "../base/write_all.ts";
import { NOTICE_BYTES, RESERVE_SIZE_BYTES, RESERVE_START } from "./lock_file.ts";
import { diskAt, diskShares, PAGE_BYTES } from "./sqlite/disk_space.ts";

/** What is written at a time; also what `getRandomValues` makes at most. */
const BLOCK_BYTES = 64 * 1024;
/** Random bytes repeat after these: more than any filesystem compresses together. */
const RANDOM_BYTES = 1024 * 1024;

export class Reserve {
  readonly #file: Deno.FsFile;
  readonly #path: string;
  readonly #allocate: Allocate | undefined;
  #wanted: number;
  #bytes = 0;

  /**
   * Takes over what an earlier process has left, and adds what is missing.
   *
   * @param file Open for reading and writing.
   * @param allocate Keeps space without writing it.
   */
  constructor(file: Deno.FsFile, path: string, allocate?: Allocate) {
    this.#file = file;
    this.#path = path;
    this.#allocate = allocate;
    const { reserveBytes, isKnown } = diskShares(diskAt(path)?.diskBytes);
    const wantedBefore = isKnown ? undefined : this.#readWanted();
    this.#wanted = inBlocks(Math.min(reserveBytes, wantedBefore ?? Infinity));
    const { size } = file.statSync();
    this.#bytes = this.#isWhole()
      ? Math.min(this.#wanted, Math.max(0, inBlocks(size - RESERVE_START)))
      : 0;
    if (size > RESERVE_START + this.#bytes) this.#cut();
    const restored = this.restore();
    if (!restored && !isKnown && wantedBefore === undefined) {
      // Perhaps the disk is small, perhaps only full: the queue has one half of what there was.
      this.#bytes = inBlocks(this.#bytes / 2);
      if (this.#bytes > 0) this.#wanted = this.#bytes;
      this.#cut();
    }
    this.#writeWanted();
  }

  #readWanted(): number | undefined {
    const digits = new Uint8Array(RESERVE_SIZE_BYTES);
    this.#file.seekSync(NOTICE_BYTES, Deno.SeekMode.Start);
    this.#file.readSync(digits);
    const [text = ""] = new TextDecoder().decode(digits).split("\0");
    return /^[1-9][0-9]*$/.test(text) ? Number(text) : undefined;
  }

  /** For processes that may not ask how large the disk is. */
  #writeWanted(): void {
    const digits = new Uint8Array(RESERVE_SIZE_BYTES);
    digits.set(new TextEncoder().encode(String(this.#wanted)));
    try {
      this.#file.seekSync(NOTICE_BYTES, Deno.SeekMode.Start);
      writeAllSync(this.#file, digits);
    } catch {
      // The disk is full; who comes later finds out again.
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

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

  /** Adds what is missing, as far as there is room. Returns whether it is whole. */
  restore(): boolean {
    if (this.#bytes >= this.#wanted) return true;
    if (this.#restoreUnwritten()) return true;
    const random = randomBytes(Math.min(RANDOM_BYTES, this.#wanted - this.#bytes));
    try {
      this.#file.seekSync(RESERVE_START + this.#bytes, Deno.SeekMode.Start);
      for (let from = 0; this.#bytes < this.#wanted; from = (from + BLOCK_BYTES) % random.length) {
        const block = new DataView(random.buffer, from, BLOCK_BYTES);
        // No two pages are the same: each has its place written into it.
        for (let at = 0; at < BLOCK_BYTES; at += PAGE_BYTES) block.setFloat64(at, this.#bytes + at);
        writeAllSync(this.#file, random.subarray(from, from + BLOCK_BYTES));
        this.#bytes += BLOCK_BYTES;
      }
      return true;
    } catch {
      // No room; or the disk fails, which others will tell.
      this.#cut();
      return false;
    }
  }

  #restoreUnwritten(): boolean {
    const missingBytes = this.#wanted - this.#bytes;
    const given = this.#allocate?.(this.#path, RESERVE_START + this.#bytes, missingBytes) ?? false;
    // The path may lead elsewhere by now.
    const { size } = this.#file.statSync();
    if (!given || size !== RESERVE_START + this.#wanted || !this.#isWhole()) return false;
    this.#bytes = this.#wanted;
    return true;
  }

  /** A file with holes has promised space that it does not have. */
  #isWhole(): boolean {
    const { size, blocks } = this.#file.statSync();
    return blocks !== null && 512 * blocks >= size - RESERVE_START;
  }

  #cut(): void {
    try {
      this.#file.truncateSync(RESERVE_START + this.#bytes);
    } catch {
      // What is too much stays where it is.
    }
  }
}

/** All 8 MiB took a quarter of the time in which a queue is made. */
function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += BLOCK_BYTES) {
    crypto.getRandomValues(bytes.subarray(at, at + BLOCK_BYTES));
  }
  return bytes;
}

function inBlocks(bytes: number): number {
  return Math.floor(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}
