/**
 * The reading side of an open queue: packets from memory where this process has just stored
 * them, else from the file; for the sender, what has neither expired nor been damaged.
 */

import { lastIdOf } from "../../base/packet_batch.ts";
import type { Clock, PacketBatch } from "../../base/ports.ts";
import type { HandedOutCount, ReadResult, StoreReads, StoreState } from "../store/contract.ts";
import type { IdRange, PacketCount } from "../store/types.ts";
import { type ExpiringQueue, Expiry } from "./expiry.ts";
import { HandedOut } from "./handed_out.ts";
import type { QueueTime } from "./queue_time.ts";
import { RecentBatches } from "./recent_batches.ts";

/** Memory for packets just stored, until the sender has read them. */
const RECENT_BYTES = 16 * 1024 * 1024;

const NOTHING: ReadResult = { batches: [], damaged: undefined };

export class PacketReader {
  readonly #store: StoreReads;
  readonly #expiry: Expiry;
  readonly #handedOut = new HandedOut();
  readonly #recent = new RecentBatches(RECENT_BYTES);
  /** Whether anybody reads: only then are packets kept in memory for it. */
  #hasReader = false;
  /** Packets up to this id are read from the file. */
  #storedBeforeId = 0;
  #state: StoreState;

  /**
   * @param state The store's counts.
   * @param graves Makes dead letters.
   * @param time The time by which packets expire.
   */
  constructor(
    store: StoreReads,
    state: StoreState,
    graves: Omit<ExpiringQueue, "due">,
    clock: Clock,
    time: QueueTime,
  ) {
    this.#store = store;
    this.#state = state;
    this.#expiry = new Expiry({ due: (...what) => store.due(...what), ...graves }, clock, time);
  }

  expectReader(): void {
    this.#hasReader = true;
  }

  /**
   * A sender begins. What was kept in memory and given out before is of another time: others
   * may have taken packets out of the middle, or a database has gone back and has others.
   *
   * @param lastId The newest packet by now, which may be this process's and not answered yet.
   */
  begin(lastId: number): void {
    this.#storedBeforeId = lastId;
    this.#recent.clear();
    this.#handedOut.takeBack(0);
  }

  /**
   * What follows `afterId`.
   *
   * @param isToBeSent Whether the sender asks, who sends it then; else anybody, who changes nothing.
   */
  async read(afterId: number, maxBytes: number, isToBeSent = false): Promise<ReadResult> {
    this.#hasReader = true;
    const { lastId, removedThrough } = this.#state;
    if (afterId >= lastId) return NOTHING;
    const recent = this.#recent.read(Math.max(afterId, removedThrough), maxBytes);
    if (recent !== undefined) return { batches: recent, damaged: undefined };
    const store = this.#store;
    if (isToBeSent && store.handOut !== undefined) return await store.handOut(afterId, maxBytes);
    return await store.read(afterId, maxBytes);
  }

  /** What follows `afterId`, for the sender: what is above is taken back from it before. */
  async handOut(
    afterId: number,
    read: () => Promise<ReadResult>,
  ): Promise<readonly PacketBatch[]> {
    this.#handedOut.takeBack(afterId);
    const batches = await this.#expiry.handOut(afterId, read);
    this.#handedOut.give(afterId, batches);
    const last = batches.at(-1);
    // From here on the sender has them; to send them again it reads the file.
    if (last !== undefined) this.#recent.removeThrough(lastIdOf(last));
    return batches;
  }

  handedOut(afterId: number, throughId: number, enough: PacketCount): HandedOutCount | undefined {
    return this.#handedOut.count(afterId, throughId, enough);
  }

  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#expiry.exclusively(work);
  }

  /** These are the store's counts now. */
  knows(state: StoreState): void {
    this.#state = state;
    this.#handedOut.removeThrough(state.removedThrough);
  }

  /** This process has stored packets. */
  stored(batches: readonly PacketBatch[]): void {
    if (this.#hasReader) {
      this.#recent.append(batches.filter(({ firstId }) => firstId > this.#storedBeforeId));
    }
    this.#expiry.onStored(batches);
  }

  othersStored(): void {
    this.#expiry.onOthersStored();
  }

  removed(throughId: number): void {
    this.#recent.removeThrough(throughId);
  }

  /** Packets were taken out of the middle. */
  excised(range: IdRange): void {
    this.#recent.excise(range);
    this.#handedOut.takeBack(range.firstId - 1);
  }

  sweep(): () => void {
    return this.#expiry.sweep();
  }

  stop(): void {
    this.#expiry.stop();
  }

  clear(): void {
    this.#recent.clear();
  }
}
