/**
 * Saves what a damaged queue still holds into a new file.
 *
 * Invariants:
 *
 * 1. The old file and its log are only read, and not through SQLite, which
 *    gives up at the first damaged page of a tree and would put files beside it.
 * 2. Packets and dead letters keep their ids.
 * 3. Only whole packets are saved, and around a damaged page all of them: the pages below it
 *    are found without it, and of a batch what lies before and behind it.
 * 4. What is lost is told, and so is that it cannot be told.
 */

import { systemClock } from "../../base/clock.ts";
import type { StoredPacket } from "../../base/ports.ts";
import type { SqliteDriver } from "../sqlite/driver.ts";
import { queueFileError, toFileError } from "../sqlite/file_error.ts";
import { logPathOf, refuseSecondNameWithoutLog } from "../sqlite/file_identity.ts";
import { nodeSqlite } from "../sqlite/node_sqlite.ts";
import type { IdWindow } from "../store/id_window.ts";
import { checkKind, checkVersion, type FileKind } from "../store/schema.ts";
import { packetsApart } from "../store/row.ts";
import { type Counts, NO_COUNTS } from "../store/state_table.ts";
import { type IdRange, mergeRanges } from "../store/types.ts";
import { NewFile } from "./new_file.ts";
import {
  countsOf,
  expiryOf,
  isInGap,
  isIntact,
  isLetter,
  lastRowCounts,
  type RowCounts,
  savedLetterOf,
  type SavedPackets,
  savedPacketsOf,
} from "./salvage.ts";
import { DatabasePages } from "./sqlite_pages.ts";
import { type FoundRows, QueueRows } from "./queue_rows.ts";
import { DatabaseRows, type Gap, type Row } from "./sqlite_rows.ts";

/** What a repair saved, and what it did not. */
export interface RepairReport {
  /** What the new file has. */
  readonly packets: number;
  readonly bytes: number;
  readonly deadPackets: number;
  readonly deadBytes: number;
  /** Packets that the old file counted and the new one lacks; `undefined`: its counts are lost. */
  readonly lostPackets: number | undefined;
  /** Ids among which they are: those that the damage may have held. */
  readonly lostIds: readonly IdRange[];
  /** The same of dead letters. */
  readonly lostDeadPackets: number | undefined;
  readonly lostDeadIds: readonly IdRange[];
  /** What else is not as it was, in sentences. */
  readonly notes: readonly string[];
}

/** Tables and indexes in the order in which a queue's file gets them. */
const ROOTS = [
  "packets",
  "state",
  "expiry",
  "expiry_by_time",
  "dead_letters",
  "packets_by_queue",
] as const;
const SPOOL_ROOTS = [...ROOTS.slice(0, 5), "queues"];
const EVERYTHING: Gap = { after: 0, through: Infinity };

export interface RepairOptions {
  /** For the new file. @default {nodeSqlite} */
  readonly driver?: SqliteDriver;
  /**
   * Finds the queue in a file that has several; what can be read of it is written into a file of
   * its own. `roots` says on which page each table begins.
   *
   * @throws {QueueFileError} There is none.
   */
  readonly find?: (
    rows: DatabaseRows,
    roots: ReadonlyMap<string, number> | undefined,
  ) => IdWindow;
}

/**
 * Writes what can be read of the queue at `from`, and of the `-wal` file beside it, into a new
 * file. Nobody may have the old one open, in this process least of all: reading it as a plain
 * file drops the locks that SQLite holds on it in the same process.
 *
 * @throws {QueueFileError} `from` is no queue, `to` is there or cannot be written.
 */
export function repairQueue(
  from: string,
  to: string,
  { driver = nodeSqlite, find }: RepairOptions = {},
): RepairReport {
  const before = stampOf(from);
  using pages = openPages(from);
  const rows = new DatabaseRows(pages);
  const list = rows.roots();
  // A list that is sound and lacks one of them is another sort of damage.
  const listed = list?.has("packets") && list.has("state") ? list : undefined;
  refuseOthers(from, pages, {
    hasSchema: list !== undefined,
    kind: find === undefined ? "queue" : "spool",
  });
  const roots = listed ?? rows.guessRoots(find === undefined ? ROOTS : SPOOL_ROOTS);
  const window = find?.(rows, roots);
  const ofQueue = (rows: DatabaseRows) => window === undefined ? rows : new QueueRows(rows, window);
  const file = NewFile.create(to, driver);
  try {
    // Rows of its own: each page is visited once.
    const lastRow = lastRowCounts(ofQueue(new DatabaseRows(pages)), roots?.get("packets"));
    const repair = new Repair(ofQueue(rows), roots, file, lastRow);
    repair.run();
    if (stampOf(from) !== before) {
      throw queueFileError("busy", from, "somebody has written it meanwhile", {
        advice: "Stop every program that uses the queue, and try again.",
      });
    }
    const report = repair.finish(logNotes(pages, from));
    if (listed === undefined && report.packets + report.deadPackets === 0 && !repair.knowsCounts) {
      throw queueFileError("not-a-queue", from, "nothing of a queue was found in it", {
        advice: "It was left as it is.",
      });
    }
    file.close();
    return report;
  } catch (error) {
    file.discard();
    throw toFileError(error, to);
  }
}

class Repair {
  readonly #rows: FoundRows;
  readonly #roots: ReadonlyMap<string, number> | undefined;
  readonly #file: NewFile;
  readonly #lastRow: RowCounts | undefined;
  readonly #packetGaps: Gap[] = [];
  readonly #letterGaps: Gap[] = [];
  readonly #expiryGaps: Gap[] = [];
  #stateGaps: Gap[] = [];
  readonly #lost: IdRange[] = [];
  readonly #lostLetters: IdRange[] = [];
  #counts: Counts | undefined;
  #highestId = 0;
  /** The lowest id, for where the counts are lost. */
  #lowestId = Infinity;
  #partBytes = 0;
  #partPackets = 0;
  /** Packets that do not match their checksum. */
  #setAsidePackets = 0;

  constructor(
    rows: FoundRows,
    roots: ReadonlyMap<string, number> | undefined,
    file: NewFile,
    lastRow: RowCounts | undefined,
  ) {
    this.#rows = rows;
    this.#roots = roots;
    this.#file = file;
    this.#lastRow = lastRow;
  }

  get knowsCounts(): boolean {
    return this.#counts !== undefined;
  }

  run(): void {
    this.#walk("state", this.#stateGaps, (row) => this.#saveCounts(row));
    if (this.#counts === undefined) {
      this.#stateGaps = [EVERYTHING];
      for (const row of this.#rows.orphans()) this.#saveCounts(row);
    }
    // First, because a batch that is cut in pieces gives its expiry to each.
    this.#walk("expiry", this.#expiryGaps, (row) => this.#saveExpiry(row));
    if (this.#expiryGaps.length > 0) {
      for (const row of this.#rows.orphans()) {
        if (isInGap(this.#expiryGaps, row.key)) this.#saveExpiry(row);
      }
    }
    let before = 0;
    this.#walk("packets", this.#packetGaps, (row) => {
      const saved = savedPacketsOf(row);
      if (saved === undefined || saved.ids.firstId <= before) return false;
      this.#savePackets(saved);
      before = saved.ids.lastId;
      return true;
    });
    this.#walk("dead_letters", this.#letterGaps, (row) => this.#saveLetter(row));
    if (this.#packetGaps.length + this.#letterGaps.length > 0) this.#saveOrphans();
  }

  /** Goes through a table; `save` says whether a row is sound. */
  #walk(table: string, gaps: Gap[], save: (row: Row) => boolean): void {
    if (this.#roots === undefined) {
      gaps.push(EVERYTHING);
      return;
    }
    const root = this.#roots.get(table);
    if (root === undefined) return; // Of an older version.
    let after = 0;
    for (const item of this.#rows.table(root)) {
      if (!("key" in item)) gaps.push({ ...item, after: Math.max(0, item.after) });
      else if (save(item)) after = item.key;
      else gaps.push({ after, through: item.key });
    }
  }

  #saveOrphans(): void {
    for (const row of this.#rows.orphans()) {
      const packets = savedPacketsOf(row);
      if (packets !== undefined && isInGap(this.#packetGaps, row.key)) {
        const { firstId, lastId } = packets.ids;
        const known = lastId > (this.#counts?.removedThrough ?? 0) &&
          lastId <= (this.#counts?.lastId ?? Infinity);
        if (known && !this.#file.overlaps(firstId, lastId)) this.#savePackets(packets);
      }
      if (isInGap(this.#letterGaps, row.key) && !this.#file.hasLetter(row.key)) {
        this.#saveLetter(row);
      }
    }
  }

  #saveCounts(row: Row): boolean {
    const counts = countsOf(row);
    if (counts === undefined) return false;
    const isOlder = this.#lastRow !== undefined && this.#lastRow.lastId > counts.lastId;
    this.#counts ??= isOlder ? { ...counts, ...this.#lastRow } : counts;
    return true;
  }

  #saveExpiry(row: Row): boolean {
    const expiresAtMs = expiryOf(row);
    if (expiresAtMs === undefined) return false;
    this.#file.addExpiry(row.key, expiresAtMs);
    return true;
  }

  #savePackets({ ids, batches, enqueuedAtMs, lost, damaged }: SavedPackets): void {
    this.#highestId = Math.max(this.#highestId, ids.lastId);
    this.#lost.push(...lost);
    const removedThrough = this.#counts?.removedThrough ?? 0;
    this.#setAside(damaged, enqueuedAtMs, removedThrough);
    for (const batch of batches) {
      const lastId = batch.firstId + batch.ends.length - 1;
      if (lastId <= removedThrough) continue;
      if (!isIntact(batch)) {
        const { firstId, ends, bytes } = batch;
        this.#setAside(packetsApart(firstId, ends, bytes), enqueuedAtMs, removedThrough);
        continue;
      }
      this.#lowestId = Math.min(this.#lowestId, batch.firstId);
      // What was removed counts no more, even where its bytes are still there.
      const gone = Math.max(0, removedThrough + 1 - batch.firstId);
      this.#partPackets += gone;
      this.#partBytes += gone === 0 ? 0 : batch.ends[gone - 1] ?? 0;
      this.#file.addBatch(batch, ids.lastId);
    }
  }

  /** Packets whose bytes are not those that were stored become dead letters, as with a sender. */
  #setAside(packets: readonly StoredPacket[], enqueuedAtMs: number, removedThrough: number): void {
    const diedAtMs = systemClock.wallMs();
    const sentThrough = this.#counts?.sentThrough ?? Infinity;
    for (const { id, payload } of packets) {
      // A row that nothing leads to may be an older one of these.
      if (id <= removedThrough || this.#file.hasLetter(id)) continue;
      const sent = id <= sentThrough ? 1 : 0;
      this.#file.addLetter([id, enqueuedAtMs, diedAtMs, "damaged", sent, 0, null, payload]);
      this.#setAsidePackets++;
    }
  }

  #saveLetter(row: Row): boolean {
    const letter = savedLetterOf(row);
    if (letter === undefined) {
      // A row of its own kind that is not whole, as opposed to one of another table.
      if (isLetter(row.cells)) this.#lostLetters.push({ firstId: row.key, lastId: row.key });
      return false;
    }
    this.#highestId = Math.max(this.#highestId, row.key);
    if (this.#setAsidePackets > 0 && this.#file.hasLetter(row.key)) return true;
    this.#file.addLetter(letter);
    return true;
  }

  finish(logNotes: readonly string[]): RepairReport {
    const { runPackets, runBytes, deadPackets, deadBytes, deadOf } = this.#file;
    const packets = runPackets - this.#partPackets;
    const bytes = runBytes - this.#partBytes;
    const old = this.#counts;
    // The last row of packets has the newest counts: what is lost behind them, they leave out.
    const countsAreOld = old !== undefined &&
      this.#packetGaps.some(({ through }) => through > old.lastId);
    const before = old ?? NO_COUNTS;
    const lastId = Math.max(before.lastId, this.#highestId);
    // What is lost before the first packet that is saved has left the queue.
    const removedThrough = this.#lowestId === Infinity
      ? lastId
      : Math.max(before.removedThrough, this.#lowestId - 1);
    const goneThrough = old?.removedThrough ?? removedThrough;
    this.#file.writeCounts({
      ...before,
      ...{ packets, bytes, storedBytes: bytes, lastId, removedThrough, deadPackets, deadBytes },
      // Not known any more: the server may have any of them.
      sentThrough: old === undefined || countsAreOld ? lastId : old.sentThrough,
      expiredPackets: Math.max(before.expiredPackets, deadOf.expired),
      gaveUpPackets: Math.max(before.gaveUpPackets, deadOf["gave-up"]),
      damagedPackets: Math.max(before.damagedPackets, deadOf.damaged),
      refusedPackets: Math.max(before.refusedPackets, deadOf.refused),
      writtenAtMs: old?.writtenAtMs ?? this.#lastRow?.writtenAtMs ?? 0,
    });
    const setAside = this.#setAsidePackets;
    const lostPackets = old === undefined || countsAreOld
      ? undefined
      : Math.max(0, old.packets - packets - setAside);
    const lostDeadPackets = old === undefined
      ? undefined
      : Math.max(0, old.deadPackets + setAside - deadPackets);
    const clip = (ranges: readonly IdRange[], above: number) =>
      mergeRanges(ranges.map(({ firstId, lastId: last }) => ({
        firstId: Math.max(above + 1, firstId),
        lastId: Math.min(lastId, last),
      })));
    const open = (gaps: readonly Gap[]) =>
      gaps.map(({ after, through }) => ({ firstId: after + 1, lastId: through }));
    const lostIds = lostPackets === 0 ? [] : mergeRanges(
      this.#file.without(clip([...open(this.#packetGaps), ...this.#lost], goneThrough)),
    );
    const lostDeadIds = lostDeadPackets === 0 ? [] : mergeRanges(
      this.#file.withoutLetters(clip(
        // Where the counts are lost, letters in no gap of ids are not guessed at.
        old === undefined ? this.#lostLetters : [...open(this.#letterGaps), ...this.#lostLetters],
        0,
      )),
    );
    const notes = this.#notes(lastId, countsAreOld);
    const harmed = (lostPackets ?? 1) + (lostDeadPackets ?? 1) + notes.length > 0;
    // They were no packets any more: where nothing else is wrong, all of it was saved.
    const damagedBefore = deadOf.damaged - setAside;
    if (harmed && damagedBefore > 0) {
      notes.push(
        `dead letters whose bytes are not those that were stored: ${damagedBefore} ` +
          "(sendq list --dead)",
      );
    }
    return {
      packets,
      bytes,
      deadPackets,
      deadBytes,
      lostPackets,
      lostIds,
      lostDeadPackets,
      lostDeadIds,
      notes: harmed ? [...notes, ...logNotes] : notes,
    };
  }

  #notes(lastId: number, countsAreOld: boolean): string[] {
    const notes: string[] = [];
    if (countsAreOld) {
      notes.push(
        `what stood behind the packets that were found is lost: how many packets that were is ` +
          `not known, and ids go on from ${lastId}`,
      );
    }
    if (this.#setAsidePackets > 0) {
      notes.push(
        "packets that do not match their checksum are dead letters now (sendq list --dead): " +
          this.#setAsidePackets,
      );
    }
    if (this.#counts === undefined) {
      notes.push(
        "the counts are lost: how many packets there were is not known; packets before the " +
          `first one saved count as removed, all of them as sent, and ids go on from ${lastId}`,
      );
    }
    if (this.#counts === undefined && this.#file.hasExpiry) {
      notes.push(
        "what the queue's clock was ahead of the wall clock is lost: where the wall clock was ever " +
          "set by more than a second, packets expire by so much too early or too late",
      );
    }
    if (this.#expiryGaps.length > 0 && this.#file.runPackets > 0) {
      notes.push("times of expiry may be lost: packets without theirs do not expire");
    }
    return notes;
  }
}

function openPages(path: string): DatabasePages {
  try {
    const { isFile, size } = Deno.statSync(path);
    if (!isFile) throw queueFileError("not-a-queue", path, "it is no file");
    refuseSecondNameWithoutLog(Deno.realPathSync(path));
    const pages = DatabasePages.open(path);
    // Of a file that was cut off, the log may still have every page.
    if (size >= 512 || pages.hasLog) return pages;
    pages[Symbol.dispose]();
    throw queueFileError("not-a-queue", path, "it is no database");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw queueFileError("io", path, "there is no such file", {
        cause: error,
        advice: "Give the path of a queue.",
      });
    }
    throw toFileError(error, path);
  }
}

/**
 * Whether there is anything to save in a file that SQLite takes for no database. Nobody may
 * have it open, as for {@linkcode repairQueue}.
 *
 * @param log Whether its `-wal` file may be read, too.
 * @returns `undefined`: it is no file, or a sound database, and so not damaged.
 */
export function holdsPackets(path: string, log: boolean): boolean | undefined {
  if (!Deno.statSync(path).isFile) return undefined;
  using pages = DatabasePages.open(path, log);
  const rows = new DatabaseRows(pages);
  if (pages.hasHeader && rows.roots() !== undefined) return undefined;
  for (const row of rows.orphans()) {
    if ((savedPacketsOf(row) ?? savedLetterOf(row) ?? countsOf(row)) !== undefined) return true;
  }
  return false;
}

/** @throws {QueueFileError} The file is sound enough to know that it is another one. */
function refuseOthers(
  path: string,
  pages: DatabasePages,
  { hasSchema, kind }: { readonly hasSchema: boolean; readonly kind: FileKind },
): void {
  if (!pages.hasHeader || !hasSchema) return;
  const version = pages.headerNumber(60);
  checkVersion({ applicationId: pages.headerNumber(68), version }, path);
  checkKind(version, path, kind);
}

/** What changes when somebody writes. */
function stampOf(path: string): string {
  return [path, logPathOf(path)].map((name) => {
    try {
      const { size, mtime } = Deno.statSync(name);
      return `${size} ${mtime?.getTime()}`;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "";
      throw toFileError(error, path);
    }
  }).join();
}

function logNotes(pages: DatabasePages, path: string): string[] {
  const log = logPathOf(path);
  if (!pages.hasLog) {
    return [
      `there is no log beside it: if ${path} is a copy, copy ${log} too, or its newest ` +
      "packets are missing",
    ];
  }
  if (pages.brokenLogFrames === 0) return [];
  return [
    `the last ${pages.brokenLogFrames} pages in ${log} belong to no finished commit, ` +
    "or are damaged",
  ];
}
