/**
 * The queue's file as a set of operations, each of them one transaction. The
 * SQL for the packets is in `packet_table.ts`, that for the dead letters in
 * `dead_letter_table.ts`, the file's making in `schema.ts`.
 *
 * Everything is synchronous.
 *
 * @module
 */

import type { PacketBatch } from "../../base/ports.ts";
import {
  SqliteCode,
  type SqliteDatabase,
  SqliteError,
  type SqliteStatement,
} from "../sqlite/driver.ts";
import { toFileError } from "../sqlite/file_error.ts";
import { BatchPacker } from "./batches.ts";
import type {
  CommitRequest,
  CommitResult,
  Edit,
  EditRequest,
  EditResult,
  FileSpace,
  Limit,
  QueueStore,
  StoreState,
} from "./contract.ts";
import { DeadLetterTable } from "./dead_letter_table.ts";
import { PacketTable } from "./packet_table.ts";
import { type OpenFileOptions, openQueueFile } from "./schema.ts";
import type { DeadLetter, DroppedPackets, Due, IdRange, PacketCount } from "./types.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The queue's file, open. */
export class SqliteStore implements QueueStore {
  /** The file's path without symbolic links. */
  readonly path: string;
  readonly #database: SqliteDatabase;
  readonly #packets: PacketTable;
  readonly #deadLetters: DeadLetterTable;
  readonly #begin: SqliteStatement;
  readonly #commit: SqliteStatement;
  readonly #rollback: SqliteStatement;
  readonly #selectState: SqliteStatement;
  readonly #updateState: SqliteStatement;
  readonly #dataVersion: SqliteStatement;

  private constructor(database: SqliteDatabase, path: string) {
    this.path = path;
    this.#database = database;
    this.#packets = new PacketTable(database);
    this.#deadLetters = new DeadLetterTable(database);
    this.#begin = database.prepare("BEGIN IMMEDIATE");
    this.#commit = database.prepare("COMMIT");
    this.#rollback = database.prepare("ROLLBACK");
    this.#selectState = database.prepare(
      "SELECT packets, bytes, last_id, removed_through, sent_through, dropped_packets, " +
        "dropped_bytes, dead_packets, dead_bytes, expired_packets, gave_up_packets FROM state",
    );
    this.#updateState = database.prepare(
      "UPDATE state SET packets = ?, bytes = ?, last_id = ?, removed_through = ?, " +
        "sent_through = ?, dropped_packets = ?, dropped_bytes = ?, dead_packets = ?, " +
        "dead_bytes = ?, expired_packets = ?, gave_up_packets = ?",
    );
    this.#dataVersion = database.prepare("PRAGMA data_version");
  }

  /**
   * Opens a queue file, or makes one.
   *
   * @throws {QueueFileError}
   * @throws {Deno.errors.NotCapable} With the flags to add.
   */
  static open(path: string, options: OpenFileOptions): SqliteStore {
    const { database, path: realPath } = openQueueFile(path, options);
    try {
      const store = new SqliteStore(database, realPath);
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
    return this.#transact(() => {
      const before = this.#readState();
      const state: Mutable<StoreState> = { ...before };
      this.#remove(state, request.removeThrough);
      rememberSent(state, request.sentThrough);

      const refused = new Map<number, Limit>();
      const admitted = this.#admit(state, request, refused);
      const dropped = request.overflow === "drop-oldest"
        ? this.#makeRoom(state, request, admitted)
        : undefined;
      const batches = this.#store(state, request, refused);

      this.#updateOldest(state);
      // Nothing to write: spare the disk a sync.
      const changed = batches.length > 0 || dropped !== undefined ||
        state.removedThrough !== before.removedThrough ||
        state.sentThrough !== before.sentThrough;
      return { changed, state, result: { state, batches, refused, dropped } };
    });
  }

  /**
   * Makes a change in the middle, in one transaction: all of it or, when this
   * throws, nothing.
   *
   * @throws {QueueFileError}
   */
  edit({ edit, atMs, sentThrough }: EditRequest): EditResult {
    return this.#transact(() => {
      const state: Mutable<StoreState> = { ...this.#readState() };
      rememberSent(state, sentThrough);
      const { packets, bytes, ids } = this.#apply(state, edit, atMs);
      this.#updateOldest(state);
      return { changed: packets > 0, state, result: { state, packets, bytes, ids } };
    });
  }

  #transact<T>(
    work: () => { readonly changed: boolean; readonly state: StoreState; readonly result: T },
  ): T {
    try {
      this.#begin.run([]);
    } catch (error) {
      throw toFileError(error, this.path);
    }
    try {
      const { changed, state, result } = work();
      if (changed) {
        this.#writeState(state);
        this.#commit.run([]);
      } else {
        this.#rollBack();
      }
      return result;
    } catch (error) {
      this.#rollBack();
      throw toFileError(error, this.path);
    }
  }

  #apply(
    state: Mutable<StoreState>,
    edit: Edit,
    atMs: number,
  ): PacketCount & { readonly ids: IdRange | undefined } {
    switch (edit.kind) {
      case "bury":
        return { ...this.#bury(state, edit, atMs), ids: undefined };
      case "remove-packets": {
        const count = this.#packets.excise(edit.range, state.removedThrough);
        state.packets -= count.packets;
        state.bytes -= count.bytes;
        return { ...count, ids: undefined };
      }
      case "requeue":
        return this.#requeue(state, edit, atMs);
      case "remove-dead": {
        const count = this.#deadLetters.remove(edit.range);
        state.deadPackets -= count.packets;
        state.deadBytes -= count.bytes;
        return { ...count, ids: undefined };
      }
    }
  }

  #bury(
    state: Mutable<StoreState>,
    { ranges, reason, attempts }: Extract<Edit, { kind: "bury" }>,
    atMs: number,
  ): PacketCount {
    const death = { diedAtMs: atMs, reason, attempts, sentThrough: state.sentThrough };
    let packets = 0, bytes = 0;
    for (const range of ranges) {
      const count = this.#packets.excise(
        range,
        state.removedThrough,
        (batch, enqueuedAtMs) => this.#deadLetters.add(batch, enqueuedAtMs, death),
      );
      packets += count.packets;
      bytes += count.bytes;
    }
    state.packets -= packets;
    state.bytes -= bytes;
    state.deadPackets += packets;
    state.deadBytes += bytes;
    if (reason === "expired") state.expiredPackets += packets;
    else state.gaveUpPackets += packets;
    return { packets, bytes };
  }

  #requeue(
    state: Mutable<StoreState>,
    { range, expiresAtMs }: Extract<Edit, { kind: "requeue" }>,
    atMs: number,
  ): PacketCount & { readonly ids: IdRange | undefined } {
    const span = this.#deadLetters.take(range, expiresAtMs);
    if (span === undefined) return { packets: 0, bytes: 0, ids: undefined };
    const { packets, bytes } = span;
    const firstId = state.lastId + 1;
    const packer = new BatchPacker(firstId);
    packer.add(span);
    this.#packets.insert(packer.finish(), atMs);
    state.lastId += packets;
    state.packets += packets;
    state.bytes += bytes;
    state.deadPackets -= packets;
    state.deadBytes -= bytes;
    return { packets, bytes, ids: { firstId, lastId: state.lastId } };
  }

  /** Which units fit; the rest goes into `refused`. Returns what was admitted. */
  #admit(
    state: StoreState,
    { units, maxPackets, maxBytes, overflow }: CommitRequest,
    refused: Map<number, Limit>,
  ): PacketCount {
    const admitted = { packets: 0, bytes: 0 };
    // Old packets give way, so that only the admitted ones themselves count.
    const gives = overflow === "drop-oldest";
    const heldPackets = gives ? 0 : state.packets + state.deadPackets;
    const heldBytes = gives ? 0 : state.bytes + state.deadBytes;
    let waiting: Limit | undefined;
    for (let i = 0; i < units.length; i++) {
      const { packets, bytes } = at(units, i);
      const limit = waiting ??
        (heldPackets + admitted.packets + packets > maxPackets
          ? "maxPackets"
          : heldBytes + admitted.bytes + bytes > maxBytes
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

  /** Drops what is too much: the oldest dead letters first, then the oldest packets. */
  #makeRoom(
    state: Mutable<StoreState>,
    { maxPackets, maxBytes }: CommitRequest,
    admitted: PacketCount,
  ): DroppedPackets | undefined {
    const over = (): PacketCount => ({
      packets: state.packets + state.deadPackets + admitted.packets - maxPackets,
      bytes: state.bytes + state.deadBytes + admitted.bytes - maxBytes,
    });
    const total = { packets: 0, bytes: 0, throughId: 0 };
    const count = ({ packets, bytes }: PacketCount): void => {
      total.packets += packets;
      total.bytes += bytes;
    };
    if (state.deadPackets > 0) {
      const letters = this.#deadLetters.dropOldest(over());
      state.deadPackets -= letters.packets;
      state.deadBytes -= letters.bytes;
      count(letters);
    }
    for (;;) {
      const excess = over();
      if (state.packets === 0 || (excess.packets <= 0 && excess.bytes <= 0)) break;
      const throughId = this.#packets.idToDrop(state.removedThrough, excess);
      const removed = this.#remove(state, throughId);
      if (removed.packets === 0) break; // The counts promised a packet that is not there.
      count(removed);
      total.throughId = throughId;
    }
    state.droppedPackets += total.packets;
    state.droppedBytes += total.bytes;
    return total.packets === 0 ? undefined : total;
  }

  #remove(state: Mutable<StoreState>, throughId: number): PacketCount {
    const through = Math.min(throughId, state.lastId);
    const count = this.#packets.removeThrough(state.removedThrough, through);
    state.removedThrough = Math.max(state.removedThrough, through);
    state.packets -= count.packets;
    state.bytes -= count.bytes;
    return count;
  }

  #store(
    state: Mutable<StoreState>,
    { units, enqueuedAtMs }: CommitRequest,
    refused: ReadonlyMap<number, Limit>,
  ): PacketBatch[] {
    const packer = new BatchPacker(state.lastId + 1);
    for (let i = 0; i < units.length; i++) {
      if (refused.size > 0 && refused.has(i)) continue;
      const unit = at(units, i);
      packer.add(unit);
      state.packets += unit.packets;
      state.bytes += unit.bytes;
      state.lastId += unit.packets;
    }
    const batches = packer.finish();
    this.#packets.insert(batches, enqueuedAtMs);
    return batches;
  }

  /**
   * The packets that follow `afterId`, in order, up to `maxBytes` in all; at
   * least one when there is one. When a page in that range cannot be read, the
   * batches before it still come, one at a time.
   *
   * @throws {QueueFileError}
   */
  read(afterId: number, maxBytes: number): PacketBatch[] {
    return this.#read(() => {
      const { removedThrough } = this.#readState();
      return this.#packets.read(Math.max(afterId, removedThrough), maxBytes);
    });
  }

  /**
   * Which packets above `afterId` have expired, and when the next one will.
   *
   * @throws {QueueFileError}
   */
  due(afterId: number, nowMs: number, order: "by-id" | "by-time"): Due {
    return this.#read(() => {
      const { removedThrough } = this.#readState();
      return this.#packets.due(Math.max(afterId, removedThrough), nowMs, order);
    });
  }

  /**
   * The dead letters with ids above `afterId`, in order, up to `maxBytes` in all;
   * at least one when there is one.
   *
   * @throws {QueueFileError}
   */
  deadLetters(afterId: number, maxBytes: number): DeadLetter[] {
    return this.#read(() => this.#deadLetters.read(afterId, maxBytes));
  }

  /**
   * The file's counts, as last committed by anybody.
   *
   * @throws {QueueFileError}
   */
  state(): StoreState {
    return this.#read(() => {
      const state = this.#readState();
      const oldest = this.#packets.oldest(state.removedThrough);
      return { ...state, oldestEnqueuedAtMs: oldest?.enqueuedAtMs };
    });
  }

  /**
   * A number that changes when another connection has committed; costs a few
   * microseconds.
   *
   * @throws {QueueFileError}
   */
  dataVersion(): number {
    return this.#read(() => Number(this.#dataVersion.all([])[0]?.[0]));
  }

  /**
   * How large the file is, in pages.
   *
   * @throws {QueueFileError}
   */
  space(): FileSpace {
    return this.#read(() => ({
      pages: this.#pragmaNumber("page_count"),
      freePages: this.#pragmaNumber("freelist_count"),
    }));
  }

  /**
   * Gives up to `pages` free pages back, in a transaction of its own.
   *
   * @throws {QueueFileError}
   */
  vacuumStep(pages: number): FileSpace {
    // all(), because a single step frees a single page.
    this.#read(() => this.#database.prepare(`PRAGMA incremental_vacuum(${pages})`).all([]));
    return this.space();
  }

  /**
   * Moves the log into the file, so that the file shrinks to what it holds.
   * Does what it can when others are reading.
   *
   * @throws {QueueFileError}
   */
  checkpoint(): void {
    this.#read(() => this.#database.prepare("PRAGMA wal_checkpoint(TRUNCATE)").all([]));
  }

  /** Closes the file. */
  close(): void {
    this.#database.close();
  }

  /** Something that is no transaction of ours. */
  #read<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw toFileError(error, this.path);
    }
  }

  #pragmaNumber(name: string): number {
    return Number(this.#database.prepare(`PRAGMA ${name}`).all([])[0]?.[0]);
  }

  #readState(): StoreState {
    const row = this.#selectState.all([])[0];
    // The schema and this row were made in one transaction: sendq never removes it.
    if (row === undefined) throw new SqliteError(SqliteCode.CORRUPT, "the state row is missing");
    return {
      packets: Number(row[0]),
      bytes: Number(row[1]),
      lastId: Number(row[2]),
      removedThrough: Number(row[3]),
      sentThrough: Number(row[4]),
      droppedPackets: Number(row[5]),
      droppedBytes: Number(row[6]),
      deadPackets: Number(row[7]),
      deadBytes: Number(row[8]),
      expiredPackets: Number(row[9]),
      gaveUpPackets: Number(row[10]),
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
      state.deadPackets,
      state.deadBytes,
      state.expiredPackets,
      state.gaveUpPackets,
    ]);
  }

  /** A hole before the oldest packet counts as removed. */
  #updateOldest(state: Mutable<StoreState>): void {
    const oldest = this.#packets.oldest(state.removedThrough);
    state.oldestEnqueuedAtMs = oldest?.enqueuedAtMs;
    state.removedThrough = oldest === undefined ? state.lastId : oldest.id - 1;
  }

  #rollBack(): void {
    try {
      this.#rollback.run([]);
    } catch {
      // SQLite has rolled back by itself, as it does when the disk is full.
    }
  }
}

function rememberSent(state: Mutable<StoreState>, sentThrough: number): void {
  state.sentThrough = Math.max(state.sentThrough, Math.min(sentThrough, state.lastId));
}

function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no item at ${index}`);
  return item;
}
