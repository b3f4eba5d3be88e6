/**
 * The outbound queue: packets on disk, in order, until somebody says that they
 * have arrived.
 *
 * Invariants:
 *
 * 1. An `enqueue` resolves only after the COMMIT that covers its packet has
 *    returned; when it rejects, nothing of it is stored.
 * 2. Ids grow by one with each packet stored, in the order of the calls within
 *    a process, and are never reused, not even after the file was emptied.
 * 3. A packet leaves the file only by `removeThrough`, or by overflow
 *    `"drop-oldest"`, which is counted and reported. `removeThrough` resolves
 *    only after its COMMIT has returned.
 * 4. `enqueueMany` is one transaction: all of it or nothing.
 * 5. One transaction at a time. Packets that arrive meanwhile share the next
 *    one, up to a bound that keeps the event loop responsive.
 * 6. A transaction that fails rejects what it covered and nothing else; the
 *    next one starts from a clean file.
 * 7. Counts and `lastId` are what some COMMIT has written, never a guess; other
 *    processes' commits show after `pollOtherProcesses` or our next commit.
 * 8. Nothing but SQLite opens the database file.
 *
 * @module
 */

import { ClosedError, PacketSizeError, QueueFullError } from "../errors.ts";
import type { Clock, PacketRun, PacketSource, StoredPacket } from "../ports.ts";
import {
  commitInParts,
  type CommitInPartsOptions,
  dropWithdrawn,
  type Job,
  Patience,
  type Removal,
} from "./group_commit.ts";
import { Line, onAbort, Unit } from "./line.ts";
import { Listeners } from "./listeners.ts";
import { Maintenance } from "./maintenance.ts";
import {
  type EnqueueOptions,
  type IdRange,
  type QueueOptions,
  type QueueStats,
  resolveOptions,
} from "./options.ts";
import { Arena, packetsOf, type PacketSpan } from "./runs.ts";
import { type Doorbell, DoorbellRinger, type SenderLock } from "./sender_lock.ts";
import {
  type CommitRequest,
  type CommitResult,
  type DroppedPackets,
  PacketStore,
  type Store,
  type StoreState,
} from "./store.ts";
import { MemoryTail } from "./tail.ts";

/**
 * - `"idle"`: nothing to do
 * - `"scheduled"`: a transaction starts once the events already due are handled
 * - `"committing"`: one is under way
 * - `"no-room"`: overflow is `"wait"` and the first in line does not fit
 * - `"closed"`: for good
 */
type Phase = "idle" | "scheduled" | "committing" | "no-room" | "closed";

/** A transaction's bound: a few milliseconds of work. A larger `enqueueMany` goes alone. */
const MAX_COMMIT_PACKETS = 4096;
const MAX_COMMIT_BYTES = 2 * 1024 * 1024;
/** Memory for packets just stored, for the sender to read. */
const TAIL_BYTES = 8 * 1024 * 1024;
/** While packets wait for room, another process's removals are looked for this often. */
const ROOM_POLL_MS = 250;
/**
 * A durable first-in first-out queue of packets in one SQLite file. Several
 * processes may enqueue into the same file; one of them sends from it.
 *
 * @example Store a packet, read it back, remove it
 * ```ts
 * import { OutboundQueue } from "@sendq/sendq";
 *
 * const path = `${await Deno.makeTempDir()}/outbox.db`;
 * await using queue = await OutboundQueue.open(path);
 * const id = await queue.enqueue(new TextEncoder().encode("hello\n"));
 * // Here the packet is on disk.
 * const [packet] = await queue.read(id - 1, 65536);
 * console.log(packet?.payload.length); // 6
 * await queue.removeThrough(id);
 * ```
 */
export class OutboundQueue implements PacketSource {
  /** The file's path without symbolic links. */
  readonly path: string;
  /** The highest id known, when the queue was opened, to have been on a wire. */
  readonly sentThroughAtOpen: number;

  readonly #store: Store;
  readonly #options: Required<QueueOptions>;
  readonly #clock: Clock;
  readonly #arena = new Arena();
  readonly #tail = new MemoryTail(TAIL_BYTES);
  readonly #ringer: DoorbellRinger;
  readonly #maintenance: Maintenance;
  readonly #packetListeners = new Listeners<[]>();
  readonly #dropListeners = new Listeners<[DroppedPackets]>();

  readonly #parts: CommitInPartsOptions = {
    attempt: (job) => this.#commitJob(job),
    fail: (job, error) => this.#fail(job, error),
    nextTick: () => new Promise((resolve) => this.#clock.defer(resolve)),
  };

  #phase: Phase = "idle";
  #state: StoreState;
  #dataVersion: number;
  readonly #line = new Line();
  #removal: Removal | undefined;
  #sentThrough: number;
  /** The tail is kept from the first reader on: without one it would only cost memory. */
  #hasReader = false;
  #doorbell: Doorbell | undefined;
  #cancelRoomPoll: (() => void) | undefined;
  #settled: (() => void)[] = [];
  #closing: Promise<void> | undefined;

  private constructor(
    store: Store,
    options: Required<QueueOptions>,
    state: StoreState,
    dataVersion: number,
  ) {
    this.path = store.path;
    this.#store = store;
    this.#options = options;
    this.#clock = options.clock;
    this.#state = state;
    this.#dataVersion = dataVersion;
    this.#sentThrough = state.sentThrough;
    this.sentThroughAtOpen = state.sentThrough;
    this.#ringer = new DoorbellRinger(store.path, options.clock);
    this.#maintenance = new Maintenance(store, options.clock, () => this.#phase === "idle");
  }

  /**
   * Opens the queue at `path`; makes it (mode 0600) where there is no file or an
   * empty one.
   *
   * Needs `--allow-read` and `--allow-write` for `path` and `path.lock`.
   *
   * @param path The file, on a local filesystem.
   * @param options See {@linkcode QueueOptions}.
   * @throws {RangeError} An option is out of range.
   * @throws {QueueFileError} The file is not a queue, is damaged, cannot be
   *   written or stayed locked; it was left as it is.
   * @throws {Deno.errors.NotCapable} A permission is missing; says which flags to add.
   */
  static async open(path: string, options: QueueOptions = {}): Promise<OutboundQueue> {
    const resolved = resolveOptions(options);
    if (path === "" || path === ":memory:" || path.includes("\0")) {
      throw new RangeError(`path must name a file, got ${JSON.stringify(path)}`);
    }
    const patience = new Patience(resolved.clock, resolved.busyTimeoutMs);
    for (;;) {
      try {
        const store = PacketStore.open(path, resolved);
        return new OutboundQueue(store, resolved, store.state(), store.dataVersion());
      } catch (error) {
        await patience.waitOrThrow(error);
      }
    }
  }

  /** The highest id known to be on disk; 0 when there never was one. */
  get lastId(): number {
    return this.#state.lastId;
  }

  /** Every id up to this one has left the disk; 0 when none ever did. */
  get removedThroughId(): number {
    return this.#state.removedThrough;
  }

  /**
   * Stores a packet. The bytes are copied at once: the caller may reuse its
   * buffer as soon as this has returned its promise.
   *
   * @param payload The packet: at least 1 byte.
   * @param options `signal`: gives up while the packet is not stored yet.
   * @returns The packet's id, once the packet is on disk.
   * @throws {PacketSizeError} It is empty or larger than `maxPacketBytes`.
   * @throws {QueueFullError} There is no room and `overflow` is `"reject"`, or
   *   the packet is larger than the whole queue may be.
   * @throws {QueueFileError} The file could not be written; nothing was stored.
   * @throws {ClosedError} The queue is closed.
   */
  enqueue(payload: Uint8Array, options?: EnqueueOptions): Promise<number> {
    try {
      this.#checkOpen(options?.signal);
      const bytes = this.#checkSize(payload);
      this.#checkRoom(1, bytes);
      return this.#await(this.#arena.copy(payload), options?.signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Stores packets in one transaction: all of them or none. The transaction is
   * not split, so a very large array blocks the event loop for as long as its
   * writing takes (roughly 1 to 2 ms per 1000 small packets).
   *
   * @param payloads The packets, in order; at least one.
   * @param options `signal`: gives up while the packets are not stored yet.
   * @returns Their ids, which follow each other, once all are on disk.
   * @throws {RangeError} No packet was given.
   * @throws {PacketSizeError} One is empty or larger than `maxPacketBytes`.
   * @throws {QueueFullError} There is no room for all of them together.
   * @throws {QueueFileError} The file could not be written; nothing was stored.
   * @throws {ClosedError} The queue is closed.
   */
  async enqueueMany(
    payloads: readonly Uint8Array[],
    options?: EnqueueOptions,
  ): Promise<IdRange> {
    const packets = payloads.length;
    if (packets === 0) throw new RangeError("enqueueMany needs at least one packet");
    this.#checkOpen(options?.signal);
    const sizes = Uint32Array.from(payloads, (payload) => this.#checkSize(payload));
    let bytes = 0;
    for (const size of sizes) bytes += size;
    this.#checkRoom(packets, bytes);
    const span = this.#arena.copyAll(payloads, sizes, bytes);
    const firstId = await this.#await(span, options?.signal);
    return { firstId, lastId: firstId + packets - 1 };
  }

  #checkOpen(signal: AbortSignal | undefined): void {
    if (this.#closing !== undefined) throw new ClosedError("The queue is closed.");
    signal?.throwIfAborted();
  }

  /** Puts packets at the end of the line. Returns the first one's id, once they are on disk. */
  #await(span: PacketSpan, signal: AbortSignal | undefined): Promise<number> {
    // Faster than `new Promise`: no closure of ours for each packet.
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const unit = new Unit(span, resolve, reject);
    if (signal !== undefined) {
      unit.release = onAbort(signal, () => this.#withdraw(unit, signal.reason));
    }
    this.#line.push(unit);
    if (this.#phase === "idle") this.#schedule();
    return promise;
  }

  #checkSize(payload: Uint8Array): number {
    if (!(payload instanceof Uint8Array)) {
      throw new TypeError("A packet must be a Uint8Array: wrap an ArrayBuffer in one");
    }
    const { maxPacketBytes } = this.#options;
    if (payload.length === 0 || payload.length > maxPacketBytes) {
      throw new PacketSizeError(payload.length, maxPacketBytes);
    }
    return payload.length;
  }

  /**
   * What can never fit is refused at once. Those who do not wait for room may
   * not pile up more in memory than the file may hold, either.
   */
  #checkRoom(packets: number, bytes: number): void {
    const { maxPackets, maxBytes, overflow } = this.#options;
    const aheadPackets = overflow === "wait" ? 0 : this.#line.packets;
    const aheadBytes = overflow === "wait" ? 0 : this.#line.bytes;
    if (aheadPackets + packets > maxPackets) throw new QueueFullError("maxPackets", maxPackets);
    if (aheadBytes + bytes > maxBytes) throw new QueueFullError("maxBytes", maxBytes);
  }

  #withdraw(unit: Unit, reason: unknown): void {
    if (unit.phase !== "waiting") return;
    unit.phase = "withdrawn";
    this.#line.uncount(unit);
    unit.reject(reason);
    // A smaller one behind it may fit.
    if (this.#phase === "no-room") this.#schedule();
  }

  /**
   * Reads the packets that follow `afterId`, in order: from memory where this
   * process has just stored them, else from the file.
   *
   * @param afterId Ids greater than this one.
   * @param maxBytes Stops before the sum of payloads exceeds this, but gives at
   *   least one packet when there is one.
   * @throws {QueueFileError} A page cannot be read; the packets before it can be.
   * @throws {ClosedError} The queue is closed.
   */
  async read(afterId: number, maxBytes: number): Promise<readonly StoredPacket[]> {
    return packetsOf(await this.readRuns(afterId, maxBytes));
  }

  /**
   * The same as {@linkcode read}, in runs: many packets in a few objects.
   *
   * @param afterId As for `read`.
   * @param maxBytes As for `read`.
   * @throws {QueueFileError} As for `read`.
   * @throws {ClosedError} As for `read`.
   */
  async readRuns(afterId: number, maxBytes: number): Promise<readonly PacketRun[]> {
    if (this.#closing !== undefined) throw new ClosedError("The queue is closed.");
    this.#hasReader = true;
    if (afterId >= this.#state.lastId) return [];
    return this.#tail.read(Math.max(afterId, this.removedThroughId), maxBytes) ??
      await this.#store.read(afterId, maxBytes);
  }

  /**
   * Removes every packet up to and including `id`, together with the next
   * packets stored where there are any.
   *
   * @returns Resolves once the removal is on disk.
   * @throws {RangeError} `id` is not an id.
   * @throws {QueueFileError} It failed; the packets are still there. Call again.
   * @throws {ClosedError} The queue is closed.
   */
  async removeThrough(id: number): Promise<void> {
    if (!Number.isSafeInteger(id) || id < 0) {
      throw new RangeError(`id must be a non-negative integer, got ${id}`);
    }
    if (this.#closing !== undefined) throw new ClosedError("The queue is closed.");
    if (id <= this.removedThroughId) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#removal ??= { throughId: 0, waiters: [] };
    this.#removal.throughId = Math.max(this.#removal.throughId, Math.min(id, this.lastId));
    this.#removal.waiters.push({ resolve, reject });
    if (this.#phase === "idle" || this.#phase === "no-room") this.#schedule();
    await promise;
  }

  /**
   * Remembers that ids up to `id` have been on a wire: written with the next
   * commit that happens anyway, and on close.
   */
  noteSent(id: number): void {
    this.#sentThrough = Math.max(this.#sentThrough, id);
  }

  /** Calls back whenever {@linkcode lastId} may have grown. Returns the unsubscription. */
  subscribe(onPackets: () => void): () => void {
    this.#hasReader = true;
    return this.#packetListeners.add(onPackets);
  }

  /**
   * Calls back whenever this process has dropped packets for want of room
   * (overflow `"drop-oldest"`). Returns the unsubscription.
   */
  subscribeDropped(onDropped: (dropped: DroppedPackets) => void): () => void {
    return this.#dropListeners.add(onDropped);
  }

  /** The queue in figures, without looking at its packets. */
  stats(): QueueStats {
    const { packets, bytes, lastId, oldestEnqueuedAtMs, droppedPackets, droppedBytes } =
      this.#state;
    return {
      packets,
      bytes,
      lastId,
      oldestEnqueuedAtMs,
      droppedPackets,
      droppedBytes,
      waitingPackets: this.#line.packets,
      waitingBytes: this.#line.bytes,
    };
  }

  /**
   * Looks whether another process has committed, and if so takes over its
   * counts and notifies the subscribers. Costs a few microseconds.
   *
   * @throws {QueueFileError}
   */
  async pollOtherProcesses(): Promise<void> {
    if (this.#phase === "closed") return;
    const dataVersion = await this.#store.dataVersion();
    if (dataVersion === this.#dataVersion || this.#isClosed()) return;
    const state = await this.#store.state();
    if (this.#isClosed()) return;
    this.#dataVersion = dataVersion;
    this.#adopt(state);
    if (this.#phase === "no-room") this.#schedule();
  }

  /**
   * Makes this queue the sender's: it listens for other processes' packets on
   * the lock's doorbell and does not ring it itself. Ends with `stop()` or `close()`.
   *
   * @returns How it hears of them; see {@linkcode Doorbell.mode}.
   */
  answerDoorbell(lock: SenderLock): Doorbell {
    const doorbell = lock.listen(() => {
      // What is wrong with the file will meet the next read or commit, which
      // has somebody to tell.
      this.pollOtherProcesses().catch(() => {});
    }, this.#clock);
    this.#doorbell = doorbell;
    return {
      ...doorbell,
      stop: () => {
        if (this.#doorbell === doorbell) this.#doorbell = undefined;
        return doorbell.stop();
      },
    };
  }

  /**
   * Stores what is waiting, except for packets that wait for room, and closes
   * the file. Idempotent.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Same as {@linkcode close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#maintenance.stop();
    const bell = this.#doorbell?.stop();
    while (this.#phase === "scheduled" || this.#phase === "committing") {
      await new Promise<void>((resolve) => this.#settled.push(resolve));
    }
    this.#cancelRoomPoll?.();
    const error = new ClosedError("The queue was closed before there was room for the packet.");
    while (!this.#line.isEmpty) {
      this.#fail({ units: this.#take(), removal: undefined }, error);
    }
    if (this.#sentThrough > this.#state.sentThrough) await this.#saveSentThrough();
    this.#phase = "closed";
    this.#ringer.flush();
    this.#tail.clear();
    await bell;
    await this.#store.close();
  }

  async #saveSentThrough(): Promise<void> {
    try {
      this.#state = (await this.#store.commit(this.#request({ units: [], removal: undefined })))
        .state;
    } catch {
      // A note for the next start; without it a few packets count as sent anew.
    }
  }

  #schedule(): void {
    this.#cancelRoomPoll?.();
    this.#cancelRoomPoll = undefined;
    this.#phase = "scheduled";
    // Not a microtask, which would starve timers, and not a timer, which would
    // cost a single enqueuer two milliseconds a packet (deno_facts, group commit).
    this.#clock.defer(() => void this.#run());
  }

  /** One round: everything that waits now, in as few transactions as possible. */
  async #run(): Promise<void> {
    this.#phase = "committing";
    const removal = this.#removal;
    this.#removal = undefined;
    const unplaced = await commitInParts({ units: this.#take(), removal }, this.#parts);
    if (unplaced.length > 0) this.#line.putBack(unplaced);

    // Who stood first may have left the line meanwhile.
    const left = unplaced.some(({ phase }) => phase === "withdrawn");
    if (this.#removal !== undefined || left) this.#schedule();
    else if (unplaced.length > 0) this.#awaitRoom();
    else if (!this.#line.isEmpty) this.#schedule();
    else this.#phase = "idle";
    if (this.#phase === "idle" && removal !== undefined && this.#closing === undefined) {
      this.#maintenance.wake();
    }
    for (const resolve of this.#settled.splice(0)) resolve();
  }

  /** Takes units for one transaction from the line. */
  #take(): Unit[] {
    const { maxPackets, maxBytes } = this.#options;
    return this.#line.take(
      Math.min(MAX_COMMIT_PACKETS, maxPackets),
      Math.min(MAX_COMMIT_BYTES, maxBytes),
    );
  }

  #awaitRoom(): void {
    this.#phase = "no-room";
    this.#cancelRoomPoll = this.#clock.setTimer(ROOM_POLL_MS, () => {
      this.#cancelRoomPoll = undefined;
      // Asking is a transaction that is rolled back when there is still no room.
      if (this.#phase === "no-room") this.#schedule();
    });
  }

  /** One transaction, tried again while another process holds the file. */
  async #commitJob(job: Job): Promise<Unit[]> {
    const patience = new Patience(this.#clock, this.#options.busyTimeoutMs);
    for (;;) {
      dropWithdrawn(job);
      if (job.units.length === 0 && job.removal === undefined) return [];
      for (const unit of job.units) unit.phase = "committing";
      try {
        const result = await this.#store.commit(this.#request(job));
        return this.#settle(job, result);
      } catch (error) {
        for (const unit of job.units) unit.phase = "waiting";
        await patience.waitOrThrow(error);
      }
    }
  }

  #request(job: Job): CommitRequest {
    const { maxPackets, maxBytes, overflow } = this.#options;
    return {
      removeThrough: job.removal?.throughId ?? 0,
      sentThrough: this.#sentThrough,
      units: job.units,
      enqueuedAtMs: this.#clock.wallMs(),
      maxPackets,
      maxBytes,
      overflow,
    };
  }

  /** After a COMMIT: tells everybody. Returns the units that have to wait for room. */
  #settle(job: Job, { state, runs, refused, dropped }: CommitResult): Unit[] {
    const unplaced: Unit[] = [];
    const { units, removal } = job;
    const lastIdBefore = this.#state.lastId;
    this.#state = state;
    if (this.#hasReader) this.#tail.append(runs);
    let nextId = runs[0]?.firstId ?? 0;
    for (let i = 0; i < units.length; i++) {
      const unit = units[i];
      if (unit === undefined) break;
      const limit = refused.size === 0 ? undefined : refused.get(i);
      if (limit === undefined) {
        this.#finish(unit);
        unit.resolve(nextId);
        nextId += unit.packets;
      } else if (this.#options.overflow === "wait") {
        unit.phase = "waiting";
        unplaced.push(unit);
      } else {
        this.#finish(unit);
        unit.reject(new QueueFullError(limit, this.#options[limit]));
      }
    }
    if (removal !== undefined) {
      this.#tail.removeThrough(removal.throughId);
      for (const waiter of removal.waiters) waiter.resolve();
    }
    if (dropped !== undefined) {
      this.#tail.removeThrough(dropped.throughId);
      this.#dropListeners.call(dropped);
    }
    if (state.lastId > lastIdBefore) this.#packetListeners.call();
    if (refused.size < units.length && this.#doorbell === undefined) this.#ringer.ring();
    return unplaced;
  }

  #adopt(state: StoreState): void {
    const grown = state.lastId > this.#state.lastId;
    this.#state = state;
    if (grown) this.#packetListeners.call();
  }

  #fail(job: Job, error: unknown): void {
    for (const unit of job.units) {
      if (unit.phase === "withdrawn") continue;
      this.#finish(unit);
      unit.reject(error);
    }
    for (const waiter of job.removal?.waiters ?? []) waiter.reject(error);
  }

  #finish(unit: Unit): void {
    this.#line.uncount(unit);
    unit.phase = "committing";
    unit.release?.();
  }

  #isClosed(): boolean {
    return this.#phase === "closed";
  }
}
