/** What an inspector is asked and what it answers. */

import { systemClock } from "../../base/clock.ts";
import { checkFields } from "../../base/options.ts";
import type { Clock } from "../../base/ports.ts";
import type { KeptCounts } from "../../base/queue_stats.ts";
import type { SqliteDriver } from "../sqlite/driver.ts";
import { nodeSqlite } from "../sqlite/node_sqlite.ts";
import { type Counts, keptCountsOf } from "../store/state_table.ts";
import type { DeadLetter, PacketCount } from "../store/types.ts";
import type { QueueProblem } from "./integrity.ts";

/**
 * How to open a queue for looking.
 *
 * @category Queue
 */
export interface InspectOptions {
  /**
   * The library that gives access to SQLite.
   *
   * @default {nodeSqlite}
   */
  readonly driver?: SqliteDriver;
  /**
   * How long to go on trying while the file is locked, as for a moment after
   * its last user has crashed.
   *
   * @default {10_000}
   */
  readonly busyTimeoutMs?: number;
  /**
   * Time.
   *
   * @default {systemClock}
   */
  readonly clock?: Clock;
}

const OPTIONS: readonly (keyof InspectOptions)[] = ["driver", "busyTimeoutMs", "clock"];

/**
 * Fills in the defaults.
 *
 * @throws {OptionError} There is an option that does not exist.
 */
export function resolveInspectOptions(options: InspectOptions): Required<InspectOptions> {
  checkFields("", options, OPTIONS);
  const { driver = nodeSqlite, clock = systemClock, busyTimeoutMs = 10_000 } = options;
  return { driver, clock, busyTimeoutMs };
}

/**
 * Which packets or dead letters to look at.
 *
 * @category Queue
 */
export interface InspectRange {
  /**
   * The lowest id.
   *
   * @default {1}
   */
  readonly fromId?: number;
  /**
   * The highest id.
   *
   * @default {Number.MAX_SAFE_INTEGER}
   */
  readonly toId?: number;
  /**
   * Only what was stored before this moment, in milliseconds since 1970; of
   * dead letters, what died before it.
   *
   * @default {Infinity}
   */
  readonly beforeMs?: number;
}

/**
 * What to read of them.
 *
 * @category Queue
 */
export interface InspectQuery extends InspectRange {
  /**
   * How many of each payload's first bytes to read; `Infinity`: all.
   *
   * @default {0}
   */
  readonly payloadBytes?: number;
}

/**
 * A packet in the queue.
 *
 * @category Queue
 */
export interface InspectedPacket {
  /** Its position in the queue. */
  readonly id: number;
  /** When it was stored, by the wall clock, in milliseconds since 1970. */
  readonly enqueuedAtMs: number;
  /** From when on it is not sent any more; `Infinity`: never. */
  readonly expiresAtMs: number;
  /**
   * - `"waiting"`: not sent yet
   * - `"sent"`: has been on a wire, so that the server may have it; not confirmed
   * - `"expired"`: not sent any more; a sender makes it a dead letter
   */
  readonly state: "waiting" | "sent" | "expired";
  /** The payload's size. */
  readonly bytes: number;
  /** As much of the payload as was asked for; a copy. */
  readonly payload: Uint8Array;
}

/**
 * A packet that nobody sends any more.
 *
 * @category Queue
 */
export interface InspectedDeadLetter extends DeadLetter {
  /** The payload's size. */
  readonly bytes: number;
  /** As much of the payload as was asked for; a copy. */
  readonly payload: Uint8Array;
}

/**
 * What a queue's file counts, and which ids it remembers.
 *
 * @category Queue
 */
export interface QueueCounts extends KeptCounts {
  /** Every id up to this one has left the queue. */
  readonly removedThroughId: number;
  /** The highest id known to have been on a wire. */
  readonly sentThroughId: number;
}

/** What of a queue's counts is shown. */
export function queueCountsOf(counts: Counts): QueueCounts {
  const { removedThrough: removedThroughId, sentThrough: sentThroughId } = counts;
  return { ...keptCountsOf(counts), removedThroughId, sentThroughId };
}

/**
 * Looks into a queue without the right to change it, wherever its packets lie: a
 * `QueueInspector` into a file, `postgresInspector` of `@sendq/sendq/postgres` into a
 * database. A sender and programs that enqueue may go on working beside it. All of it throws a
 * `QueueFileError` where the queue cannot be asked.
 *
 * @category Queue
 */
export interface Inspector extends Disposable {
  /** Where the queue is: the file's path without symbolic links, an address without password. */
  readonly path: string;
  /** The version of its layout; 0: there is nothing in it yet. */
  readonly version: number;
  /** What the queue counts, without looking at its packets. */
  counts(): Promise<QueueCounts>;
  /**
   * The queue's packets by ascending id. Those that come or go meanwhile may be among them
   * or not.
   *
   * @param query Which, and how much of each payload.
   * @throws {QueueFileError} A page cannot be read; the packets before it have come.
   */
  packets(query?: InspectQuery): AsyncGenerator<InspectedPacket>;
  /** How many packets the queue has in a range, and their bytes. */
  countPackets(range?: InspectRange): Promise<PacketCount>;
  /**
   * One packet with its whole payload.
   *
   * @returns `undefined`: it is not in the queue.
   */
  packet(id: number): Promise<InspectedPacket | undefined>;
  /**
   * The dead letters by ascending id.
   *
   * @param query Which, and how much of each payload.
   * @throws {QueueFileError} A page cannot be read; the letters before it have come.
   */
  deadLetters(query?: InspectQuery): AsyncGenerator<InspectedDeadLetter>;
  /** How many dead letters there are in a range, and their bytes. */
  countDeadLetters(range?: InspectRange): Promise<PacketCount>;
  /**
   * One dead letter with its whole payload.
   *
   * @returns `undefined`: there is none with this id.
   */
  deadLetter(id: number): Promise<InspectedDeadLetter | undefined>;
  /**
   * Looks for damage: whether everything can be read, is as it was stored, and agrees with
   * the counts.
   *
   * @param maxProblems Stops after so many; `Infinity`: never.
   * @default {1000}
   * @returns What is wrong; empty: nothing.
   * @throws {RangeError} `maxProblems` is none.
   */
  check(maxProblems?: number): Promise<QueueProblem[]>;
}

/** As databases take it, which have no endless number. */
export function problemsOf(maxProblems: number): number {
  if (maxProblems >= 1) return Math.min(Math.floor(maxProblems), 2 ** 31 - 1);
  throw new RangeError(`maxProblems must be 1 or more, got ${maxProblems}`);
}
