/**
 * The side of a queue that its sender has: reading in batches, removals, dead letters
 * made of what nobody sends any more, and hearing of other processes' packets. Who only
 * enqueues never meets it; see `sendingSideOf` in `queue.ts`.
 */

import type { ClusterStats } from "../base/cluster_stats.ts";
import { ClosedError } from "../base/errors.ts";
import { lastIdOf } from "../base/packet_batch.ts";
import type { Allocate, Clock, DeliveryQueue, FileWatch, PacketBatch } from "../base/ports.ts";
import type { StoreFailure } from "../base/queue_stats.ts";
import { within } from "../base/waits.ts";
import type { Committer, QueueBounds } from "./commit/committer.ts";
import type { Doorbell } from "./doorbell.ts";
import type { SpareSpace } from "./guarded_store.ts";
import type { QueueListeners } from "./listeners.ts";
import { checkIdRange } from "./options.ts";
import type { EdgeFile, QueuePlace } from "./place.ts";
import type { PacketReader } from "./read/packet_reader.ts";
import type { QueueTime } from "./read/queue_time.ts";
import type { Edit, ReadResult } from "./store/contract.ts";
import type { Durability } from "./store/types.ts";
import type { Tenure } from "./tenure.ts";

/** More than is kept of what a server says. */
const MAX_WORDS = 10_000;

/** The parts of an open queue that its sender works with; the queue has the same ones. */
export interface SendingSideParts {
  readonly place: QueuePlace;
  readonly committer: Committer;
  readonly reader: PacketReader;
  readonly time: QueueTime;
  readonly listeners: QueueListeners;
  readonly isClosed: () => boolean;
  /** Reads what follows an id, and is going to be sent. */
  readonly read: (afterId: number, maxBytes: number) => Promise<ReadResult>;
  readonly close: (reason?: unknown) => Promise<void>;
}

/** What a queue is to its sender. Only for the process that has its `Tenure`. */
export class SendingSide implements DeliveryQueue {
  readonly #parts: SendingSideParts;
  #doorbell: Doorbell | undefined;
  #pollFails = false;
  /** A poll is under way; and another one has to follow, for what was rung meanwhile. */
  #isPolling = false;
  #pollsAgain = false;

  constructor(parts: SendingSideParts) {
    this.#parts = parts;
  }

  /** The highest id known to have been on a wire, or reserved for one. */
  get sentThroughId(): number {
    return this.#parts.committer.state.sentThrough;
  }

  /** Grows whenever the queue's counts may be others. */
  get changes(): number {
    return this.#parts.committer.changes;
  }

  get lastId(): number {
    return this.#parts.committer.state.lastId;
  }

  /** This, `cluster`, `edge` and `durability`: see `QueuePlace`. */
  get lockPath(): string | undefined {
    return this.#parts.place.lockPath;
  }

  cluster(): ClusterStats | undefined {
    return this.#parts.place.cluster?.();
  }

  get edge(): EdgeFile | undefined {
    return this.#parts.place.edge;
  }

  get durability(): Durability | undefined {
    return this.#parts.place.durability;
  }

  get removedThroughId(): number {
    return this.#parts.committer.state.removedThrough;
  }

  /**
   * Waits until packets that are on their way to the disk are there or refused, but for those
   * that wait for room.
   *
   * @param withinMs The longest wait.
   * @returns What is left of it.
   */
  async settledWithin(withinMs: number, clock: Clock): Promise<number> {
    const { committer } = this.#parts;
    if (committer.waitingPackets === 0 || withinMs <= 0) return withinMs;
    const fromMs = clock.nowMs();
    await within(withinMs, committer.settled(), clock);
    return Math.max(0, withinMs - (clock.nowMs() - fromMs));
  }

  /** Lets the queue get fuller. Not less full: what is on its way in was cut to the old bounds. */
  raiseBounds({ maxPackets, maxBytes }: QueueBounds): void {
    const { committer } = this.#parts;
    committer.bounds = {
      maxPackets: Math.max(maxPackets, committer.bounds.maxPackets),
      maxBytes: Math.max(maxBytes, committer.bounds.maxBytes),
    };
  }

  /** Whether the sender is this process's: nobody else has to be rung up. */
  get isAnswering(): boolean {
    return this.#doorbell !== undefined;
  }

  /**
   * Packets that have expired, and those whose bytes in the file are not the ones that were
   * stored, become dead letters when they are next, and are not given out.
   *
   * @throws As for `read`; or what has expired cannot be moved.
   */
  async readBatches(afterId: number, maxBytes: number): Promise<readonly PacketBatch[]> {
    const { reader, read, place } = this.#parts;
    const batches = await reader.handOut(afterId, () => read(afterId, maxBytes));
    const last = batches.at(-1);
    if (last !== undefined) await place.beforeHandingOut?.(lastIdOf(last));
    return batches;
  }

  /**
   * Together with the next packets stored where there are any.
   *
   * @throws {RangeError} `id` is not an id.
   * @throws {QueueFileError} It failed; those that were not removed are still there. Call again.
   */
  async removeThrough(id: number): Promise<void> {
    if (!Number.isSafeInteger(id) || id < 0) {
      throw new RangeError(`id must be a non-negative integer, got ${id}`);
    }
    this.assertOpen();
    // A read finds what others have stored, also where nobody has looked since at how much there
    // is. A removal ends with what is known, and would leave it there without a word.
    if (id > this.lastId) await this.#parts.committer.takeOver();
    if (id <= this.removedThroughId) return;
    await this.#parts.committer.removeThrough(id);
  }

  /**
   * @throws {QueueFileError} It failed; the packet is still there.
   */
  async giveUp(id: number, attempts: number, words?: string): Promise<void> {
    await this.#bury(id, { reason: "gave-up", attempts, words });
  }

  /** @throws As `SendingSide.giveUp`. */
  async refuse(id: number, words: string): Promise<void> {
    await this.#bury(id, { reason: "refused", attempts: 0, words });
  }

  async #bury(
    id: number,
    why: Pick<Extract<Edit, { kind: "bury" }>, "reason" | "attempts" | "words">,
  ): Promise<void> {
    const range = { firstId: id, lastId: id };
    checkIdRange(range);
    const { reader, committer } = this.#parts;
    // Those of somebody's exception may be anything; PostgreSQL's text has no NUL.
    const words = why.words?.slice(0, MAX_WORDS).replaceAll("\0", "\ufffd");
    await reader.exclusively(() =>
      committer.edit({ kind: "bury", ranges: [range], ...why, words })
    );
  }

  /** Written with the next commit that happens anyway, and on close. */
  rememberSent(id: number): void {
    this.#parts.committer.rememberSent(id);
    this.#parts.place.rememberSent?.(id);
  }

  /** @throws {ClosedError} The queue is closed. */
  assertOpen(): void {
    if (this.#parts.isClosed()) throw new ClosedError("The queue is closed.");
  }

  /** From now on keeps what this process stores in memory, too, for `readBatches`. */
  subscribe(onPackets: () => void, onClosed: () => void = () => {}): () => void {
    const { reader, listeners } = this.#parts;
    reader.expectReader();
    const ends = [listeners.packets.add(onPackets), listeners.closed.add(onClosed)];
    return () => ends.forEach((end) => end());
  }

  /**
   * Looks whether another process has committed, and if so takes over its counts and notifies the
   * subscribers. Costs a few microseconds. Tells the file when the wall clock was set.
   *
   * @throws {QueueFileError}
   */
  async pollOtherProcesses(): Promise<void> {
    const { committer } = this.#parts;
    await committer.poll();
    if (this.#hasToKeepTime) await committer.edit({ kind: "keep-time" });
  }

  get #hasToKeepTime(): boolean {
    return this.#parts.time.isToBeNoted && !this.#parts.isClosed();
  }

  /**
   * Takes the exclusive right to send, and looks at how the queue stands by then: whoever had it
   * meanwhile may have taken packets out of the middle.
   *
   * @param signal Ends a wait for it, where another sender is waited for, before it begins as well.
   * @param allocate Keeps disk space without writing it.
   * @throws {QueueLockedError} Another sender has it, and is not waited for.
   */
  async takeTenure(clock: Clock, signal?: AbortSignal, allocate?: Allocate): Promise<Tenure> {
    this.assertOpen();
    signal?.throwIfAborted();
    const tenure = await this.#parts.place.takeTenure(clock, signal, allocate);
    try {
      const { committer, reader } = this.#parts;
      await committer.takeOver();
      reader.begin(committer.state.lastId);
      return tenure;
    } catch (error) {
      await tenure.release();
      throw error;
    }
  }

  /**
   * Makes this queue the sender's: it listens for other processes' packets on the place's doorbell
   * and does not ring it itself, and sweeps what expires. Ends with `stop()` or `close()`.
   *
   * @param watch Tells of changes of files; without it the runtime is asked.
   */
  answerDoorbell(tenure: Tenure, watch?: FileWatch): Doorbell {
    const doorbell = this.#parts.place.listen((rung) => {
      if (this.#hasToPoll(rung)) void this.#pollAndTell();
    }, watch);
    const endSweeping = this.sweepExpired(tenure.spare);
    this.#doorbell = doorbell;
    return {
      ...doorbell,
      stop: () => {
        endSweeping();
        if (this.#doorbell === doorbell) this.#doorbell = undefined;
        return doorbell.stop();
      },
    };
  }

  /** Whoever rings may have committed long after what can be seen of it. */
  #hasToPoll(rung: boolean): boolean {
    return rung || this.#pollFails || this.#parts.place.mayHaveNews?.() !== false ||
      this.#hasToKeepTime;
  }

  /** However often somebody rings, one is under way, and one more waits at most. */
  async #pollAndTell(): Promise<void> {
    this.#pollsAgain = true;
    if (this.#isPolling) return;
    this.#isPolling = true;
    while (this.#pollsAgain) {
      this.#pollsAgain = false;
      await this.#pollOnce();
    }
    this.#isPolling = false;
  }

  async #pollOnce(): Promise<void> {
    let failure: unknown;
    try {
      await this.pollOtherProcesses();
    } catch (error) {
      failure = error;
    }
    const isNews = failure !== undefined || this.#pollFails;
    this.#pollFails = failure !== undefined;
    if (isNews && !this.#parts.isClosed()) this.#parts.listeners.polls.call(failure);
  }

  /** Hears of nothing any more. */
  stopAnswering(): Promise<void> | undefined {
    return this.#doorbell?.stop();
  }

  /**
   * Calls back with the error whenever the file could not be asked for other processes' packets,
   * about once a second, and with `undefined` once it can be asked again. Only while
   * `SendingSide.answerDoorbell` listens. Returns the unsubscription.
   */
  subscribePollFailures(onPoll: (failure: unknown) => void): () => void {
    return this.#parts.listeners.polls.add(onPoll);
  }

  /**
   * Calls back with the error whenever enqueues of this process are rejected with it.
   * Returns the unsubscription.
   */
  subscribeRefused(onRefused: (error: unknown) => void): () => void {
    return this.#parts.listeners.refused.add(onRefused);
  }

  /**
   * Calls back whenever nothing can be stored, at each try, and with `undefined` once packets
   * are stored again. Returns the unsubscription.
   */
  subscribeStoring(onStoring: (failure: StoreFailure | undefined) => void): () => void {
    return this.#parts.listeners.storing.add(onStoring);
  }

  /**
   * From now on removals on a full disk use this space; `answerDoorbell` does it by itself. For who
   * removes before.
   *
   * @param spare That of the tenure, where it has some.
   * @returns Ends it.
   */
  useSpareSpace(spare: SpareSpace | undefined): () => void {
    const { place } = this.#parts;
    place.useSpareSpace(spare);
    return () => place.useSpareSpace(undefined);
  }

  /**
   * From now on makes dead letters of packets soon after they have expired, at most once a second,
   * except for those that `readBatches` has given out; `answerDoorbell` does it by itself.
   *
   * @param spare What to give up for a removal on a full disk.
   * @returns Ends it.
   */
  sweepExpired(spare?: SpareSpace): () => void {
    const endSweeping = this.#parts.reader.sweep();
    const endUse = this.useSpareSpace(spare);
    return () => {
      endSweeping();
      endUse();
    };
  }

  /**
   * Closes the queue; see `OutboundQueue.close`.
   *
   * @param reason What packets that wait for room are rejected with.
   */
  close(reason?: unknown): Promise<void> {
    return this.#parts.close(reason);
  }
}
