/**
 * The outbound queue: packets on disk, in order, until somebody says that they
 * have arrived.
 *
 * Invariants:
 *
 * 1. An `enqueue` resolves only after the COMMIT that covers its packet has
 *    returned; when it rejects, nothing of it is stored, unless the error says that
 *    this is not known (`QueueFileError.outcome`).
 * 2. Ids grow by one with each packet stored, in the order of the calls within a process, and are
 *    never used again.
 * 3. A packet leaves the queue only by `removeThrough` or `removePackets`, by overflow
 *    `"drop-oldest"`, or as a dead letter: when it has expired, by `giveUp` or `refuse`, or when it
 *    is damaged. That stays in the file until `requeue` or `removeDeadLetters`, or until there is no
 *    room for all. What goes for want of room is counted and reported. Each removal and
 *    each move resolves after its COMMIT has returned, and leaves a packet in one place or the other.
 * 4. `enqueueMany` is one transaction: all of it or nothing.
 * 5. One transaction at a time. Packets that arrive meanwhile share the next
 *    one, up to a bound that keeps the event loop responsive. Changes in the
 *    middle have transactions of their own, with the same bound where packets are moved.
 * 6. A transaction that fails rejects what it covered and nothing else; the
 *    next one starts from a clean file.
 * 7. A removal by its sender removes what `readBatches` has given out, to the packet and the byte,
 *    or nothing: what contradicts itself in the file stops it.
 * 8. Counts and `lastId` are what some COMMIT has written, never a guess; other
 *    processes' commits show after `pollOtherProcesses` or our next commit.
 * 9. Nothing but SQLite opens the database file.
 * 10. `readBatches(afterId)` gives the sender packets and takes everything above `afterId` back.
 *     What it has does not expire, and what has expired is not given to it. The ids of what it
 *     gets ascend, but need not follow each other.
 */

import {
  ClosedError,
  messageOf,
  PacketSizeError,
  QueueFileError,
  QueueFullError,
} from "../base/errors.ts";
import { QUEUE_OPTIONS } from "../base/option_table.ts";
import { checkOption } from "../base/options.ts";
import { packetsOf } from "../base/packet_batch.ts";
import type { StoredPacket } from "../base/ports.ts";
import { Committer } from "./commit/committer.ts";
import { PendingEnqueue } from "./commit/pending_enqueues.ts";
import { FilePlace } from "./file_place.ts";
import { committerEvents, QueueListeners, Storing } from "./listeners.ts";
import {
  checkEnqueueOptions,
  checkIdRange,
  checkQueueOptions,
  checkRequeueOptions,
  type DeadPackets,
  type EnqueueOptions,
  type IdRange,
  type PacketCount,
  type QueueOptions,
  type QueueStats,
  type RequeuedPackets,
  type RequeueOptions,
  resolveQueueOptions,
} from "./options.ts";
import type { QueuePlace } from "./place.ts";
import type { ExpiringQueue } from "./read/expiry.ts";
import { PacketReader } from "./read/packet_reader.ts";
import { PassingTime, QueueTime } from "./read/queue_time.ts";
import { SendingSide } from "./sending_side.ts";
import { onceNotBusy } from "./sqlite/busy.ts";
import { queueFileError } from "./sqlite/file_error.ts";
import { Arena } from "./store/batches.ts";
import type { QueueStore, ReadResult, StoreState } from "./store/contract.ts";
import { keptCountsOf } from "./store/state_table.ts";
import type { DeadLetter, DroppedPackets } from "./store/types.ts";

const encoder = new TextEncoder();

function bytesOf(packet: Uint8Array | string): Uint8Array {
  return typeof packet === "string" ? encoder.encode(packet) : packet;
}

function neverFits(what: string, limit: string): string {
  return `Also an empty one has no room for ${what} at once: raise ${limit}, or store less at a time.`;
}

/** Earlier transactions of the same call stand. */
function halfway(cause: unknown, packets: number): unknown {
  const words = `${packets} were put back. Of the rest: ${messageOf(cause)}`;
  if (cause instanceof ClosedError) return new ClosedError(words, { cause });
  if (!(cause instanceof QueueFileError)) return cause;
  const { reason, path, outcome } = cause;
  return new QueueFileError(reason, path, words, { cause, outcome });
}

/**
 * The side of a queue that its sender has. Not a method: who holds a queue shall see what they
 * may call.
 */
export let sendingSideOf: (queue: OutboundQueue) => SendingSide;

/** Makes the queue of an open place, which is closed with it. */
export let queueAt: (
  place: QueuePlace,
  options: Required<QueueOptions>,
) => Promise<OutboundQueue>;

/**
 * A durable first-in first-out queue of packets in one SQLite file. Several
 * processes may enqueue into the same file; one of them sends from it.
 *
 * @category Queue
 * @example Store a packet, read it back, remove it
 * ```ts
 * import { OutboundQueue } from "@sendq/sendq";
 *
 * const path = `${await Deno.makeTempDir()}/outbox.db`;
 * await using queue = await OutboundQueue.open(path);
 * const id = await queue.enqueue("hello\n");
 * // Here the packet is on disk.
 * const [packet] = await queue.read(id - 1, 65536);
 * console.log(packet?.payload.length); // 6
 * await queue.removePackets({ firstId: id, lastId: id });
 * ```
 */
export class OutboundQueue implements AsyncDisposable {
  static {
    sendingSideOf = (queue) => queue.#sendingSide;
    queueAt = (place, options) => OutboundQueue.#of(place, options);
  }

  /** The file's path without symbolic links. */
  readonly path: string;

  readonly #place: QueuePlace;
  readonly #store: QueueStore;
  readonly #options: Required<QueueOptions>;
  readonly #committer: Committer;
  readonly #time: QueueTime;
  readonly #reader: PacketReader;
  readonly #arena: Arena;
  readonly #storing: Storing;
  readonly #listeners = new QueueListeners();
  readonly #sendingSide: SendingSide;
  #closing: Promise<void> | undefined;

  private constructor(
    place: QueuePlace,
    options: Required<QueueOptions>,
    state: StoreState,
    dataVersion: number,
  ) {
    const { store } = place;
    this.path = store.path;
    this.#place = place;
    this.#store = store;
    this.#options = options;
    this.#arena = new Arena(() => options.clock.nowMs());
    this.#time = place.keepsTime === true
      ? new PassingTime(options.clock)
      : new QueueTime(options.clock, state);
    this.#reader = new PacketReader(store.reads, state, this.#graves(), options.clock, this.#time);
    this.#storing = new Storing(
      options.clock,
      (failure) => this.#listeners.storing.call(failure),
    );
    const events = committerEvents({
      reader: this.#reader,
      time: this.#time,
      listeners: this.#listeners,
      storing: this.#storing,
      ring: () => this.#ring(),
    });
    this.#committer = new Committer(store, options, { state, dataVersion }, events);
    this.#sendingSide = new SendingSide({
      place,
      committer: this.#committer,
      reader: this.#reader,
      time: this.#time,
      listeners: this.#listeners,
      isClosed: () => this.#closing !== undefined,
      read: (afterId, maxBytes) => this.#read(afterId, maxBytes, true),
      close: (reason) => this.#closeOnce(reason),
    });
  }

  /**
   * Opens the queue at `path`; makes it (mode 0600) where there is no file or an
   * empty one.
   *
   * Needs `--allow-read` and `--allow-write` for `path` and `path.lock`, and of use is
   * `--allow-read` for `path-wal`; see {@linkcode QueueOptions.syncIn}.
   *
   * @param path The file, on a local filesystem.
   * @param options See {@linkcode QueueOptions}.
   * @throws {OptionError} An option is out of range.
   * @throws {QueueFileError} The file is not a queue, is damaged, cannot be
   *   written or stayed locked; it was left as it is.
   * @throws {Deno.errors.NotCapable} A permission is missing; says which flags to add.
   */
  static async open(path: string, options: QueueOptions = {}): Promise<OutboundQueue> {
    checkQueueOptions(options);
    const resolved = resolveQueueOptions(options);
    if (typeof path !== "string") {
      throw new TypeError("path must be text: fromFileUrl() of @std/path makes it of a URL");
    }
    if (path === "" || path === ":memory:" || path.includes("\0")) {
      throw new RangeError(`path must name a file, got ${JSON.stringify(path)}`);
    }
    // Else a file of this name would be made, and nobody would find the packets.
    const [, entry] = /^(spool|postgres)(?:ql)?:/.exec(path) ?? [];
    if (entry !== undefined) {
      throw new RangeError(
        `path must name a file: ${entry}Queue() of @sendq/sendq/${entry} opens such a queue`,
      );
    }
    return await onceNotBusy(
      resolved.clock,
      resolved.busyTimeoutMs,
      async () => await OutboundQueue.#of(await FilePlace.open(path, resolved), resolved),
    );
  }

  static async #of(place: QueuePlace, options: Required<QueueOptions>): Promise<OutboundQueue> {
    const { store } = place;
    try {
      // The version first: what another process commits in between is then noticed.
      const dataVersion = await store.reads.dataVersion();
      return new OutboundQueue(place, options, await store.reads.state(), dataVersion);
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  /** How full it may get. */
  get limits(): { readonly maxPackets: number; readonly maxBytes: number } {
    return this.#committer.bounds;
  }

  /**
   * What a packet survives once `enqueue` has resolved, as the end of a sentence: `"a power cut
   * of this machine, but not the loss of its disk"`.
   */
  get survives(): string {
    return this.#place.survives;
  }

  /** The highest id known to be on disk; 0 when there never was one. */
  get lastId(): number {
    return this.#committer.state.lastId;
  }

  /** Every id up to this one has left the queue, the next one has not; 0 when none ever did. */
  get removedThroughId(): number {
    return this.#committer.state.removedThrough;
  }

  /**
   * Stores a packet. The bytes are copied at once: the caller may reuse its
   * buffer as soon as this has returned its promise.
   *
   * @param packet At least 1 byte. A string is stored as UTF-8; half of a surrogate
   *   pair becomes U+FFFD.
   * @param options `signal`: gives up while the packet is not stored yet. `ttlMs`:
   *   how long it is worth sending.
   * @returns The packet's id, once the packet is on disk.
   * @throws {RangeError} `ttlMs` is out of range.
   * @throws {PacketSizeError} It is empty or larger than `maxPacketBytes`.
   * @throws {QueueFullError} There is no room and `overflow` is `"reject"`, or
   *   the packet is larger than the whole queue may be, or it is `"drop-oldest"` and newer
   *   packets have taken its place before it could be stored.
   * @throws {QueueFileError} The file could not be written; its `outcome` says whether
   *   anything may be stored.
   * @throws {ClosedError} The queue is closed.
   */
  enqueue(packet: Uint8Array | string, options?: EnqueueOptions): Promise<number> {
    try {
      this.#checkOpen(options?.signal);
      checkEnqueueOptions(options);
      const payload = bytesOf(packet);
      const bytes = this.#checkSize(payload);
      this.#checkRoom(1, bytes);
      const expiresAtMs = this.#expiryOf(options?.ttlMs ?? this.#options.ttlMs);
      const start = this.#arena.copy(payload);
      const unit = new PendingEnqueue(this.#arena.block, start, bytes, expiresAtMs);
      return this.#committer.store(unit, options?.signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Stores packets in one transaction: all of them or none. The transaction is
   * not split, so a very large array blocks the event loop for as long as its
   * writing takes (roughly 1 to 2 ms per 1000 small packets).
   *
   * @param packets In order; at least one. Strings are stored as UTF-8.
   * @param options As for {@linkcode OutboundQueue.enqueue}, of all of them together.
   * @returns Their ids, which follow each other, once all are on disk.
   * @throws {RangeError} No packet was given; and whatever `enqueue` throws.
   */
  async enqueueMany(
    packets: readonly (Uint8Array | string)[],
    options?: EnqueueOptions,
  ): Promise<IdRange> {
    // An iterator has methods of an array, too, and is empty once it was counted.
    if (!Array.isArray(packets)) {
      throw new TypeError("packets must be an array: make one of an iterator with [...packets]");
    }
    const count = packets.length;
    if (count === 0) throw new RangeError("enqueueMany needs at least one packet");
    this.#checkOpen(options?.signal);
    checkEnqueueOptions(options);
    const payloads = packets.map(bytesOf);
    const sizes = Uint32Array.from(payloads, (payload) => this.#checkSize(payload));
    let bytes = 0;
    for (const size of sizes) bytes += size;
    this.#checkRoom(count, bytes);
    const expiresAtMs = this.#expiryOf(options?.ttlMs ?? this.#options.ttlMs);
    const start = this.#arena.copyAll(payloads, bytes);
    const unit = new PendingEnqueue(this.#arena.block, start, bytes, expiresAtMs, sizes);
    const firstId = await this.#committer.store(unit, options?.signal);
    return { firstId, lastId: firstId + count - 1 };
  }

  #checkOpen(signal: AbortSignal | undefined): void {
    this.#sendingSide.assertOpen();
    signal?.throwIfAborted();
  }

  #expiryOf(ttlMs: number): number {
    if (ttlMs === Infinity) return Infinity;
    checkOption("ttlMs", QUEUE_OPTIONS.ttlMs, ttlMs);
    return Math.min(Math.floor(this.#time.nowMs()) + ttlMs, Number.MAX_SAFE_INTEGER);
  }

  #checkSize(payload: Uint8Array): number {
    if (!(payload instanceof Uint8Array)) {
      throw new TypeError("A packet must be a string or a Uint8Array: wrap an ArrayBuffer in one");
    }
    const { maxPacketBytes } = this.#options;
    if (payload.length === 0 || payload.length > maxPacketBytes) {
      throw new PacketSizeError(payload.length, maxPacketBytes);
    }
    return payload.length;
  }

  /**
   * What can never fit is refused at once. With `"reject"` no more may pile up in
   * memory than the queue may hold, either. The committer bounds what waits with `"drop-oldest"`;
   * with `"wait"` callers are held back by their promises alone.
   */
  #checkRoom(packets: number, bytes: number): void {
    const { maxPackets, maxBytes } = this.#committer.bounds;
    if (packets > maxPackets) {
      const advice = neverFits(`${packets} packets`, "maxPackets");
      throw new QueueFullError("maxPackets", maxPackets, advice);
    }
    if (bytes > maxBytes) {
      throw new QueueFullError("maxBytes", maxBytes, neverFits(`${bytes} bytes`, "maxBytes"));
    }
    if (this.#options.overflow !== "reject") return;
    const { waitingPackets, waitingBytes } = this.#committer;
    if (waitingPackets + packets > maxPackets) throw new QueueFullError("maxPackets", maxPackets);
    if (waitingBytes + bytes > maxBytes) throw new QueueFullError("maxBytes", maxBytes);
  }

  /**
   * Reads the packets that follow `afterId`, in order: from memory where this
   * process has just stored them, else from the file. Anybody may look, also
   * while a sender runs; packets that have expired are among them until the
   * sender makes dead letters of them.
   *
   * @param afterId Ids greater than this one.
   * @param maxBytes Stops before the sum of payloads exceeds this, but gives at
   *   least one packet when there is one.
   * @throws {QueueFileError} A page cannot be read, or packets are damaged; those before
   *   them can be read.
   * @throws {ClosedError} The queue is closed.
   */
  async read(afterId: number, maxBytes: number): Promise<readonly StoredPacket[]> {
    const { batches, damaged } = await this.#read(afterId, maxBytes);
    if (batches.length === 0 && damaged !== undefined) {
      throw queueFileError("corrupt", this.path, damaged.words, {
        advice: `Read on behind id ${damaged.lastId}. A sender makes dead letters of them.`,
      });
    }
    return packetsOf(batches);
  }

  async #read(afterId: number, maxBytes: number, isToBeSent = false): Promise<ReadResult> {
    this.#checkOpen(undefined);
    return await this.#reader.read(afterId, maxBytes, isToBeSent);
  }

  /**
   * Removes packets from anywhere in the queue, in one transaction. Not for what
   * may be in flight: hold the sender lock, or know that no sender runs.
   *
   * @param range Their ids; those that are not there are passed over.
   * @returns What was removed, once that is on disk.
   * @throws {RangeError} `range` is none.
   * @throws {QueueFileError} It failed; the packets are still there.
   * @throws {ClosedError} The queue is closed.
   */
  async removePackets(range: IdRange): Promise<PacketCount> {
    checkIdRange(range);
    const { packets, bytes } = await this.#reader.exclusively(() =>
      this.#committer.edit({ kind: "remove-packets", range })
    );
    return { packets, bytes };
  }

  /**
   * Reads dead letters, in the order of their ids.
   *
   * @param afterId Ids greater than this one.
   * @param maxBytes Stops before the sum of payloads exceeds this, but gives at
   *   least one letter when there is one.
   * @throws {QueueFileError}
   * @throws {ClosedError} The queue is closed.
   */
  async deadLetters(afterId: number, maxBytes: number): Promise<readonly DeadLetter[]> {
    this.#checkOpen(undefined);
    return await this.#store.reads.deadLetters(afterId, maxBytes);
  }

  /**
   * Puts dead letters back: to the end of the queue, under new ids. Many of them
   * in several transactions, each of which leaves every packet in one place. May
   * be called while a sender runs, which is woken.
   *
   * @param range Their ids; those that are not there are passed over, and so are damaged
   *   ones, whose bytes nobody has stored.
   * @param options `ttlMs`: they expire again.
   * @returns What was put back, once that is on disk.
   * @throws {RangeError} `range` is none, or `ttlMs` is out of range.
   * @throws {QueueFileError} It failed; what was not put back is still there, and `outcome` is
   *   about that alone.
   * @throws {ClosedError} The queue is closed, perhaps meanwhile: then it says the same.
   * @example What has expired, once more and for an hour at the most
   * ```ts
   * import { OutboundQueue } from "@sendq/sendq";
   *
   * await using queue = await OutboundQueue.open(`${await Deno.makeTempDir()}/outbox.db`);
   * for (let afterId = 0;;) {
   *   const letters = await queue.deadLetters(afterId, 1_000_000);
   *   for (const { id, reason } of letters) {
   *     if (reason === "expired") {
   *       await queue.requeue({ firstId: id, lastId: id }, { ttlMs: 3_600_000 });
   *     }
   *     afterId = id;
   *   }
   *   if (letters.length === 0) break;
   * }
   * ```
   */
  async requeue(range: IdRange, options: RequeueOptions = {}): Promise<RequeuedPackets> {
    checkIdRange(range);
    checkRequeueOptions(options);
    const expiresAtMs = this.#expiryOf(options.ttlMs ?? Infinity);
    let packets = 0, bytes = 0;
    let ids: IdRange | undefined;
    for (let rest = range;;) {
      const moved = await this.#committer.edit({ kind: "requeue", range: rest, expiresAtMs })
        .catch((error) => {
          throw packets === 0 ? error : halfway(error, packets);
        });
      const { damagedPackets } = moved;
      // The last step has gone through all of what is left.
      if (moved.ids === undefined) return { packets, bytes, ids, damagedPackets };
      // Those that expire again meanwhile have higher ids than any of now.
      if (ids === undefined) {
        rest = { firstId: range.firstId, lastId: Math.min(range.lastId, moved.ids.firstId - 1) };
      }
      ids = { firstId: ids?.firstId ?? moved.ids.firstId, lastId: moved.ids.lastId };
      packets += moved.packets;
      bytes += moved.bytes;
    }
  }

  /**
   * Removes dead letters for good, in one transaction. Takes, returns and throws what
   * {@linkcode OutboundQueue.removePackets} does.
   */
  async removeDeadLetters(range: IdRange): Promise<PacketCount> {
    checkIdRange(range);
    const { packets, bytes } = await this.#committer.edit({ kind: "remove-dead", range });
    return { packets, bytes };
  }

  /**
   * Calls back whenever this process has dropped packets for want of room (overflow
   * `"drop-oldest"`), or dead letters because they were too many. Returns the
   * unsubscription.
   */
  subscribeDropped(onDropped: (dropped: DroppedPackets) => void): () => void {
    return this.#listeners.dropped.add(onDropped);
  }

  /**
   * Calls back whenever this process has made dead letters of packets. Returns
   * the unsubscription.
   */
  subscribeDead(onDead: (dead: DeadPackets) => void): () => void {
    return this.#listeners.dead.add(onDead);
  }

  /**
   * Looks whether the path still leads to this queue's file. Once it does not, nothing
   * is stored any more, because nobody would find it; what is in it can be read and
   * removed. Every second enqueues look, too. Returns what is wrong, if anything is.
   */
  misplaced(): QueueFileError | undefined {
    return this.#place.misplaced();
  }

  /** The queue in figures, without looking at its packets. */
  stats(): QueueStats {
    const { waitingPackets, waitingBytes, state } = this.#committer;
    const { oldestEnqueuedAtMs } = state;
    const { failure } = this.#storing;
    return {
      ...{ ...keptCountsOf(state), oldestEnqueuedAtMs, waitingPackets, waitingBytes },
      ...(failure && { storeFailure: failure }),
    };
  }

  /**
   * Stores what is waiting, except for packets that wait for room, and closes
   * the file. Idempotent.
   */
  close(): Promise<void> {
    return this.#closeOnce();
  }

  /** Same as {@linkcode OutboundQueue.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #closeOnce(reason?: unknown): Promise<void> {
    return this.#closing ??= this.#close(reason)
      // Who sends from it ends, and gives the right to send back.
      .finally(() => this.#listeners.closed.call());
  }

  async #close(reason?: unknown): Promise<void> {
    this.#reader.stop();
    this.#place.closing();
    const bell = this.#sendingSide.stopAnswering();
    await this.#committer.close(reason);
    this.#place.ringer.flush();
    this.#reader.clear();
    await bell;
    await this.#store.close();
  }

  /** How the reading side makes dead letters. */
  #graves(): Omit<ExpiringQueue, "due"> {
    return {
      bury: async (ranges) => {
        await this.#committer.edit({ kind: "bury", ranges, reason: "expired", attempts: 0 });
      },
      setAside: async (lastId) => {
        const { setAside, state } = await this.#committer.edit({ kind: "set-aside", lastId });
        if (setAside.length > 0 || lastId <= state.removedThrough) return;
        const what = `the packets that end with id ${lastId} are damaged, and are not`;
        throw queueFileError("corrupt", this.path, what);
      },
    };
  }

  /** The sender may be another process. */
  #ring(): void {
    if (!this.#sendingSide.isAnswering) this.#place.ringer.ring();
  }
}
