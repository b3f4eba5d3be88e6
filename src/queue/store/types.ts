/** The words that everything about a queue's file shares. */

/** Packets that somebody has handed over together, where they lie in memory. */
export interface PacketSpan {
  /** A buffer of our own. */
  readonly block: Uint8Array;
  /** Where in it the first packet begins. */
  readonly start: number;
  /** Bytes of all packets, which follow each other without a gap. */
  readonly bytes: number;
  /** How many packets. */
  readonly packets: number;
  /** How large each is; `undefined` for a single one. */
  readonly sizes: Uint32Array | undefined;
  /** From when on, by the wall clock, they are not worth sending; `Infinity`: never. */
  readonly expiresAtMs: number;
}

/**
 * Ids from the first to the last, both included; packets may be missing in between.
 *
 * @category Queue
 */
export interface IdRange {
  /** The first id. */
  readonly firstId: number;
  /** The last id. */
  readonly lastId: number;
}

/** The same ids as ranges in ascending order, no id twice. Ranges without an id are left out. */
export function mergeRanges(ranges: readonly IdRange[]): IdRange[] {
  const merged: IdRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.firstId - b.firstId)) {
    if (range.lastId < range.firstId) continue;
    const before = merged.at(-1);
    if (before !== undefined && range.firstId <= before.lastId + 1) {
      const lastId = Math.max(before.lastId, range.lastId);
      merged[merged.length - 1] = { firstId: before.firstId, lastId };
    } else merged.push(range);
  }
  return merged;
}

/**
 * Packets and their bytes.
 *
 * @category Queue
 */
export interface PacketCount {
  /** How many packets. */
  readonly packets: number;
  /** Their payload bytes. */
  readonly bytes: number;
}

/**
 * Why a packet is not sent any more.
 *
 * - `"expired"`: its time to live was over before it was given to a connection
 * - `"gave-up"`: it was tried in as many connections as it may be
 * - `"damaged"`: its bytes in the file are not those that were stored, or the file
 *   does not say any more where it begins and ends; what is there is kept. Of
 *   packets that cannot be told apart any more the last has the bytes of all, and the others
 *   have none.
 * - `"refused"`: the server has answered that it does not want it
 *
 * @category Queue
 */
export type DeathReason = "expired" | "gave-up" | "damaged" | "refused";

/** Whether a value out of a file is a reason. */
export function isDeathReason(value: unknown): value is DeathReason {
  return value === "expired" || value === "gave-up" || value === "damaged" || value === "refused";
}

/**
 * A packet that nobody sends any more.
 *
 * @category Queue
 */
export interface DeadLetter {
  /** The id that it had in the queue. */
  readonly id: number;
  /** When it was stored, by the wall clock, in milliseconds since 1970. */
  readonly enqueuedAtMs: number;
  /** When it was taken out of the queue. */
  readonly diedAtMs: number;
  /** Why. */
  readonly reason: DeathReason;
  /** Whether it was on a wire, so that the server may have it, whole or in part. */
  readonly sent: boolean;
  /** In how many connections it was tried, where that was counted; else 0. */
  readonly attempts: number;
  /** What the server said to it, in quotes, or why else it could not be sent; where known. */
  readonly words: string | undefined;
  /** Its bytes; of a damaged one what was found, perhaps none. */
  readonly payload: Uint8Array;
}

/**
 * What a resolved enqueue survives.
 *
 * - `"power-loss"`: everything, because each commit waits until the disk has
 *   synced (`synchronous=FULL`)
 * - `"process-crash"`: the death of the process, but not of the machine: power
 *   loss may take the last commits before it (`synchronous=NORMAL`); the file
 *   stays consistent
 *
 * @category Queue
 */
export type Durability = "power-loss" | "process-crash";

/** What has expired, and what will. */
export interface Due {
  /** Packets that have expired: as many as one transaction should move. */
  readonly ranges: readonly IdRange[];
  /** When the next packet expires that has not yet; `Infinity`: none does. */
  readonly nextAtMs: number;
}

/**
 * What to do with a packet for which there is no room.
 *
 * @category Queue
 */
export type Overflow = "reject" | "wait" | "drop-oldest";

/**
 * Packets removed before they were confirmed, or dead letters removed, because there were too many.
 *
 * @category Queue
 */
export interface DroppedPackets {
  /** How many, dead letters included. */
  readonly packets: number;
  /** Their bytes. */
  readonly bytes: number;
  /** The highest id among those that were in the queue; 0: all were dead letters. */
  readonly throughId: number;
}
