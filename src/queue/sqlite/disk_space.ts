/**
 * How a queue shares a disk with itself: packets, SQLite's log, and what is kept free
 * for removals.
 *
 * A checkpoint moves the log into the file, which may have to grow by as much. So the log may be
 * half as long as the reserve: then there is always room for a checkpoint and a removal, however
 * full the disk is. What would make it longer is stored only where the disk has the room besides;
 * see `log_room.ts`.
 */

export const PAGE_BYTES = 4096;
/** From here on a longer log makes commits no faster. */
const MOST_LOG_PAGES = 1000;
/** What a removal and a checkpoint need on a full disk: twice the log. */
const FULL_RESERVE_BYTES = 8 * 1024 * 1024;
const BURIALS_IN_RESERVE = 16;
/** On a small disk, this part of it, but not less than a removal takes. */
const PART_OF_DISK = 4;
const LEAST_RESERVE_BYTES = 128 * 1024;

export interface DiskShares {
  /** The reserve: 8 MiB, on a disk below 32 MiB a quarter of it. */
  readonly reserveBytes: number;
  /** SQLite's `wal_autocheckpoint`. */
  readonly logPages: number;
  /** So many bytes of dead letters are made in one transaction, which may be in the reserve. */
  readonly buryBytes: number;
  /** Whether the disk's size is known, or assumed to be large. */
  readonly isKnown: boolean;
}

/**
 * A file, and the disk that it is on.
 *
 * @category SQLite driver
 */
export interface DiskReading {
  /** The disk's size. */
  readonly diskBytes: number;
  /** What programs without privileges may still write on it. */
  readonly freeBytes: number;
  /** The file's size. */
  readonly fileBytes: number;
  /** What is kept on it for removals at present; undefined: as much as should be. */
  readonly keptBytes?: number;
}

/** The shares on a disk of this size; `undefined`: not known, so it is taken for a large one. */
export function diskShares(diskBytes: number | undefined): DiskShares {
  const part = Math.max(LEAST_RESERVE_BYTES, (diskBytes ?? Infinity) / PART_OF_DISK);
  const reserveBytes = Math.min(FULL_RESERVE_BYTES, part);
  const logPages = Math.floor(Math.min(MOST_LOG_PAGES, reserveBytes / 2 / PAGE_BYTES));
  return {
    reserveBytes: Math.floor(reserveBytes),
    logPages: Math.max(1, logPages),
    buryBytes: reserveBytes / BURIALS_IN_RESERVE,
    isKnown: diskBytes !== undefined,
  };
}

/** Looks at a file and its disk. `undefined`: this process may not (`--allow-sys=statfs`). */
export function diskAt(path: string): DiskReading | undefined {
  try {
    if (Deno.permissions.querySync({ name: "sys", kind: "statfs" }).state !== "granted") {
      return undefined;
    }
    // Loaded only here: the runtime takes 50 ms of CPU for it.
    const { blocks, bavail, bsize } = process.getBuiltinModule("node:fs").statfsSync(path);
    const { size: fileBytes } = Deno.statSync(path);
    const disk = { diskBytes: blocks * bsize, freeBytes: bavail * bsize, fileBytes };
    return { ...disk, ...keptBeside(`${path}.lock`) };
  } catch {
    return undefined;
  }
}

function keptBeside(lock: string): Pick<DiskReading, "keptBytes"> {
  try {
    const { state } = Deno.permissions.querySync({ name: "read", path: lock });
    const { blocks } = state === "granted" ? Deno.statSync(lock) : { blocks: null };
    return blocks === null ? {} : { keptBytes: 512 * blocks };
  } catch {
    return {}; // There is none yet.
  }
}
