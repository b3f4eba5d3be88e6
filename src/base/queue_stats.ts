import type { QueueFileReason } from "./errors.ts";

/**
 * Why this process can store nothing in a queue, from the first enqueue that failed until a
 * packet is stored, by whichever process.
 *
 * @category Queue
 */
export interface StoreFailure {
  /** What was wrong with the queue's file the last time. */
  readonly reason: QueueFileReason;
  /** The same in words. */
  readonly words: string;
  /** Since when, in milliseconds since 1970. */
  readonly sinceMs: number;
}

/**
 * The counts that a queue's file keeps; each is 0 where its version does not know it.
 *
 * @category Queue
 */
export interface KeptCounts {
  /** Packets in the queue. */
  readonly packets: number;
  /** Their payload bytes. */
  readonly bytes: number;
  /** The highest id ever given; 0 when there never was one. */
  readonly lastId: number;
  /**
   * Packets that overflow `"drop-oldest"` removed before they were confirmed, and dead letters
   * that were too many, since the file was made.
   */
  readonly droppedPackets: number;
  /** Their payload bytes. */
  readonly droppedBytes: number;
  /** Dead letters in the file. */
  readonly deadPackets: number;
  /** Their payload bytes. */
  readonly deadBytes: number;
  /** Packets that expired, since the file was made. */
  readonly expiredPackets: number;
  /** Packets that the sender gave up, since the file was made. */
  readonly gaveUpPackets: number;
  /** Packets that were found damaged in the file, since it was made. */
  readonly damagedPackets: number;
  /** Packets that the server has refused, since the file was made. */
  readonly refusedPackets: number;
}

/**
 * A queue in figures; what `OutboundQueue.stats()` gives.
 *
 * @category Queue
 */
export interface QueueStats extends KeptCounts {
  /** When the oldest packet was stored, in ms since 1970; `undefined` when empty. */
  readonly oldestEnqueuedAtMs: number | undefined;
  /** Packets of this process that are not stored yet. */
  readonly waitingPackets: number;
  /** Their payload bytes. */
  readonly waitingBytes: number;
  /** Why nothing can be stored; absent while packets are, or none was tried to be. */
  readonly storeFailure?: StoreFailure;
}
