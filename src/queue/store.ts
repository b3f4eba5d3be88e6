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

import type { StoredPacket } from "../ports.ts";
import {
  SqliteCode,
  type SqliteDatabase,
  SqliteError,
  type SqliteStatement,
  type SqliteValue,
} from "./driver.ts";
import { toFileError } from "./file_error.ts";
import { type OpenFileOptions, openQueueFile } from "./schema.ts";

/** What to do with a packet for which there is no room. */
export type Overflow = "reject" | "wait" | "drop-oldest";

/** Packets that are stored together or not at all. */
export interface CommitUnit {
  /** The packets, in order. */
  readonly payloads: readonly Uint8Array[];
  /** Their bytes in all. */
  readonly bytes: number;
}

/** One transaction. */
export interface CommitRequest {
  /** Removes packets up to and including this id; 0 removes none. */
  readonly removeThrough: number;
  /** Ids up to this one have been on a wire; never lowers what the file says. */
  readonly sentThrough: number;
  /** What to store, in order. */
  readonly units: readonly CommitUnit[];
  /** Wall clock of this commit, stored with each packet. */
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
  /** The first id of each unit; 0 for one that was not stored. */
  readonly firstIds: readonly number[];
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
  read(
    afterId: number,
    maxBytes: number,
    typicalBytes: number,
  ): StoredPacket[] | Promise<StoredPacket[]>;
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

/** Rows in one INSERT; measured: wider is no faster, narrower is slower. */
const INSERT_WIDTHS = [64, 8, 1] as const;

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
  readonly #inserts: readonly { readonly rows: number; readonly statement: SqliteStatement }[];
  readonly #measureThrough: SqliteStatement;
  readonly #deleteThrough: SqliteStatement;
  readonly #selectOldest: SqliteStatement;
  readonly #selectOldestSizes: SqliteStatement;
  readonly #findCut: SqliteStatement;
  readonly #selectRange: SqliteStatement;
  readonly #selectNext: SqliteStatement;
  readonly #dataVersion: SqliteStatement;

  private constructor(database: SqliteDatabase, path: string) {
    this.path = path;
    this.#database = database;
    const prepare = (sql: string): SqliteStatement => database.prepare(sql);
    this.#begin = prepare("BEGIN IMMEDIATE");
    this.#commit = prepare("COMMIT");
    this.#rollback = prepare("ROLLBACK");
    this.#selectState = prepare(
      "SELECT packets, bytes, last_id, sent_through, dropped_packets, dropped_bytes FROM state",
    );
    this.#updateState = prepare(
      "UPDATE state SET packets = ?, bytes = ?, last_id = ?, sent_through = ?, " +
        "dropped_packets = ?, dropped_bytes = ?",
    );
    this.#inserts = INSERT_WIDTHS.map((rows) => {
      const values = Array.from({ length: rows }, (_, i) => `(?1 + ${i}, ?2, ?${i + 3})`);
      return { rows, statement: prepare(`INSERT INTO packets VALUES ${values.join(", ")}`) };
    });
    this.#measureThrough = prepare(
      "SELECT count(*), coalesce(sum(length(payload)), 0) FROM packets WHERE id <= ?",
    );
    this.#deleteThrough = prepare("DELETE FROM packets WHERE id <= ?");
    this.#selectOldest = prepare("SELECT id, enqueued_at_ms FROM packets ORDER BY id LIMIT 1");
    this.#selectOldestSizes = prepare(
      "SELECT id, length(payload) FROM packets ORDER BY id LIMIT ?",
    );
    // length() of a BLOB reads the row's header only, never its overflow pages.
    this.#findCut = prepare(
      "SELECT max(id) FROM (" +
        "SELECT id, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS total FROM (" +
        "SELECT id, length(payload) AS size FROM packets WHERE id > ?1 ORDER BY id LIMIT ?2)" +
        ") WHERE total <= ?3",
    );
    this.#selectRange = prepare(
      "SELECT id, payload FROM packets WHERE id > ? AND id <= ? ORDER BY id",
    );
    this.#selectNext = prepare("SELECT id, payload FROM packets WHERE id > ? ORDER BY id LIMIT 1");
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
    if (request.removeThrough > 0 && state.packets > 0) this.#remove(state, request.removeThrough);
    state.sentThrough = Math.max(state.sentThrough, Math.min(request.sentThrough, state.lastId));

    const refused = new Map<number, Limit>();
    const admitted = this.#admit(state, request, refused);
    const dropped = request.overflow === "drop-oldest"
      ? this.#makeRoom(state, request, admitted)
      : undefined;
    const firstIds = this.#insert(state, request, refused);

    Object.assign(state, this.#oldest(state.lastId));
    if (
      firstIds.length === refused.size && state.packets === before.packets &&
      state.sentThrough === before.sentThrough
    ) {
      this.#rollBack(); // Nothing to write: spare the disk a sync.
    } else {
      this.#writeState(state);
      this.#commit.run([]);
    }
    return { state, firstIds, refused, dropped };
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
      const { payloads, bytes } = at(units, i);
      const limit = waiting ??
        (base.packets + admitted.packets + payloads.length > maxPackets
          ? "maxPackets"
          : base.bytes + admitted.bytes + bytes > maxBytes
          ? "maxBytes"
          : undefined);
      if (limit === undefined) {
        admitted.packets += payloads.length;
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
      const throughId = this.#idToDrop(packetsOver, bytesOver);
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
  #idToDrop(packetsOver: number, bytesOver: number): number {
    const limit = Math.min(4096, Math.max(16, packetsOver));
    const sizes = this.#selectOldestSizes.all([limit]);
    let packets = 0, bytes = 0, id = 0;
    for (const row of sizes) {
      if (packets >= packetsOver && bytes >= bytesOver) break;
      id = Number(row[0]);
      packets++;
      bytes += Number(row[1]);
    }
    return id;
  }

  #remove(state: Mutable<StoreState>, throughId: number): { packets: number; bytes: number } {
    const row = this.#measureThrough.all([throughId])[0];
    const packets = Number(row?.[0]), bytes = Number(row?.[1]);
    if (packets > 0) {
      this.#deleteThrough.run([throughId]);
      state.packets -= packets;
      state.bytes -= bytes;
    }
    return { packets, bytes };
  }

  #insert(
    state: Mutable<StoreState>,
    { units, enqueuedAtMs }: CommitRequest,
    refused: ReadonlyMap<number, Limit>,
  ): number[] {
    const firstIds: number[] = [];
    const payloads: Uint8Array[] = [];
    const firstId = state.lastId + 1;
    for (let i = 0; i < units.length; i++) {
      if (refused.size > 0 && refused.has(i)) {
        firstIds.push(0);
        continue;
      }
      const unit = at(units, i);
      firstIds.push(firstId + payloads.length);
      for (const payload of unit.payloads) payloads.push(payload);
      state.bytes += unit.bytes;
    }
    let next = 0;
    for (const { rows, statement } of this.#inserts) {
      while (payloads.length - next >= rows) {
        const params: SqliteValue[] = [firstId + next, enqueuedAtMs];
        for (let i = next; i < next + rows; i++) params.push(at(payloads, i));
        statement.run(params);
        next += rows;
      }
    }
    state.packets += payloads.length;
    state.lastId += payloads.length;
    return firstIds;
  }

  /**
   * The packets that follow `afterId`, in order, up to `maxBytes` in all; at
   * least one when there is one. When a page in that range cannot be read, the
   * packets before it still come, one at a time.
   *
   * @param typicalBytes How large a packet usually is: bounds the search.
   * @throws {QueueFileError}
   */
  read(afterId: number, maxBytes: number, typicalBytes: number): StoredPacket[] {
    try {
      try {
        const rows = Math.ceil(2 * maxBytes / Math.max(1, typicalBytes));
        const limit = Math.min(8192, Math.max(16, rows));
        const cut = this.#findCut.all([afterId, limit, maxBytes])[0]?.[0] ?? null;
        if (cut !== null) return this.#selectRange.all([afterId, cut]).map(packetOf);
      } catch (error) {
        if (!(error instanceof SqliteError) || error.primaryCode !== SqliteCode.CORRUPT) {
          throw error;
        }
      }
      return this.#selectNext.all([afterId]).map(packetOf);
    } catch (error) {
      throw toFileError(error, this.path);
    }
  }

  /**
   * The file's counts, as last committed by anybody.
   *
   * @throws {QueueFileError}
   */
  state(): StoreState {
    try {
      const state = this.#readState();
      return { ...state, ...this.#oldest(state.lastId) };
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
    const [packets, bytes, lastId, sentThrough, droppedPackets, droppedBytes] = row.map(Number);
    return {
      packets: packets ?? 0,
      bytes: bytes ?? 0,
      lastId: lastId ?? 0,
      sentThrough: sentThrough ?? 0,
      droppedPackets: droppedPackets ?? 0,
      droppedBytes: droppedBytes ?? 0,
      removedThrough: 0,
      oldestEnqueuedAtMs: undefined,
    };
  }

  #writeState(state: StoreState): void {
    this.#updateState.run([
      state.packets,
      state.bytes,
      state.lastId,
      state.sentThrough,
      state.droppedPackets,
      state.droppedBytes,
    ]);
  }

  #oldest(lastId: number): Pick<StoreState, "removedThrough" | "oldestEnqueuedAtMs"> {
    const row = this.#selectOldest.all([])[0];
    return row === undefined
      ? { removedThrough: lastId, oldestEnqueuedAtMs: undefined }
      : { removedThrough: Number(row[0]) - 1, oldestEnqueuedAtMs: Number(row[1]) };
  }

  #rollBack(): void {
    try {
      this.#rollback.run([]);
    } catch {
      // SQLite has rolled back by itself, as it does when the disk is full.
    }
  }
}

function packetOf(row: readonly SqliteValue[]): StoredPacket {
  const [id, payload] = row;
  if (!(payload instanceof Uint8Array)) {
    throw new SqliteError(SqliteCode.CORRUPT, `packet ${String(id)} holds no bytes`);
  }
  return { id: Number(id), payload };
}

function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no item at ${index}`);
  return item;
}
