/**
 * Everything that writes the queue's file: packets to be stored, removals, and
 * changes in the middle, as one transaction at a time. Packets that arrive while
 * one is under way share the next.
 */

import { onAbort } from "../../base/waits.ts";
import { ClosedError, isOutcomeUnknown, QueueFullError } from "../../base/errors.ts";
import type { Clock } from "../../base/ports.ts";
import { BusyRetry } from "../sqlite/busy.ts";
import type {
  CommitRequest,
  CommitResult,
  DeadLimits,
  Edit,
  EditResult,
  HandedOutCount,
  Moment,
  QueueStore,
  StoreState,
} from "../store/contract.ts";
import { MOVE_BYTES, MOVE_PACKETS } from "../store/packet_table.ts";
import type { Overflow, PacketCount } from "../store/types.ts";
import {
  commitInParts,
  type CommitInPartsOptions,
  type Job,
  type Removal,
  takeOut,
} from "./commit_in_parts.ts";
import { LoopPauses } from "./loop_pauses.ts";
import { type PendingEnqueue, PendingEnqueues } from "./pending_enqueues.ts";
import { Vacuum } from "./vacuum.ts";

/**
 * - `"idle"`: nothing to do
 * - `"scheduled"`: a transaction starts once the events already due are handled, and it is time
 * - `"committing"`: one is under way
 * - `"no-room"`: overflow is `"wait"` and the first in line does not fit
 * - `"closed"`: for good
 */
type Phase = "idle" | "scheduled" | "committing" | "no-room" | "closed";

/** A removal goes in parts of so many bytes: one of 30 MB held the loop for 60 ms. */
const MAX_REMOVAL_BYTES = 4 * 1024 * 1024;
/** An input that is read in pieces of this size is not held up. */
const ENOUGH_PACKETS = 256;
const ENOUGH_BYTES = 32 * 1024;
/** While packets wait for room, another process's removals are looked for this often. */
const ROOM_POLL_MS = 250;
const GAVE_WAY = "It waited to be stored, and newer packets have taken its place, as overflow " +
  '"drop-oldest" says. Look why so little can be stored, or so slowly.';

/** What a `Committer` keeps to; the meaning of each is in `QueueOptions`. */
export interface CommitterOptions extends DeadLimits {
  readonly maxPackets: number;
  readonly maxBytes: number;
  readonly overflow: Overflow;
  readonly commitIntervalMs: number;
  readonly busyTimeoutMs: number;
  readonly clock: Clock;
}

export type QueueBounds = Pick<CommitterOptions, "maxPackets" | "maxBytes">;

/**
 * What the committer asks the queue, and what it tells it: after a COMMIT and before the promises
 * of that transaction settle, so that the queue knows of a packet when its `enqueue` resolves.
 */
export interface CommitterEvents {
  moment(): Moment;
  /** Whether the file should be told of a clock that was set. */
  isTimeToBeKept(): boolean;
  /** What the sender was given of the packets above one id and up to another, or of the first of them. */
  handedOut(afterId: number, throughId: number, enough: PacketCount): HandedOutCount | undefined;
  /** These are the file's counts now; before any of the following. */
  knows(state: StoreState): void;
  /**
   * Packets were stored, removed or dropped.
   *
   * @param throughId What was asked to be removed; 0: nothing.
   */
  committed(result: CommitResult, throughId: number): void;
  edited(edit: Edit, result: EditResult): void;
  /** Another process has committed, and these are its counts. */
  adopted(): void;
  /** There may be packets above the last id that was known. */
  grown(): void;
  /** Enqueues are rejected with it. */
  refused(error: unknown): void;
}

interface PendingEdit {
  readonly edit: Edit;
  readonly resolve: (result: EditResult) => void;
  readonly reject: (reason: unknown) => void;
}

function isWithdrawn({ phase }: PendingEnqueue): boolean {
  return phase === "withdrawn";
}

export class Committer {
  readonly #store: QueueStore;
  readonly #options: CommitterOptions;
  /** All that a store is to know of them: a queue on PostgreSQL has its own. */
  readonly #deadLimits: DeadLimits;
  readonly #clock: Clock;
  readonly #events: CommitterEvents;
  readonly #vacuum: Vacuum;

  readonly #parts: CommitInPartsOptions = {
    attempt: (job) => this.#commitJob(job),
    fail: (job, error) => this.#fail(job, error),
    removedThrough: () => this.#state.removedThrough,
    makeRoom: async () => {
      try {
        await this.#store.checkpoint();
      } catch {
        // Then there is no more room than before.
      }
    },
    nextTick: () => new Promise((resolve) => this.#clock.defer(resolve)),
  };

  #phase: Phase = "idle";
  /** Grows whenever the counts may be others. */
  changes = 0;
  /** How full the queue may get; from the next commit on, where it is changed. */
  bounds: QueueBounds;
  #state: StoreState;
  #dataVersion: number;
  readonly #pending = new PendingEnqueues();
  #removal: Removal | undefined;
  #edits: PendingEdit[] = [];
  #sentThrough: number;
  #cancelRoomPoll: (() => void) | undefined;
  #beganMs = -Infinity;
  /** Of a round that waits until it is time. */
  #cancelInterval: (() => void) | undefined;
  #roundWaiters: (() => void)[] = [];
  #isClosing = false;
  readonly #pauses: LoopPauses;
  /** Whether a file that is closed may have become much smaller. */
  #hasRemoved = false;

  /** @param start The file's counts, and the data version they were read at. */
  constructor(
    store: QueueStore,
    options: CommitterOptions,
    start: { readonly state: StoreState; readonly dataVersion: number },
    events: CommitterEvents,
  ) {
    this.#store = store;
    this.#options = options;
    const { maxPackets, maxBytes, maxDeadPackets, maxDeadBytes } = options;
    this.bounds = { maxPackets, maxBytes };
    this.#deadLimits = { maxDeadPackets, maxDeadBytes };
    this.#clock = options.clock;
    this.#pauses = new LoopPauses(options.clock);
    this.#events = events;
    this.#state = start.state;
    this.#dataVersion = start.dataVersion;
    this.#sentThrough = start.state.sentThrough;
    this.#vacuum = new Vacuum(store, options.clock, () => this.#phase === "idle");
  }

  /** The counts that the last commit known has left. */
  get state(): StoreState {
    return this.#state;
  }

  get waitingPackets(): number {
    return this.#pending.packets;
  }

  get waitingBytes(): number {
    return this.#pending.bytes;
  }

  /** Resolves once packets that wait now are stored or refused, but for those that wait for room. */
  async settled(): Promise<void> {
    const throughPackets = this.#pending.donePackets + this.#pending.packets;
    while (
      this.#pending.donePackets < throughPackets && this.#phase !== "no-room" && !this.#isClosed()
    ) await this.#roundEnd();
  }

  #roundEnd(): Promise<void> {
    return new Promise((resolve) => this.#roundWaiters.push(resolve));
  }

  /** Stores packets behind all earlier ones. Returns the first one's id, once they are on disk. */
  store(unit: PendingEnqueue, signal: AbortSignal | undefined): Promise<number> {
    if (signal) {
      unit.signal = signal;
      unit.release = onAbort(signal, () => this.#withdraw(unit, signal.reason));
    }
    if (this.#options.overflow === "drop-oldest") this.#makeWay(unit);
    this.#pending.push(unit);
    if (this.#phase === "idle") this.#schedule();
    else this.#hurry();
    return unit.stored;
  }

  /**
   * While transactions take long, as much waits in memory as the queue may hold, and a transaction
   * more: a burst that is stored at once is dropped in the queue, where that is counted.
   */
  #makeWay({ packets, bytes }: PendingEnqueue): void {
    const { maxPackets, maxBytes } = this.bounds;
    const freePackets = maxPackets + MOVE_PACKETS - packets;
    const freeBytes = maxBytes + MOVE_BYTES - bytes;
    while (this.#pending.packets > freePackets || this.#pending.bytes > freeBytes) {
      const limit = this.#pending.packets > freePackets ? "maxPackets" : "maxBytes";
      const [oldest] = this.#pending.take(1, 1);
      if (oldest === undefined) break;
      this.#finish(oldest);
      oldest.reject(new QueueFullError(limit, this.bounds[limit], GAVE_WAY));
    }
  }

  #withdraw(unit: PendingEnqueue, reason: unknown): void {
    if (unit.phase !== "waiting") return;
    this.#pending.withdraw(unit);
    unit.reject(reason);
    // A smaller one behind it may fit.
    if (this.#phase === "no-room") this.#schedule();
  }

  /** For a unit that a transaction did not store: it waits for the next one, or is withdrawn. */
  #waitAgain(unit: PendingEnqueue): void {
    unit.phase = "waiting";
    if (unit.signal?.aborted) this.#withdraw(unit, unit.signal.reason);
  }

  /** Removes packets up to `id`, with the next packets stored where there are any. */
  removeThrough(id: number): Promise<void> {
    if (this.#isClosing) return Promise.reject(new ClosedError("The queue is closed."));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#removal ??= { throughId: 0, waiters: [] };
    const throughId = Math.min(id, this.#state.lastId);
    this.#removal.throughId = Math.max(this.#removal.throughId, throughId);
    this.#removal.waiters.push({ resolve, reject });
    this.#scheduleAtOnce();
    return promise;
  }

  /** Makes a change in the middle, in a transaction of its own. */
  edit(edit: Edit): Promise<EditResult> {
    if (this.#isClosing) return Promise.reject(new ClosedError("The queue is closed."));
    const { promise, resolve, reject } = Promise.withResolvers<EditResult>();
    this.#edits.push({ edit, resolve, reject });
    this.#scheduleAtOnce();
    this.#hurry();
    return promise;
  }

  rememberSent(id: number): void {
    this.#sentThrough = Math.max(this.#sentThrough, id);
  }

  /** Takes over what other processes have committed. */
  async poll(): Promise<void> {
    if (this.#isClosed()) return;
    const dataVersion = await this.#store.reads.dataVersion();
    if (dataVersion !== this.#dataVersion) await this.#takeOver(dataVersion);
  }

  /**
   * Takes over how the queue stands, whether or not anybody seems to have committed: of a
   * database that has gone back the count of commits may be what it was.
   */
  async takeOver(): Promise<void> {
    if (this.#isClosed()) return;
    await this.#takeOver(await this.#store.reads.dataVersion());
  }

  async #takeOver(dataVersion: number): Promise<void> {
    if (this.#isClosed()) return;
    const state = await this.#store.reads.state();
    if (this.#isClosed()) return;
    this.#dataVersion = dataVersion;
    if (this.#take(state)) this.#events.grown();
    this.#events.adopted();
    if (this.#phase === "no-room") this.#schedule();
  }

  /**
   * Does what is waiting. Nothing is written after this.
   *
   * @param reason What packets that wait for room are rejected with.
   */
  async close(
    reason: unknown = new ClosedError(
      "The queue was closed before there was room for the packet.",
    ),
  ): Promise<void> {
    this.#isClosing = true;
    this.#vacuum.stop();
    this.#hurry();
    while (this.#phase === "scheduled" || this.#phase === "committing") {
      await this.#roundEnd();
    }
    this.#cancelRoomPoll?.();
    while (!this.#pending.isEmpty) {
      this.#fail({ units: this.#takeUnits(), removal: undefined }, reason);
    }
    // Before the last commit below: a poll that ends meanwhile must not start another.
    this.#phase = "closed";
    if (this.#sentThrough > this.#state.sentThrough || this.#events.isTimeToBeKept()) {
      try {
        const request = this.#request({ units: [], removal: undefined });
        this.#state = (await this.#store.commit(request)).state;
      } catch {
        // The next start then takes a few packets that were sent for ones that were not.
      }
    }
    if (this.#hasRemoved) await this.#vacuum.finish();
  }

  /** Starts a round, also while packets wait for room: removals and edits need none. */
  #scheduleAtOnce(): void {
    if (this.#phase === "idle" || this.#phase === "no-room") this.#schedule();
  }

  #schedule(): void {
    this.#cancelRoomPoll?.();
    this.#cancelRoomPoll = undefined;
    this.#phase = "scheduled";
    const waitMs = this.#beganMs + this.#options.commitIntervalMs - this.#clock.nowMs();
    if (waitMs > 0 && !this.#isUrgent()) {
      this.#cancelInterval = this.#clock.setTimer(waitMs, () => {
        this.#cancelInterval = undefined;
        void this.#run();
      });
      return;
    }
    // Not a microtask, which would starve timers, and not a timer, which would
    // cost a single enqueuer two milliseconds a packet (deno_facts, group commit).
    this.#pauses.schedule(() => void this.#run());
  }

  /** Whether little is gained by waiting. */
  #isUrgent(): boolean {
    const { packets, bytes } = this.#pending;
    const { maxPackets, maxBytes } = this.bounds;
    return this.#isClosing || this.#edits.length > 0 || this.#removal?.isRest === true ||
      packets >= Math.min(ENOUGH_PACKETS, maxPackets) || bytes >= Math.min(ENOUGH_BYTES, maxBytes);
  }

  #hurry(): void {
    if (this.#cancelInterval === undefined || !this.#isUrgent()) return;
    this.#cancelInterval();
    this.#cancelInterval = undefined;
    this.#schedule();
  }

  /** One that somebody else ends, a thread or a database, leaves the loop its pauses. */
  #commit(request: CommitRequest): CommitResult | Promise<CommitResult> {
    const beganMs = this.#clock.nowMs();
    const result = this.#store.commit(request);
    if (!(result instanceof Promise)) this.#pauses.take(this.#clock.nowMs() - beganMs);
    return result;
  }

  /** One round: everything that waits now, in as few transactions as possible. */
  async #run(): Promise<void> {
    this.#phase = "committing";
    this.#beganMs = this.#clock.nowMs();
    const removal = this.#removal;
    const edits = this.#edits;
    this.#removal = undefined;
    if (edits.length > 0) {
      this.#edits = [];
      for (const pending of edits) {
        if (pending !== edits[0]) await this.#parts.nextTick();
        await this.#runEdit(pending);
      }
    }
    const unplaced = await commitInParts({ units: this.#takeUnits(), removal }, this.#parts);
    if (unplaced.length > 0) this.#pending.putBack(unplaced);

    // The first one that waits for room may have been withdrawn meanwhile: the next may fit.
    const left = unplaced.some(isWithdrawn);
    if (this.#removal !== undefined || this.#edits.length > 0 || left) this.#schedule();
    else if (unplaced.length > 0) this.#awaitRoom();
    else if (!this.#pending.isEmpty) this.#schedule();
    else this.#phase = "idle";
    const removed = removal !== undefined || edits.length > 0;
    this.#hasRemoved ||= removed;
    if (this.#phase === "idle" && removed && !this.#isClosing) this.#vacuum.wake();
    for (const resolve of this.#roundWaiters.splice(0)) resolve();
  }

  /** Returns whether there may be packets that were not known. */
  #take(state: StoreState): boolean {
    const grown = state.lastId > this.#state.lastId;
    this.#state = state;
    this.changes++;
    this.#events.knows(state);
    return grown;
  }

  #takeUnits(): PendingEnqueue[] {
    const { maxPackets, maxBytes } = this.bounds;
    // A few milliseconds of work. A larger `enqueueMany` goes alone.
    return this.#pending.take(Math.min(MOVE_PACKETS, maxPackets), Math.min(MOVE_BYTES, maxBytes));
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
  async #commitJob(job: Job): Promise<PendingEnqueue[]> {
    const busyRetry = new BusyRetry(this.#clock, this.#options.busyTimeoutMs);
    for (;;) {
      takeOut(job, isWithdrawn);
      if (job.units.length === 0 && job.removal === undefined) return [];
      for (const unit of job.units) unit.phase = "committing";
      try {
        const request = this.#request(job);
        return this.#answer(job, request.removeThrough, await this.#commit(request));
      } catch (error) {
        if (isOutcomeUnknown(error)) await this.#lookAgain();
        else for (const unit of job.units) this.#waitAgain(unit);
        await busyRetry.waitOrThrow(error);
      }
    }
  }

  async #runEdit({ edit, resolve, reject }: PendingEdit): Promise<void> {
    const busyRetry = new BusyRetry(this.#clock, this.#options.busyTimeoutMs);
    try {
      for (;;) {
        try {
          const result = await this.#store.edit({
            edit,
            at: this.#events.moment(),
            deadLimits: this.#deadLimits,
            sentThrough: this.#sentThrough,
          });
          const grown = this.#take(result.state);
          this.#events.edited(edit, result);
          if (grown) this.#events.grown();
          return resolve(result);
        } catch (error) {
          if (isOutcomeUnknown(error)) await this.#lookAgain();
          await busyRetry.waitOrThrow(error);
        }
      }
    } catch (error) {
      reject(error);
    }
  }

  /**
   * What was to be stored or removed may have been: nobody is told of a commit of one's own, and
   * a packet that nobody knows of is not sent.
   */
  async #lookAgain(): Promise<void> {
    if (this.#isClosing) return;
    try {
      await this.takeOver();
    } catch {
      // Then the next commit tells.
    }
  }

  #request(job: Job): CommitRequest {
    const { overflow } = this.#options;
    const { maxPackets, maxBytes } = this.bounds;
    const wantedId = job.removal?.throughId ?? 0;
    const { removedThrough } = this.#state;
    const handedOut = wantedId > removedThrough
      ? this.#events.handedOut(removedThrough, wantedId, this.#enough(job))
      : undefined;
    return {
      removeThrough: handedOut?.throughId ?? wantedId,
      handedOut,
      sentThrough: this.#sentThrough,
      units: job.units,
      at: this.#events.moment(),
      maxPackets,
      maxBytes,
      deadLimits: this.#deadLimits,
      overflow,
    };
  }

  /** How much of a removal at least: no packet may lack the room that all of it would make. */
  #enough({ units, removesAll = false }: Job): PacketCount {
    if (removesAll) return { packets: Infinity, bytes: Infinity };
    const { maxPackets, maxBytes } = this.bounds;
    let packets = 0, bytes = 0;
    for (const unit of units) {
      packets += unit.packets;
      bytes += unit.bytes;
    }
    // As much as comes is enough in a queue that is within its bounds, whoever stores beside.
    return {
      packets: Math.max(packets, this.#state.packets + packets - maxPackets),
      bytes: Math.max(MAX_REMOVAL_BYTES, bytes, this.#state.bytes + bytes - maxBytes),
    };
  }

  /**
   * After a COMMIT: tells everybody.
   *
   * @param removeThrough What was removed: of a large removal a part.
   * @returns The units that have to wait for room.
   */
  #answer(job: Job, removeThrough: number, result: CommitResult): PendingEnqueue[] {
    const { state, batches, refused } = result;
    const unplaced: PendingEnqueue[] = [];
    const { units, removal } = job;
    const grown = this.#take(state);
    let nextId = batches[0]?.firstId ?? 0;
    for (let i = 0; i < units.length; i++) {
      const unit = units[i];
      if (unit === undefined) break;
      const limit = refused.size === 0 ? undefined : refused.get(i);
      if (limit === undefined) {
        this.#finish(unit);
        unit.resolve(nextId);
        nextId += unit.packets;
      } else if (this.#options.overflow === "wait") {
        this.#waitAgain(unit);
        unplaced.push(unit);
      } else {
        this.#finish(unit);
        unit.reject(new QueueFullError(limit, this.bounds[limit]));
      }
    }
    if (removal !== undefined && removeThrough < removal.throughId) this.#removeRest(removal);
    else for (const waiter of removal?.waiters ?? []) waiter.resolve();
    this.#events.committed(result, removeThrough);
    if (grown) this.#events.grown();
    return unplaced;
  }

  /** A part of it is done. */
  #removeRest({ throughId, waiters }: Removal): void {
    const next = this.#removal;
    this.#removal = {
      throughId: Math.max(throughId, next?.throughId ?? 0),
      waiters: [...waiters, ...next?.waiters ?? []],
      isRest: true,
    };
  }

  #fail(job: Job, error: unknown): void {
    for (const unit of job.units) {
      if (unit.phase === "withdrawn") continue;
      this.#finish(unit);
      unit.reject(error);
      this.#events.refused(error);
    }
    for (const waiter of job.removal?.waiters ?? []) waiter.reject(error);
  }

  #finish(unit: PendingEnqueue): void {
    this.#pending.uncount(unit);
    unit.phase = "committing";
    unit.release?.();
  }

  #isClosed(): boolean {
    return this.#phase === "closed";
  }
}
