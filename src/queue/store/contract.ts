/**
 * What the queue asks of its file. One call is one transaction, and what goes in
 * and out can be cloned, so that a store can live in a Worker.
 *
 * @module
 */

import type { PacketBatch } from "../../base/ports.ts";
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

/** One transaction. */
export interface CommitRequest {
  /** Removes packets up to and including this id; 0 removes none. */
  readonly removeThrough: number;
  /** Ids up to this one have been on a wire; never lowers what the file says. */
  readonly sentThrough: number;
  /** What to store, in order; the packets of a unit are stored together or not at all. */
  readonly units: readonly PacketSpan[];
  /** Wall clock of this commit, stored with each batch. */
  readonly enqueuedAtMs: number;
  /** The most packets that the file may hold, dead letters included. */
  readonly maxPackets: number;
  /** The most payload bytes that the file may hold, dead letters included. */
  readonly maxBytes: number;
  /** What to do with a unit that does not fit. */
  readonly overflow: Overflow;
}

/** The counts that the file keeps, exact across processes. */
export interface StoreState {
  /** Packets in the queue. */
  readonly packets: number;
  /** Their payload bytes. */
  readonly bytes: number;
  /** The highest id ever given; 0 when there never was one. */
  readonly lastId: number;
  /** Every id up to this one has left the queue, the next one has not; 0 when none ever did. */
  readonly removedThrough: number;
  /** The highest id known to have been on a wire. */
  readonly sentThrough: number;
  /** Packets dropped for want of room since the file was made. */
  readonly droppedPackets: number;
  /** Their bytes. */
  readonly droppedBytes: number;
  /** Dead letters in the file. */
  readonly deadPackets: number;
  /** Their payload bytes. */
  readonly deadBytes: number;
  /** Packets that expired, since the file was made. */
  readonly expiredPackets: number;
  /** Packets that were given up, since the file was made. */
  readonly gaveUpPackets: number;
  /** When the oldest packet was stored, by the wall clock; `undefined` when empty. */
  readonly oldestEnqueuedAtMs: number | undefined;
}

/** A limit that a unit ran into. */
export type Limit = "maxPackets" | "maxBytes";

/** What a transaction did. */
export interface CommitResult {
  /** The file's counts after it. */
  readonly state: StoreState;
  /** What was stored: the packets of every unit that was not refused, in order. */
  readonly batches: readonly PacketBatch[];
  /** By index, the units for which there was no room, and the limit they met. */
  readonly refused: ReadonlyMap<number, Limit>;
  /** The packets that had to go, with `"drop-oldest"`. */
  readonly dropped: DroppedPackets | undefined;
}

/**
 * A change in the middle of the queue, or of its dead letters.
 *
 * - `"bury"`: packets become dead letters; what is not there any more is passed over
 * - `"remove-packets"`: packets are removed
 * - `"requeue"`: dead letters go to the end of the queue under new ids, as many as
 *   one transaction should move
 * - `"remove-dead"`: dead letters are removed
 */
export type Edit =
  | {
    readonly kind: "bury";
    readonly ranges: readonly IdRange[];
    readonly reason: DeathReason;
    /** In how many connections each was tried. */
    readonly attempts: number;
  }
  | { readonly kind: "remove-packets"; readonly range: IdRange }
  | { readonly kind: "requeue"; readonly range: IdRange; readonly expiresAtMs: number }
  | { readonly kind: "remove-dead"; readonly range: IdRange };

/** An edit and what it needs to know. */
export interface EditRequest {
  /** What to do. */
  readonly edit: Edit;
  /** The wall clock. */
  readonly atMs: number;
  /** Ids up to this one have been on a wire; never lowers what the file says. */
  readonly sentThrough: number;
}

/** What an edit did. */
export interface EditResult extends PacketCount {
  /** The file's counts after it. */
  readonly state: StoreState;
  /** After `"requeue"`, the new ids. */
  readonly ids: IdRange | undefined;
}

/** What one step of giving space back left behind. */
export interface FileSpace {
  /** Pages in the file. */
  readonly pages: number;
  /** Pages among them that hold nothing. */
  readonly freePages: number;
}

/** The store as the queue uses it: an answer may come later, from a Worker. */
export interface QueueStore {
  /** The file's path without symbolic links. */
  readonly path: string;
  /** See {@linkcode SqliteStore.commit}. */
  commit(request: CommitRequest): CommitResult | Promise<CommitResult>;
  /** See {@linkcode SqliteStore.edit}. */
  edit(request: EditRequest): EditResult | Promise<EditResult>;
  /** See {@linkcode SqliteStore.due}. */
  due(afterId: number, nowMs: number, order: "by-id" | "by-time"): Due | Promise<Due>;
  /** See {@linkcode SqliteStore.deadLetters}. */
  deadLetters(afterId: number, maxBytes: number): DeadLetter[] | Promise<DeadLetter[]>;
  /** See {@linkcode SqliteStore.read}. */
  read(afterId: number, maxBytes: number): PacketBatch[] | Promise<PacketBatch[]>;
  /** See {@linkcode SqliteStore.state}. */
  state(): StoreState | Promise<StoreState>;
  /** See {@linkcode SqliteStore.dataVersion}. */
  dataVersion(): number | Promise<number>;
  /** See {@linkcode SqliteStore.space}. */
  space(): FileSpace | Promise<FileSpace>;
  /** See {@linkcode SqliteStore.vacuumStep}. */
  vacuumStep(pages: number): FileSpace | Promise<FileSpace>;
  /** See {@linkcode SqliteStore.checkpoint}. */
  checkpoint(): void | Promise<void>;
  /** See {@linkcode SqliteStore.close}. */
  close(): void | Promise<void>;
}
