/**
 * How a queue shares a disk with itself: packets, SQLite's log, and what is kept free
 * for removals.
 *
 * A checkpoint moves the log into the file, which may have to grow by as much as the
 * log is long. So the log may be half as long as the reserve: then there is always
 * room for a checkpoint and a removal, however full the disk is.
 *
 * @module
 */

import { statfsSync } from "node:fs";

const PAGE_BYTES = 4096;
/** From here on a longer log makes commits no faster. */
const MOST_LOG_PAGES = 1000;
/** What a removal and a checkpoint need on a full disk: twice the log. */
const FULL_RESERVE_BYTES = 8 * 1024 * 1024;
/** On a small disk, this part of it, but not less than a removal takes. */
const PART_OF_DISK = 4;
const LEAST_RESERVE_BYTES = 128 * 1024;

/** What is kept free, and how long the log may become. */
export interface DiskShares {
  /** The reserve: 8 MiB, on a disk below 32 MiB a quarter of it. */
  readonly reserveBytes: number;
  /** SQLite's `wal_autocheckpoint`. */
  readonly logPages: number;
  /** Whether the disk's size is known, or assumed to be large. */
  readonly isKnown: boolean;
}

/**
 * The shares on the disk that a path is on. A process that may not ask how large it is
 * (it takes `--allow-sys=statfs`) takes it for a large one.
 */
export function diskSharesAt(path: string): DiskShares {
  const diskBytes = diskBytesAt(path);
  const part = Math.max(LEAST_RESERVE_BYTES, (diskBytes ?? Infinity) / PART_OF_DISK);
  const reserveBytes = Math.min(FULL_RESERVE_BYTES, part);
  const logPages = Math.floor(Math.min(MOST_LOG_PAGES, reserveBytes / 2 / PAGE_BYTES));
  return {
    reserveBytes: Math.floor(reserveBytes),
    logPages: Math.max(1, logPages),
    isKnown: diskBytes !== undefined,
  };
}

function diskBytesAt(path: string): number | undefined {
  try {
    if (Deno.permissions.querySync({ name: "sys", kind: "statfs" }).state !== "granted") {
      return undefined;
    }
    const { blocks, bsize } = statfsSync(path);
    return blocks * bsize;
  } catch {
    return undefined;
  }
}
