/**
 * The queue's file as a set of operations, each of them one transaction; `contract.ts` says what
 * each does. All of it is synchronous.
 */

import { packetsOf } from "../../base/packet_batch.ts";
import type { PacketBatch } from "../../base/ports.ts";
import { PAGE_BYTES } from "../sqlite/disk_space.ts";
import type { SqliteDatabase } from "../sqlite/driver.ts";
import { BatchPacker } from "./batches.ts";
import type {
  CommitRequest,
  CommitResult,
  DeadLimits,
  Edit,
  Edited,
  EditRequest,
  EditResult,
  FileSpace,
  FileStore,
  Limit,
  ReadResult,
  StoreReads,
  StoreState,
  TransactionRequest,
  TransactionResult,
} from "./contract.ts";
import { DatabaseFile } from "./database_file.ts";
import { DeadLetterTable } from "./dead_letter_table.ts";
import { edgeIdIn, writeEdgeId } from "./edge_table.ts";
import { type IdWindow, WHOLE_FILE } from "./id_window.ts";
import { LETTER_BYTES_BESIDE, PacketTable } from "./packet_table.ts";
import { DamagedRowError } from "./row.ts";
import { type OpenFileOptions, openQueueFile } from "./schema.ts";
import { checkCounts, ContradictionError, type Counts, StateTable } from "./state_table.ts";
import {
  checkRemoved,
  commitError,
  countDropped,
  type Draft,
  fileError,
  keepTime,
  refuseGoneBack,
  rememberSent,
} from "./transaction.ts";
import { FileTransactions, type Transactions } from "./transactions.ts";
import type { DeadLetter, Due, PacketCount } from "./types.ts";

/** Of older letters: the pages that one needs beside its bytes. */
const MAKE_WAY_BYTES = 3 * PAGE_BYTES;
const NOTHING: Edited = { packets: 0, bytes: 0, ids: undefined, damagedPackets: 0 };

export interface OpenStoreOptions extends Omit<OpenFileOptions, "examine" | "kind"> {
  /** Monotonic milliseconds, for `SqliteStore.lastCommitMs`. */
  readonly nowMs?: () => number;
}

export interface StoreParts {
  /** For the words of errors. */
  readonly path: string;
  readonly database: SqliteDatabase;
  readonly file: DatabaseFile;
  readonly transactions: Transactions;
  readonly window: IdWindow;
}

export class SqliteStore implements Omit<FileStore, "sync">, StoreReads {
  readonly reads: StoreReads = this;
  /** The file's path without symbolic links; of a queue in a spool with the queue's name. */
  readonly path: string;
  readonly file: DatabaseFile;
  readonly #database: SqliteDatabase;
  readonly #transactions: Transactions;
  readonly #packets: PacketTable;
  readonly #deadLetters: DeadLetterTable;
  readonly #counts: StateTable;

  constructor({ path, database, file, transactions, window }: StoreParts) {
    this.path = path;
    this.file = file;
    this.#database = database;
    this.#transactions = transactions;
    this.#packets = new PacketTable(database, window);
    this.#deadLetters = new DeadLetterTable(database, window);
    this.#counts = new StateTable(database, window);
  }

  /**
   * Opens a file of one queue, or makes one.
   *
   * @throws {QueueFileError}
   * @throws {Deno.errors.NotCapable} With the flags to add.
   */
  static open(path: string, options: OpenStoreOptions): SqliteStore {
    const { driver, nowMs = () => 0 } = options;
    const storeOf = (database: SqliteDatabase, path: string): SqliteStore => {
      const file = new DatabaseFile(database, path);
      const transactions = new FileTransactions(file, { driver, nowMs });
      return new SqliteStore({ path, database, file, transactions, window: WHOLE_FILE });
    };
    const { database, path: realPath } = openQueueFile(path, {
      ...options,
      examine: (database, path) => storeOf(database, path).examine(),
    });
    try {
      const store = storeOf(database, realPath);
      store.examine();
      return store;
    } catch (error) {
      database.close();
      throw fileError(error, path);
    }
  }

  get lastCommitMs(): number {
    return this.#transactions.lastCommitMs;
  }

  /**
   * Sees to it that the counts can be true.
   *
   * @throws {QueueFileError} The file contradicts itself.
   */
  examine(): void {
    this.state();
    this.#read(() => this.#counts.checkSize());
  }

  commit(request: CommitRequest): CommitResult {
    return this.#transact(request, (draft) => {
      const { counts } = draft;
      const before = { ...counts };
      const removed = this.#remove(counts, request.removeThrough);
      const { removeThrough, handedOut } = request;
      // What was set aside just now was perhaps handed out before.
      const expected = draft.setAside.length === 0 ? handedOut : undefined;
      checkRemoved(before, removed, { removeThrough, handedOut: expected });
      const refused = new Map<number, Limit>();
      const admitted = this.#admit(counts, request, refused);
      if (request.overflow === "drop-oldest") this.#makeRoom(draft, request, admitted);
      if (draft.dropped.packets > 0) draft.writesState = true;
      const batches = this.#store(draft, request, refused);
      if (batches.length === 0) draft.writesState = true;
      // Nothing to write: spare the disk a sync.
      const changed = batches.length > 0 || counts.removedThrough !== before.removedThrough;
      return { changed, result: { batches, refused } };
    });
  }

  edit(request: EditRequest): EditResult {
    return this.#transact(request, (draft) => {
      draft.writesState = true;
      const done = this.#apply(draft, request.edit, request.at.wallMs);
      const result = { ...NOTHING, ...done };
      return { changed: result.packets > 0, result };
    });
  }

  /**
   * Runs one transaction. A damaged row that is in its way is set aside first, in the
   * same transaction, and the work begins anew.
   */
  #transact<T>(
    { at, deadLimits, sentThrough, makesWay, lastIdAtLeast = 0 }: TransactionRequest,
    work: (draft: Draft) => { readonly changed: boolean; readonly result: T },
  ): T & TransactionResult {
    const damagedIds: number[] = [];
    for (;;) {
      let committing = false;
      try {
        this.#transactions.begin();
        const counts = this.#counts.read();
        refuseGoneBack(counts, lastIdAtLeast, this.path);
        const draft: Draft = {
          counts,
          writesState: false,
          dropped: { packets: 0, bytes: 0, throughId: 0 },
          setAside: [],
          oldestAtMs: undefined,
          ...{ storedBytes: 0, buriedBytes: 0, makesWay },
        };
        const sentMoved = rememberSent(counts, sentThrough);
        const timeMoved = keepTime(draft, at);
        for (const id of damagedIds) this.#setAside(draft, id, at.wallMs);
        const { changed, result } = work(draft);
        this.#boundDead(draft, deadLimits);
        const oldestEnqueuedAtMs = draft.oldestAtMs ?? this.#countUpToOldest(counts);
        checkCounts(counts);
        const { dropped, setAside } = draft;
        if (changed || sentMoved || timeMoved || setAside.length > 0 || dropped.packets > 0) {
          if (draft.writesState) this.#counts.write(counts);
          this.#transactions.checkRoom(draft.storedBytes, draft.buriedBytes);
          committing = true;
          this.#transactions.commit();
        } else {
          this.#transactions.rollBack();
        }
        const state = { ...counts, oldestEnqueuedAtMs };
        const some = dropped.packets > 0 ? dropped : undefined;
        return { ...result, state, setAside, dropped: some };
      } catch (error) {
        this.#transactions.rollBack();
        const isNew = error instanceof DamagedRowError && !damagedIds.includes(error.lastId);
        if (!isNew) throw committing ? commitError(error, this.path) : fileError(error, this.path);
        damagedIds.push(error.lastId);
      }
    }
  }

  #apply(draft: Draft, edit: Edit, wallMs: number): PacketCount | Edited {
    const { counts } = draft;
    switch (edit.kind) {
      case "bury":
        return this.#bury(draft, edit, wallMs);
      case "set-aside":
        this.#setAside(draft, edit.lastId, wallMs);
        return NOTHING;
      case "remove-packets": {
        const count = this.#packets.excise(edit.range, counts.removedThrough);
        countPackets(counts, -1, count);
        return count;
      }
      case "requeue":
        return this.#requeue(draft, edit, wallMs);
      case "remove-dead": {
        const count = this.#deadLetters.remove(edit.range);
        countDead(counts, -1, count);
        return count;
      }
      case "keep-time":
        return NOTHING;
    }
  }

  #bury(
    draft: Draft,
    { ranges, reason, attempts, words }: Extract<Edit, { kind: "bury" }>,
    diedAtMs: number,
  ): PacketCount {
    const { counts, dropped, makesWay } = draft;
    const death = { diedAtMs, reason, attempts, words, sentThrough: counts.sentThrough };
    const taken: (readonly [batch: PacketBatch, enqueuedAtMs: number])[] = [];
    let packets = 0, bytes = 0;
    for (const range of ranges) {
      const count = this.#packets.excise(
        range,
        counts.removedThrough,
        (...row) => taken.push(row),
      );
      packets += count.packets;
      bytes += count.bytes;
    }
    countPackets(counts, -1, { packets, bytes });
    // Rows are of different sizes, pages are not full, and only empty ones are free.
    if (makesWay === "oldest") {
      const over = { packets, bytes: 2 * bytes + MAKE_WAY_BYTES };
      this.#dropDead(draft, over, LETTER_BYTES_BESIDE);
    }
    if (makesWay === "these") countDropped(counts, dropped, { packets, bytes });
    else {
      for (const [batch, atMs] of taken) this.#deadLetters.add(packetsOf([batch]), atMs, death);
      countDead(counts, 1, { packets, bytes });
      draft.buriedBytes += bytes + LETTER_BYTES_BESIDE * packets;
    }
    if (reason === "expired") counts.expiredPackets += packets;
    else if (reason === "refused") counts.refusedPackets += packets;
    else counts.gaveUpPackets += packets;
    return { packets, bytes };
  }

  /**
   * Makes dead letters of a row that is not as it was stored. What it says of itself
   * cannot be trusted, so that everything is counted anew.
   */
  #setAside(draft: Draft, lastId: number, diedAtMs: number): void {
    const { counts, makesWay } = draft;
    if (lastId <= counts.removedThrough) return;
    const { sentThrough } = counts;
    const death = { diedAtMs, reason: "damaged" as const, attempts: 0, sentThrough };
    let firstId = lastId, packets = 0, bytes = 0;
    const left = this.#packets.takeDamaged(lastId, counts, (packet, enqueuedAtMs) => {
      firstId = Math.min(firstId, packet.id);
      packets++;
      bytes += packet.payload.length;
      if (makesWay === undefined) this.#deadLetters.add([packet], enqueuedAtMs, death);
    });
    if (left === undefined) return;
    draft.writesState = true;
    const letters = this.#deadLetters.measure();
    if (makesWay !== undefined) countDropped(counts, draft.dropped, { packets, bytes });
    else {
      packets = letters.packets - counts.deadPackets;
      bytes = letters.bytes - counts.deadBytes;
      draft.buriedBytes += bytes + LETTER_BYTES_BESIDE * packets;
    }
    draft.setAside.push({ packets, bytes, ids: { firstId, lastId } });
    counts.damagedPackets += packets;
    counts.deadPackets = letters.packets;
    counts.deadBytes = letters.bytes;
    counts.packets = left.packets;
    counts.bytes = left.bytes;
  }

  #requeue(
    draft: Draft,
    { range, expiresAtMs }: Extract<Edit, { kind: "requeue" }>,
    atMs: number,
  ): Edited {
    const { counts } = draft;
    const { span, damagedPackets } = this.#deadLetters.take(range, expiresAtMs);
    if (span === undefined) return { ...NOTHING, damagedPackets };
    const { packets, bytes } = span;
    draft.storedBytes += bytes;
    const firstId = counts.lastId + 1;
    const packer = new BatchPacker(firstId);
    packer.add(span);
    this.#countUpToOldest(counts);
    this.#packets.insert(packer.finish(), atMs, counts);
    countDead(counts, -1, span);
    return { packets, bytes, ids: { firstId, lastId: counts.lastId }, damagedPackets };
  }

  /** Which units fit; the rest goes into `refused`. Returns what was admitted. */
  #admit(
    counts: Counts,
    { units, maxPackets, maxBytes, overflow }: CommitRequest,
    refused: Map<number, Limit>,
  ): PacketCount {
    const admitted = { packets: 0, bytes: 0 };
    // Old packets give way, so that only the admitted ones themselves count.
    const gives = overflow === "drop-oldest";
    const heldPackets = gives ? 0 : counts.packets;
    const heldBytes = gives ? 0 : counts.bytes;
    let waiting: Limit | undefined;
    for (let i = 0; i < units.length; i++) {
      const { packets, bytes } = itemAt(units, i);
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

  #makeRoom(
    { counts, dropped }: Draft,
    { maxPackets, maxBytes }: CommitRequest,
    admitted: PacketCount,
  ): void {
    for (;;) {
      const over = {
        packets: counts.packets + admitted.packets - maxPackets,
        bytes: counts.bytes + admitted.bytes - maxBytes,
      };
      if (counts.packets === 0 || (over.packets <= 0 && over.bytes <= 0)) return;
      const throughId = this.#packets.idToDrop(counts.removedThrough, over);
      const removed = this.#remove(counts, throughId);
      if (removed.packets === 0) {
        throw new ContradictionError(`it counts ${counts.packets} packets, and none is found`);
      }
      dropped.throughId = throughId;
      countDropped(counts, dropped, removed);
    }
  }

  #boundDead(draft: Draft, { maxDeadPackets, maxDeadBytes }: DeadLimits): void {
    const { deadPackets, deadBytes } = draft.counts;
    const over = { packets: deadPackets - maxDeadPackets, bytes: deadBytes - maxDeadBytes };
    if (over.packets <= 0 && over.bytes <= 0) return;
    this.#dropDead(draft, over);
    draft.writesState = true;
  }

  #dropDead({ counts, dropped }: Draft, over: PacketCount, bytesBeside?: number): void {
    const letters = this.#deadLetters.dropOldest(over, bytesBeside);
    countDead(counts, -1, letters);
    countDropped(counts, dropped, letters);
  }

  #remove(counts: Counts, throughId: number): PacketCount {
    const through = Math.min(throughId, counts.lastId);
    const count = this.#packets.removeThrough(counts.removedThrough, through);
    counts.removedThrough = Math.max(counts.removedThrough, through);
    countPackets(counts, -1, count);
    return count;
  }

  #store(
    draft: Draft,
    { units, at }: CommitRequest,
    refused: ReadonlyMap<number, Limit>,
  ): PacketBatch[] {
    const { counts } = draft;
    const packer = new BatchPacker(counts.lastId + 1);
    for (let i = 0; i < units.length; i++) {
      if (refused.size > 0 && refused.has(i)) continue;
      packer.add(itemAt(units, i));
    }
    const batches = packer.finish();
    // Each row says what the counts are after it.
    if (batches.length > 0) draft.oldestAtMs = this.#countUpToOldest(counts) ?? at.wallMs;
    for (const { bytes } of batches) draft.storedBytes += bytes.length;
    this.#packets.insert(batches, at.wallMs, counts);
    return batches;
  }

  read(afterId: number, maxBytes: number): ReadResult {
    return this.#read(() => {
      const { removedThrough } = this.#counts.read();
      return this.#packets.read(Math.max(afterId, removedThrough), maxBytes);
    });
  }

  due(afterId: number, nowMs: number, order: "by-id" | "by-time"): Due {
    return this.#read(() => {
      const { removedThrough } = this.#counts.read();
      const { buryBytes } = this.#transactions;
      return this.#packets.due(Math.max(afterId, removedThrough), nowMs, order, buryBytes);
    });
  }

  deadLetters(afterId: number, maxBytes: number): DeadLetter[] {
    return this.#guard(() => this.#deadLetters.read(afterId, maxBytes));
  }

  state(): StoreState {
    return this.#read(() => {
      const counts = this.#counts.read();
      const oldest = this.#packets.oldest(counts.removedThrough);
      return { ...counts, oldestEnqueuedAtMs: oldest?.enqueuedAtMs };
    });
  }

  edgeId(): string | undefined {
    return this.#read(() => edgeIdIn(this.#database, this.path));
  }

  setEdgeId(id: string): void {
    let committing = false;
    try {
      this.#transactions.begin();
      writeEdgeId(this.#database, this.path, id);
      committing = true;
      this.#transactions.commit();
    } catch (error) {
      this.#transactions.rollBack();
      throw committing ? commitError(error, this.path) : fileError(error, this.path);
    }
  }

  enqueuedAtMs(id: number): number | undefined {
    return this.#read(() =>
      id > this.#counts.read().removedThrough ? this.#packets.enqueuedAtMs(id) : undefined
    );
  }

  dataVersion(): number {
    return this.file.dataVersion();
  }

  space(): FileSpace {
    return this.file.space();
  }

  vacuumStep(pages: number): FileSpace {
    return this.file.vacuumStep(pages);
  }

  checkpoint(): boolean {
    return this.file.moveLog();
  }

  close(): void {
    this.#database.close();
  }

  /** Reads one state of the file, whatever other processes commit meanwhile. */
  #read<T>(work: () => T): T {
    return this.#guard(() => {
      this.#transactions.beginRead();
      try {
        return work();
      } finally {
        this.#transactions.rollBack();
      }
    });
  }

  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw fileError(error, this.path);
    }
  }

  /**
   * Ids that are missing before the oldest packet count as removed.
   *
   * @returns When the oldest packet was stored; `undefined`: there is none.
   */
  #countUpToOldest(counts: Counts): number | undefined {
    const oldest = this.#packets.oldest(counts.removedThrough);
    counts.removedThrough = oldest === undefined ? counts.lastId : oldest.id - 1;
    return oldest?.enqueuedAtMs;
  }
}

function countPackets(counts: Counts, sign: 1 | -1, { packets, bytes }: PacketCount): void {
  counts.packets += sign * packets;
  counts.bytes += sign * bytes;
}

function countDead(counts: Counts, sign: 1 | -1, { packets, bytes }: PacketCount): void {
  counts.deadPackets += sign * packets;
  counts.deadBytes += sign * bytes;
}

function itemAt<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no item at ${index}`);
  return item;
}
