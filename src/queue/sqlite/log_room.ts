/**
 * Packets are stored only where there is room to move them from SQLite's log into the
 * file behind them. Else a full disk could hold a log that nobody can shorten any more,
 * and removals would end after a few.
 *
 * A large packet needs the room twice, and so does a log that a reader keeps from being
 * moved. What the file will grow by is known before the commit: SQLite counts its pages.
 */

import type { DiskReading } from "./disk_space.ts";
import { diskShares, PAGE_BYTES } from "./disk_space.ts";
import type { SqliteDatabase, SqliteStatement } from "./driver.ts";
import { diskFull } from "./file_error.ts";

/** Looks at the disk, but not for every packet: several processes may store at a time. */
const LOOKS_IN_RESERVE = 8;
/**
 * Where so much is left, nobody writes the disk full in this time, nor we with this part of it; who
 * takes it at one stroke leaves the log no room to grow either. A look takes 0.1 ms, and large
 * packets would ask for a hundred in a second.
 */
const PLENTY_BYTES = 1024 * 1024 * 1024;
const PLENTY_FOR_MS = 100;
const PLENTY_PART = 16;
/** The reserve is a whole number of these. */
const KEPT_IN_BLOCKS_OF = 64 * 1024;
/** Of a packet's bytes in the log: headers of pages, and pages that are not full. */
const LOG_OVERHEAD = 1.05;
/** Beside packets, however few: the pages that lead to them, counts, and those that list pages. */
const LOG_BYTES_BESIDE = 8 * PAGE_BYTES;

export interface LogRoomOptions {
  readonly path: string;
  readonly database: SqliteDatabase;
  /** Looks at the file and its disk; `undefined`: nobody may, and there is room. */
  look(): DiskReading | undefined;
  nowMs(): number;
}

export class LogRoom {
  readonly #path: string;
  readonly #look: () => DiskReading | undefined;
  readonly #nowMs: () => number;
  readonly #pageCount: SqliteStatement;
  /** Stored since the disk was looked at; the first packet finds out. */
  #unseenBytes = Infinity;
  #lookEveryBytes = 0;
  #plentyUntilMs = -Infinity;

  constructor({ path, database, look, nowMs }: LogRoomOptions) {
    this.#path = path;
    this.#look = look;
    this.#nowMs = nowMs;
    this.#pageCount = database.prepare("PRAGMA page_count");
  }

  /**
   * Asks before a transaction that stores packets is committed, with them in it.
   *
   * @throws {QueueFileError} The disk is too full for them.
   */
  check(bytes: number): void {
    this.#unseenBytes += bytes;
    if (this.#unseenBytes < this.#lookEveryBytes) return;
    const nowMs = this.#nowMs();
    if (nowMs < this.#plentyUntilMs && this.#unseenBytes < PLENTY_BYTES / PLENTY_PART) return;
    this.#plentyUntilMs = -Infinity;
    const disk = this.#look();
    const { reserveBytes } = diskShares(disk?.diskBytes);
    this.#lookEveryBytes = reserveBytes / LOOKS_IN_RESERVE;
    if (disk !== undefined) {
      // What a removal has of it is put back.
      const missingBytes = reserveBytes - (disk.keptBytes ?? Infinity) - KEPT_IN_BLOCKS_OF;
      const leftBytes = disk.freeBytes - logBytesFor(bytes) - Math.max(0, missingBytes);
      // The commit itself moves the log; where it cannot, removals need half the reserve.
      const spareBytes = missingBytes > 0 ? -Infinity : reserveBytes / 2;
      this.#checkGrowth(disk, leftBytes, Math.max(leftBytes, spareBytes));
    }
    this.#unseenBytes = 0;
  }

  /**
   * The same of packets that become dead letters, in the reserve where there is no other room. The
   * file's growth leaves half of it free, which removals need from then on.
   */
  checkBuried(bytes: number): void {
    const disk = this.#look();
    if (disk === undefined) return;
    const { reserveBytes } = diskShares(disk.diskBytes);
    const leftBytes = disk.freeBytes - Math.max(logBytesFor(bytes), reserveBytes / 2);
    this.#checkGrowth(disk, leftBytes, Math.max(leftBytes, 0));
  }

  /** The same of what only removes: the log grows while a reader keeps it from being moved. */
  checkRemoved(): void {
    const disk = this.#nowMs() < this.#plentyUntilMs ? undefined : this.#look();
    if (disk === undefined) return;
    const leftBytes = disk.freeBytes - logBytesFor(0);
    this.#checkGrowth(disk, leftBytes, Math.max(leftBytes, 0));
  }

  /** The file grows once the log is moved into it. */
  #checkGrowth({ fileBytes }: DiskReading, leftBytes: number, mostBytes: number): void {
    const growthBytes = Number(this.#pageCount.all([])[0]?.[0]) * PAGE_BYTES - fileBytes;
    if (growthBytes > mostBytes) {
      throw diskFull(this.#path);
    }
    const isPlenty = leftBytes - growthBytes > PLENTY_BYTES;
    this.#plentyUntilMs = isPlenty ? this.#nowMs() + PLENTY_FOR_MS : -Infinity;
  }
}

/** What a commit of packets with so many bytes puts into the log. */
function logBytesFor(bytes: number): number {
  return LOG_OVERHEAD * bytes + LOG_BYTES_BESIDE;
}
