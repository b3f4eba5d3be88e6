/**
 * The queue's file as a set of operations. All SQL of a running queue is here;
 * the file's making is in `schema.ts`.
 *
 * Everything is synchronous and one call is one transaction, so a store can be
 * moved into a Worker by sending {@linkcode CommitRequest} and
 * {@linkcode CommitResult} as they are.
 *
 * @module
 */

import { cutRuns } from "../packet_run.ts";
import type { PacketRun } from "../ports.ts";
import {
  SqliteCode,
  type SqliteDatabase,
  SqliteError,
  type SqliteStatement,
  type SqliteValue,
} from "./driver.ts";
import { toFileError } from "./file_error.ts";
import { type PacketSpan, RunPacker } from "./runs.ts";
import { type OpenFileOptions, openQueueFile } from "./schema.ts";

/** What to do with a packet for which there is no room. */
export type Overflow = "reject" | "wait" | "drop-oldest";

/** One transaction. */
export interface CommitRequest {
  /** Removes packets up to and including this id; 0 removes none. */
  readonly removeThrough: number;
  /** Ids up to this one have been on a wire; never lowers what the file says. */
  readonly sentThrough: number;
  /** What to store, in order; the packets of a unit are stored together or not at all. */
  readonly units: readonly PacketSpan[];
  /** Wall clock of this commit, stored with each run. */
  readonly enqueuedAtMs: number;
  /** The most packets that the file may hold. */
  readonly maxPackets: number;
  /** The most payload bytes that the file may hold. */
  readonly maxBytes: number;
  /** What to do with a unit that does not fit. */
  readonly overflow: Overflow;
}

/** The counts that the file keeps, exact across processes. */
export interface StoreState {
  /** Packets in the file. */
  readonly packets: number;
  /** Their payload bytes. */
  readonly bytes: number;
  /** The highest id ever given; 0 when there never was one. */
  readonly lastId: number;
  /** Every id up to this one has left the file; 0 when none ever did. */
  readonly removedThrough: number;
  /** The highest id known to have been on a wire. */
  readonly sentThrough: number;
  /** Packets dropped for want of room since the file was made. */
  readonly droppedPackets: number;
  /** Their bytes. */
  readonly droppedBytes: number;
  /** When the oldest packet was stored, by the wall clock; `undefined` when empty. */
  readonly oldestEnqueuedAtMs: number | undefined;
}

/** A limit that a unit ran into. */
export type Limit = "maxPackets" | "maxBytes";

/** What a transaction did. */
export interface CommitResult {
  /** The file's counts after it. */
  readonly state: StoreState;
  /** What was stored: the packets of every unit that was not refused, in order. */
  readonly runs: readonly PacketRun[];
  /** By index, the units for which there was no room, and the limit they met. */
  readonly refused: ReadonlyMap<number, Limit>;
  /** The packets that had to go, with `"drop-oldest"`. */
  readonly dropped: DroppedPackets | undefined;
}

/** Packets removed unsent to make room. */
export interface DroppedPackets {
  /** How many. */
  readonly packets: number;
  /** Their bytes. */
  readonly bytes: number;
  /** The highest id among them. */
  readonly throughId: number;
}

/** What one step of giving space back left behind. */
export interface FileSpace {
  /** Pages in the file. */
  readonly pages: number;
  /** Pages among them that hold nothing. */
  readonly freePages: number;
}

/** The store as the queue uses it: an answer may come later, from a Worker. */
export interface Store {
  /** The file's path without symbolic links. */
  readonly path: string;
  /** See {@linkcode PacketStore.commit}. */
  commit(request: CommitRequest): CommitResult | Promise<CommitResult>;
  /** See {@linkcode PacketStore.read}. */
  read(afterId: number, maxBytes: number): PacketRun[] | Promise<PacketRun[]>;
  /** See {@linkcode PacketStore.state}. */
  state(): StoreState | Promise<StoreState>;
  /** See {@linkcode PacketStore.dataVersion}. */
  dataVersion(): number | Promise<number>;
  /** See {@linkcode PacketStore.space}. */
  space(): FileSpace | Promise<FileSpace>;
  /** See {@linkcode PacketStore.vacuumStep}. */
  vacuumStep(pages: number): FileSpace | Promise<FileSpace>;
  /** See {@linkcode PacketStore.checkpoint}. */
  checkpoint(): void | Promise<void>;
  /** See {@linkcode PacketStore.close}. */
  close(): void | Promise<void>;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * How many rows a read looks at: enough for most, and then, where rows are
 * small, for the rest.
 */
const READ_ROWS = [32, 1024] as const;
/** How many rows a search for the oldest packets looks at. */
const DROP_ROWS = 64;

/** The queue's file, open. */
export class PacketStore implements Store {
  /** The file's path without symbolic links. */
  readonly path: string;
  readonly #database: SqliteDatabase;
  readonly #begin: SqliteStatement;
  readonly #commit: SqliteStatement;
  readonly #rollback: SqliteStatement;
  readonly #selectState: SqliteStatement;
  readonly #updateState: SqliteStatement;
  readonly #insertRun: SqliteStatement;
  readonly #measureThrough: SqliteStatement;
  readonly #deleteThrough: SqliteStatement;
  readonly #selectOldest: SqliteStatement;
  readonly #selectEnds: SqliteStatement;
  readonly #selectSizes: SqliteStatement;
  readonly #selectRuns: SqliteStatement;
  readonly #dataVersion: SqliteStatement;

  private constructor(database: SqliteDatabase, path: string) {
    this.path = path;
    this.#database = database;
    const prepare = (sql: string): SqliteStatement => database.prepare(sql);
    this.#begin = prepare("BEGIN IMMEDIATE");
    this.#commit = prepare("COMMIT");
    this.#rollback = prepare("ROLLBACK");
    this.#selectState = prepare(
      "SELECT packets, bytes, last_id, removed_through, sent_through, " +
        "dropped_packets, dropped_bytes FROM state",
    );
    this.#updateState = prepare(
      "UPDATE state SET packets = ?, bytes = ?, last_id = ?, removed_through = ?, " +
        "sent_through = ?, dropped_packets = ?, dropped_bytes = ?",
    );
    this.#insertRun = prepare("INSERT INTO packets VALUES (?, ?, ?, ?)");
    // length() of a BLOB reads the row's header only, never its overflow pages.
    this.#measureThrough = prepare(
      "SELECT coalesce(sum(coalesce(length(ends) / 4, 1)), 0), " +
        "coalesce(sum(length(payload)), 0) FROM packets WHERE last_id <= ?",
    );
    this.#deleteThrough = prepare("DELETE FROM packets WHERE last_id <= ?");
    this.#selectOldest = prepare(
      "SELECT enqueued_at_ms FROM packets ORDER BY last_id LIMIT 1",
    );
    this.#selectEnds = prepare(
      "SELECT last_id, ends, length(payload) FROM packets WHERE last_id > ? " +
        "ORDER BY last_id LIMIT ?",
    );
    this.#selectSizes = prepare(
      "SELECT length(payload) FROM packets WHERE last_id > ? ORDER BY last_id LIMIT ?",
    );
    this.#selectRuns = prepare(
      "SELECT last_id, ends, payload FROM packets WHERE last_id > ? ORDER BY last_id LIMIT ?",
    );
    this.#dataVersion = prepare("PRAGMA data_version");
  }

  /**
   * Opens a queue file, or makes one.
   *
   * @throws {QueueFileError}
   * @throws {Deno.errors.NotCapable} With the flags to add.
   */
  static open(path: string, options: OpenFileOptions): PacketStore {
    const { database, path: realPath } = openQueueFile(path, options);
    try {
      const store = new PacketStore(database, realPath);
      store.state();
      return store;
    } catch (error) {
      database.close();
      throw toFileError(error, path);
    }
  }

  /**
   * Removes, stores and counts in one transaction: all of it or, when this
   * throws, nothing.
   *
   * @throws {QueueFileError}
   */
  commit(request: CommitRequest): CommitResult {
    try {
      this.#begin.run([]);
    } catch (error) {
      throw toFileError(error, this.path);
    }
    try {
      return this.#transact(request);
    } catch (error) {
      this.#rollBack();
      throw toFileError(error, this.path);
    }
  }

  #transact(request: CommitRequest): CommitResult {
    const before = this.#readState();
    const state: Mutable<StoreState> = { ...before };
    this.#remove(state, request.removeThrough);
    state.sentThrough = Math.max(state.sentThrough, Math.min(request.sentThrough, state.lastId));

    const refused = new Map<number, Limit>();
    const admitted = this.#admit(state, request, refused);
    const dropped = request.overflow === "drop-oldest"
      ? this.#makeRoom(state, request, admitted)
      : undefined;
    const runs = this.#insert(state, request, refused);

    state.oldestEnqueuedAtMs = this.#oldestAtMs();
    if (
      runs.length === 0 && state.removedThrough === before.removedThrough &&
      state.sentThrough === before.sentThrough
    ) {
      this.#rollBack(); // Nothing to write: spare the disk a sync.
    } else {
      this.#writeState(state);
      this.#commit.run([]);
    }
    return { state, runs, refused, dropped };
  }

  /** Which units fit; the rest goes into `refused`. Returns what was admitted. */
  #admit(
    state: StoreState,
    { units, maxPackets, maxBytes, overflow }: CommitRequest,
    refused: Map<number, Limit>,
  ): { packets: number; bytes: number } {
    const admitted = { packets: 0, bytes: 0 };
    // Old packets give way, so that only the admitted ones themselves count.
    const base = overflow === "drop-oldest" ? { packets: 0, bytes: 0 } : state;
    let waiting: Limit | undefined;
    for (let i = 0; i < units.length; i++) {
      const { packets, bytes } = at(units, i);
      const limit = waiting ??
        (base.packets + admitted.packets + packets > maxPackets
          ? "maxPackets"
          : base.bytes + admitted.bytes + bytes > maxBytes
          ? "maxBytes"
          : undefined);
      if (limit === undefined) {
        admitted.packets += packets;
        admitted.bytes += bytes;
      } else {
        refused.set(i, limit);
        // First come, first served: nobody passes one who waits.
        if (overflow === "wait") waiting = limit;
      }
    }
    return admitted;
  }

  #makeRoom(
    state: Mutable<StoreState>,
    { maxPackets, maxBytes }: CommitRequest,
    admitted: { readonly packets: number; readonly bytes: number },
  ): DroppedPackets | undefined {
    const total = { packets: 0, bytes: 0, throughId: 0 };
    for (;;) {
      const packetsOver = state.packets + admitted.packets - maxPackets;
      const bytesOver = state.bytes + admitted.bytes - maxBytes;
      if (state.packets === 0 || (packetsOver <= 0 && bytesOver <= 0)) break;
      const throughId = this.#idToDrop(state, packetsOver, bytesOver);
      const { packets, bytes } = this.#remove(state, throughId);
      if (packets === 0) break; // The counts promised a packet that is not there.
      total.packets += packets;
      total.bytes += bytes;
      total.throughId = throughId;
    }
    state.droppedPackets += total.packets;
    state.droppedBytes += total.bytes;
    return total.packets === 0 ? undefined : total;
  }

  /** The id through which to drop towards getting rid of both excesses. */
  #idToDrop({ removedThrough }: StoreState, packetsOver: number, bytesOver: number): number {
    let packets = 0, bytes = 0, id = removedThrough;
    for (const row of this.#selectEnds.all([removedThrough, DROP_ROWS])) {
      const { firstId, ends } = shapeOf(row);
      let startByte = 0;
      for (let i = 0; i < ends.length; i++) {
        const endByte = ends[i] ?? startByte;
        if (firstId + i > removedThrough) {
          if (packets >= packetsOver && bytes >= bytesOver) return id;
          id = firstId + i;
          packets++;
          bytes += endByte - startByte;
        }
        startByte = endByte;
      }
    }
    return id;
  }

  /** Removes packets up to and including `throughId`; their row only with its last packet. */
  #remove(state: Mutable<StoreState>, throughId: number): { packets: number; bytes: number } {
    const through = Math.min(throughId, state.lastId);
    if (through <= state.removedThrough) return { packets: 0, bytes: 0 };
    const before = this.#partThrough(state.removedThrough);
    const after = this.#partThrough(through);
    const whole = this.#measureThrough.all([through])[0];
    const packets = Number(whole?.[0]) + after.packets - before.packets;
    const bytes = Number(whole?.[1]) + after.bytes - before.bytes;
    this.#deleteThrough.run([through]);
    state.removedThrough = through;
    state.packets -= packets;
    state.bytes -= bytes;
    return { packets, bytes };
  }

  /** Of the run that `id` lies in, unless as its last packet: the packets up to `id`. */
  #partThrough(id: number): { packets: number; bytes: number } {
    const row = this.#selectEnds.all([id, 1])[0];
    if (row === undefined) return { packets: 0, bytes: 0 };
    const { firstId, ends } = shapeOf(row);
    const packets = Math.max(0, id + 1 - firstId);
    return { packets, bytes: packets === 0 ? 0 : ends[packets - 1] ?? 0 };
  }

  #insert(
    state: Mutable<StoreState>,
    { units, enqueuedAtMs }: CommitRequest,
    refused: ReadonlyMap<number, Limit>,
  ): PacketRun[] {
    const packer = new RunPacker(state.lastId + 1);
    for (let i = 0; i < units.length; i++) {
      if (refused.size > 0 && refused.has(i)) continue;
      const unit = at(units, i);
      packer.add(unit);
      state.packets += unit.packets;
      state.bytes += unit.bytes;
      state.lastId += unit.packets;
    }
    const runs = packer.finish();
    for (const { firstId, bytes, ends } of runs) {
      const endsBlob = ends.length === 1
        ? null
        : new Uint8Array(ends.buffer, ends.byteOffset, ends.byteLength);
      this.#insertRun.run([firstId + ends.length - 1, enqueuedAtMs, endsBlob, bytes]);
    }
    return runs;
  }

  /**
   * The packets that follow `afterId`, in order, up to `maxBytes` in all; at
   * least one when there is one. When a page in that range cannot be read, the
   * runs before it still come, one at a time.
   *
   * @throws {QueueFileError}
   */
  read(afterId: number, maxBytes: number): PacketRun[] {
    try {
      const after = Math.max(afterId, this.#readState().removedThrough);
      let rows: SqliteValue[][];
      try {
        rows = this.#selectRuns.all([after, this.#rowsToRead(after, maxBytes)]);
      } catch (error) {
        if (!(error instanceof SqliteError) || error.primaryCode !== SqliteCode.CORRUPT) {
          throw error;
        }
        rows = this.#selectRuns.all([after, 1]);
      }
      return cutRuns(rows.map(runOf), after, maxBytes);
    } catch (error) {
      throw toFileError(error, this.path);
    }
  }

  /** How many rows from `afterId` on hold `maxBytes`, roughly: at least 1. */
  #rowsToRead(afterId: number, maxBytes: number): number {
    let rows = 0;
    for (const limit of READ_ROWS) {
      const sizes = this.#selectSizes.all([afterId, limit]);
      rows = 0;
      // What the first row holds before `afterId` does not count.
      for (let bytes = 0; rows < sizes.length && bytes < maxBytes; rows++) {
        if (rows > 0) bytes += Number(sizes[rows]?.[0]);
      }
      if (rows < limit) break;
    }
    return Math.max(1, rows);
  }

  /**
   * The file's counts, as last committed by anybody.
   *
   * @throws {QueueFileError}
   */
  state(): StoreState {
    try {
      return { ...this.#readState(), oldestEnqueuedAtMs: this.#oldestAtMs() };
    } catch (error) {
      throw toFileError(error, this.path);
    }
  }

  /**
   * A number that changes when another connection has committed; costs a few
   * microseconds.
   *
   * @throws {QueueFileError}
   */
  dataVersion(): number {
    try {
      return Number(this.#dataVersion.all([])[0]?.[0]);
    } catch (error) {
      throw toFileError(error, this.path);
    }
  }

  /**
   * How large the file is, in pages.
   *
   * @throws {QueueFileError}
   */
  space(): FileSpace {
    try {
      return {
        pages: this.#pragmaNumber("page_count"),
        freePages: this.#pragmaNumber("freelist_count"),
      };
    } catch (error) {
      throw toFileError(error, this.path);
    }
  }

  /**
   * Gives up to `pages` free pages back, in a transaction of its own.
   *
   * @throws {QueueFileError}
   */
  vacuumStep(pages: number): FileSpace {
    try {
      // all(), because a single step frees a single page.
      this.#database.prepare(`PRAGMA incremental_vacuum(${pages})`).all([]);
    } catch (error) {
      throw toFileError(error, this.path);
    }
    return this.space();
  }

  /**
   * Moves the log into the file, so that the file shrinks to what it holds.
   * Does what it can when others are reading.
   *
   * @throws {QueueFileError}
   */
  checkpoint(): void {
    try {
      this.#database.prepare("PRAGMA wal_checkpoint(TRUNCATE)").all([]);
    } catch (error) {
      throw toFileError(error, this.path);
    }
  }

  /** Closes the file. */
  close(): void {
    this.#database.close();
  }

  #pragmaNumber(name: string): number {
    return Number(this.#database.prepare(`PRAGMA ${name}`).all([])[0]?.[0]);
  }

  #readState(): StoreState {
    const row = this.#selectState.all([])[0];
    // The schema is there, its one row is not: somebody else's hand.
    if (row === undefined) throw new SqliteError(SqliteCode.CORRUPT, "the state row is missing");
    const [packets, bytes, lastId, removedThrough, sentThrough, droppedPackets, droppedBytes] = row
      .map(Number);
    return {
      packets: packets ?? 0,
      bytes: bytes ?? 0,
      lastId: lastId ?? 0,
      removedThrough: removedThrough ?? 0,
      sentThrough: sentThrough ?? 0,
      droppedPackets: droppedPackets ?? 0,
      droppedBytes: droppedBytes ?? 0,
      oldestEnqueuedAtMs: undefined,
    };
  }

  #writeState(state: StoreState): void {
    this.#updateState.run([
      state.packets,
      state.bytes,
      state.lastId,
      state.removedThrough,
      state.sentThrough,
      state.droppedPackets,
      state.droppedBytes,
    ]);
  }

  #oldestAtMs(): number | undefined {
    const row = this.#selectOldest.all([])[0];
    return row === undefined ? undefined : Number(row[0]);
  }

  #rollBack(): void {
    try {
      this.#rollback.run([]);
    } catch {
      // SQLite has rolled back by itself, as it does when the disk is full.
    }
  }
}

/** Ids and ends of a row of `last_id, ends, …, payload or its length`. */
function shapeOf([last, blob, payload]: readonly SqliteValue[]): Omit<PacketRun, "bytes"> {
  const lastId = Number(last);
  const bytes = payload instanceof Uint8Array ? payload.length : Number(payload);
  let ends: Uint32Array;
  if (blob === null) {
    ends = Uint32Array.of(bytes);
  } else if (blob instanceof Uint8Array) {
    ends = new Uint32Array(blob.slice().buffer, 0, blob.length >> 2);
  } else {
    throw new SqliteError(SqliteCode.CORRUPT, `run ${lastId} does not say where its packets end`);
  }
  if (ends.at(-1) !== bytes || !ascends(ends)) {
    throw new SqliteError(SqliteCode.CORRUPT, `run ${lastId} contradicts itself`);
  }
  return { firstId: lastId + 1 - ends.length, ends };
}

function ascends(ends: Uint32Array): boolean {
  let before = 0;
  for (const end of ends) {
    if (end <= before) return false;
    before = end;
  }
  return true;
}

function runOf(row: readonly SqliteValue[]): PacketRun {
  const payload = row[2];
  if (!(payload instanceof Uint8Array)) {
    throw new SqliteError(SqliteCode.CORRUPT, `run ${String(row[0])} holds no bytes`);
  }
  return { ...shapeOf(row), bytes: payload };
}

function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no item at ${index}`);
  return item;
}
