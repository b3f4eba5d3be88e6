/** What the queue asks of its file, or of a database. One call is one transaction. */

import type { PacketBatch } from "../../base/ports.ts";
import type { KeptCounts, QueueStats } from "../../base/queue_stats.ts";
import type {
  DeadLetter,
  DeathReason,
  DroppedPackets,
  Due,
  IdRange,
  Overflow,
  PacketCount,
  PacketSpan,
} from "./types.ts";

/** When a transaction is asked for; `queue_time.ts` says what the offsets mean. */
export interface Moment {
  readonly wallMs: number;
  /** What this process adds to the wall clock. */
  readonly clockOffsetMs: number;
  /** What the file said when this process last heard of it. */
  readonly knownOffsetMs: number;
}

/** How many dead letters the file may hold; beyond it the oldest are removed. */
export interface DeadLimits {
  readonly maxDeadPackets: number;
  /** Those of their payloads. */
  readonly maxDeadBytes: number;
}

/** What the sender was given of the packets that it has now removed. */
export interface HandedOutCount extends PacketCount {
  /** Up to here everything had left the queue before, as this process knew it. */
  readonly afterId: number;
  /** The last of them. */
  readonly throughId: number;
}

/** What gives way on a full disk: `"oldest"` letters, or `"these"`, which become none. */
export type MakesWay = "oldest" | "these";

export interface TransactionRequest {
  /** When it is asked for; the wall clock is stored with each batch. */
  readonly at: Moment;
  readonly deadLimits: DeadLimits;
  /** Ids up to this one have been on a wire; never lowers what the file says. */
  readonly sentThrough: number;
  readonly makesWay?: MakesWay | undefined;
  /** A file in which fewer ids were ever given out has gone back, and is not written. */
  readonly lastIdAtLeast?: number;
}

export interface CommitRequest extends TransactionRequest {
  /** Removes packets up to and including this id; 0 removes none. */
  readonly removeThrough: number;
  /**
   * What the removal is to concern: when it finds anything else, it fails and nothing
   * is removed. `undefined`: not known. Not compared when another process has removed
   * some of them.
   */
  readonly handedOut: HandedOutCount | undefined;
  /** What to store, in order; the packets of a unit are stored together or not at all. */
  readonly units: readonly PacketSpan[];
  /** The most packets and payload bytes that the file may hold, dead letters apart. */
  readonly maxPackets: number;
  readonly maxBytes: number;
  /** What to do with a unit that does not fit. */
  readonly overflow: Overflow;
}

/** The counts that the file keeps, exact across processes. */
export interface StoreState extends KeptCounts, Pick<QueueStats, "oldestEnqueuedAtMs"> {
  /** Every id up to this one has left the queue, the next one has not; 0 when none ever did. */
  readonly removedThrough: number;
  /** The highest id known to have been on a wire. */
  readonly sentThrough: number;
  /** Payload bytes ever stored; in a file of an older version, since it became one of version 3. */
  readonly storedBytes: number;
  /** The wall clock at the last commit; 0: not known, or the place keeps the time itself. */
  readonly writtenAtMs: number;
  /** What has to be added to the wall clock; see `queue_time.ts`. */
  readonly clockOffsetMs: number;
}

export type Limit = "maxPackets" | "maxBytes";

/** Packets that were moved together. */
export interface MovedPackets extends PacketCount {
  readonly ids: IdRange;
}

/** What every transaction may do besides. */
export interface TransactionResult {
  readonly state: StoreState;
  /** Damaged packets that became dead letters, for each row of them. */
  readonly setAside: readonly MovedPackets[];
  /** Packets and dead letters that had to go to make room. */
  readonly dropped: DroppedPackets | undefined;
}

export interface CommitResult extends TransactionResult {
  /** What was stored: the packets of every unit that was not refused, in order. */
  readonly batches: readonly PacketBatch[];
  /** By index, the units for which there was no room, and the limit they met. */
  readonly refused: ReadonlyMap<number, Limit>;
}

/**
 * A change in the middle of the queue, or of its dead letters.
 *
 * - `"bury"`: packets become dead letters; what is not there any more is passed over
 * - `"set-aside"`: the packets of a damaged row become dead letters; harmless when it is
 *   sound, or gone
 * - `"remove-packets"`: packets are removed
 * - `"requeue"`: dead letters go to the end of the queue under new ids, as many as
 *   one transaction should move
 * - `"remove-dead"`: dead letters are removed
 * - `"keep-time"`: nothing but the clock's offset is written, if it has changed
 */
export type Edit =
  | {
    readonly kind: "bury";
    readonly ranges: readonly IdRange[];
    readonly reason: Exclude<DeathReason, "damaged">;
    readonly attempts: number;
    readonly words?: string | undefined;
  }
  | { readonly kind: "set-aside"; readonly lastId: number }
  | { readonly kind: "remove-packets"; readonly range: IdRange }
  | { readonly kind: "requeue"; readonly range: IdRange; readonly expiresAtMs: number }
  | { readonly kind: "remove-dead"; readonly range: IdRange }
  | { readonly kind: "keep-time" };

export interface EditRequest extends TransactionRequest {
  readonly edit: Edit;
}

export interface Edited extends PacketCount {
  /** After `"requeue"`, the new ids. */
  readonly ids: IdRange | undefined;
  /** After `"requeue"`, the damaged dead letters that were passed over before those that moved. */
  readonly damagedPackets: number;
}

export interface EditResult extends Edited, TransactionResult {}

export interface ReadResult {
  /** Packets that follow, as they were stored. */
  readonly batches: readonly PacketBatch[];
  /** The row behind them, where it is not as it was stored. */
  readonly damaged: {
    /** Its id, for `"set-aside"`. */
    readonly lastId: number;
    readonly words: string;
  } | undefined;
}

/** How large a file is, in pages. */
export interface FileSpace {
  readonly pages: number;
  /** Those among them that hold nothing. */
  readonly freePages: number;
}

/** What a queue can be asked without a change to it. */
export interface StoreReads {
  /**
   * Which packets above `afterId` have expired, and when the next one will.
   *
   * @param order `"by-id"`: those next behind `afterId`, and not all of them when
   *   many that have not expired lie between; `"by-time"`: those that expired first.
   */
  due(afterId: number, nowMs: number, order: "by-id" | "by-time"): Due | Promise<Due>;
  /**
   * The dead letters with ids above `afterId`, in order, up to `maxBytes` in all; at
   * least one when there is one.
   */
  deadLetters(afterId: number, maxBytes: number): DeadLetter[] | Promise<DeadLetter[]>;
  /**
   * The packets that follow `afterId`, in order, up to `maxBytes` in all; at least one when there
   * is one that is sound. When a page in that range cannot be read, the batches before it still
   * come, one at a time.
   */
  read(afterId: number, maxBytes: number): ReadResult | Promise<ReadResult>;
  /** The same for the sender, who is going to send it; left out where that is no other read. */
  handOut?(afterId: number, maxBytes: number): ReadResult | Promise<ReadResult>;
  /** The counts, as last committed by anybody. */
  state(): StoreState | Promise<StoreState>;
  /**
   * A number that changes when another connection has committed; costs a few
   * microseconds.
   */
  dataVersion(): number | Promise<number>;
}

/**
 * The store as the queue uses it: an answer may come later, from a thread or a database. Each
 * method throws a `QueueFileError`, here and in `StoreReads`.
 */
export interface QueueStore {
  /** The file's path without symbolic links. */
  readonly path: string;
  readonly reads: StoreReads;
  /**
   * Removes, stores and counts: all of it or, when this throws, nothing; `QueueFileError.outcome`
   * says when that is not known.
   */
  commit(request: CommitRequest): CommitResult | Promise<CommitResult>;
  /** Makes a change in the middle: as `commit`, all of it or nothing. */
  edit(request: EditRequest): EditResult | Promise<EditResult>;
  space(): FileSpace | Promise<FileSpace>;
  /** Gives up to `pages` free pages back; see `DatabaseFile.vacuumStep`. */
  vacuumStep(pages: number): FileSpace | Promise<FileSpace>;
  /** Moves the log into the file, as far as nobody reads it. Returns whether all of it is moved. */
  checkpoint(): boolean | Promise<boolean>;
  close(): void | Promise<void>;
}

/** A store that is a file, which can be forwarded as a whole. */
export interface FileStore extends QueueStore {
  /** Which file this is to those to whom it is forwarded; `undefined`: it never was. */
  edgeId(): string | undefined | Promise<string | undefined>;
  /** Makes it that file from now on, a UUID, and a file of version 4. */
  setEdgeId(id: string): void | Promise<void>;
  /** When a packet was stored, by the wall clock; `undefined`: it is not there. */
  enqueuedAtMs(id: number): number | undefined | Promise<number | undefined>;
  /**
   * Puts on the disk what other processes have committed, too. Their threads may be about to:
   * whoever gives packets to somebody who keeps their ids must not be quicker.
   */
  sync(): Promise<void>;
}
