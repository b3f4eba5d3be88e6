/**
 * How full the disk is: the queue's file, SQLite's log, the reserve, and nothing else.
 * A commit needs room in the log, a checkpoint room in the file; what is free inside
 * the file does not help the log.
 *
 * @module
 */

import { type DiskReading, diskShares, PAGE_BYTES } from "../src/queue/sqlite/disk_space.ts";

/** Of one page in the log, with its header. */
const LOG_PAGE_BYTES = 4120;
/** What a commit writes besides the bytes of its packets: the pages that lead to them. */
const PAGES_BESIDE = 5;
/** What the smallest useful disk has room for besides packets. */
export const SMALLEST_DISK_BYTES = 400 * 1024;

/** The space of one disk. */
export class DiskSpace {
  readonly #pagesNow: () => number;
  /** What there is, and was from the beginning. */
  readonly #capacityBytes: number;
  /** What is kept free for removals. */
  readonly #wantedBytes: number;
  /** So full, the log is moved into the file by the commit that finds it so. */
  readonly #checkpointBytes: number;
  #filePages = 0;
  /** The log's file, and how much of it is in use. */
  #logFileBytes = 0;
  #logBytes = 0;
  #reserveBytes = 0;

  /**
   * Makes an empty disk.
   *
   * @param capacityBytes Its size.
   * @param pagesNow How many pages the database has, committed or not.
   */
  constructor(capacityBytes: number, pagesNow: () => number) {
    this.#pagesNow = pagesNow;
    this.#capacityBytes = capacityBytes;
    const { reserveBytes, logPages } = diskShares(capacityBytes);
    this.#wantedBytes = reserveBytes;
    this.#checkpointBytes = logPages * LOG_PAGE_BYTES;
  }

  /** What sendq sees of it. */
  get reading(): DiskReading {
    return {
      diskBytes: this.#capacityBytes,
      freeBytes: this.#freeBytes,
      fileBytes: this.#filePages * PAGE_BYTES,
      keptBytes: this.#reserveBytes,
    };
  }

  get #freeBytes(): number {
    const usedBytes = this.#filePages * PAGE_BYTES + this.#logFileBytes + this.#reserveBytes;
    return this.#capacityBytes - usedBytes;
  }

  /**
   * A commit wants to write.
   *
   * @param bytes Those of its packets.
   * @returns Whether there was room; if not, nothing has changed.
   */
  commit(bytes: number): boolean {
    const pages = PAGES_BESIDE + Math.ceil(bytes / PAGE_BYTES);
    const logBytes = this.#logBytes + pages * LOG_PAGE_BYTES;
    const growth = Math.max(0, logBytes - this.#logFileBytes);
    if (growth > this.#freeBytes) return false;
    this.#logFileBytes += growth;
    this.#logBytes = logBytes;
    // It begins anew, but for nobody's sake its file becomes shorter.
    if (logBytes >= this.#checkpointBytes && this.#moveLog()) this.#logBytes = 0;
    return true;
  }

  /** The log is moved into the file, and cut. Returns whether there was room. */
  checkpoint(): boolean {
    if (!this.#moveLog()) return false;
    this.#logBytes = 0;
    this.#logFileBytes = 0;
    return true;
  }

  #moveLog(): boolean {
    const pages = this.#pagesNow();
    if ((pages - this.#filePages) * PAGE_BYTES > this.#freeBytes) return false;
    this.#filePages = pages;
    return true;
  }

  /** See `SpareSpace`. */
  releaseReserve(): boolean {
    if (this.#reserveBytes === 0) return false;
    this.#reserveBytes = 0;
    return true;
  }

  /** See `SpareSpace`. */
  restoreReserve(): boolean {
    const missing = this.#wantedBytes - this.#reserveBytes;
    if (missing > this.#freeBytes) return false;
    this.#reserveBytes = this.#wantedBytes;
    return true;
  }
}
