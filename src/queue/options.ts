import { systemClock } from "../base/clock.ts";
import { QUEUE_OPTIONS } from "../base/option_table.ts";
import { checkFields, resolveOptions } from "../base/options.ts";
import type { Clock } from "../base/ports.ts";
import type { SqliteDriver } from "./sqlite/driver.ts";
import { nodeSqlite } from "./sqlite/node_sqlite.ts";
import type { DeathReason, Durability, IdRange, Overflow, PacketCount } from "./store/types.ts";

export type { KeptCounts, QueueStats, StoreFailure } from "../base/queue_stats.ts";
export type { IdRange, PacketCount } from "./store/types.ts";

/**
 * Where a queue's file is synced; see {@linkcode QueueOptions.syncIn}.
 *
 * @category Queue
 */
export type SyncIn = "auto" | "loop" | "threads";

/**
 * How a queue behaves; every field has a default.
 *
 * @category Queue
 */
export interface QueueOptions {
  /**
   * What a resolved enqueue survives. `"power-loss"` waits for the disk to
   * sync in every commit (about 0.1 ms on an SSD, 5 to 10 ms on a spinning
   * disk, shared by all packets of the commit). `"process-crash"` does not
   * wait: the packets of the last moments before a power cut or a kernel crash
   * may be lost, those before a crash of the process are not.
   *
   * @default {"power-loss"}
   */
  readonly durability?: Durability;
  /**
   * Who waits for the disk, with the durability `"power-loss"`.
   *
   * - `"loop"`: the event loop, which stands still during each sync
   * - `"threads"`: threads of the runtime. The loop goes on however slow the disk is, many
   *   queues wait at the same time, and removals are synced within 2 s or with the next
   *   packets. An enqueuer that awaits each packet feels about 0.1 ms more on a fast disk.
   * - `"auto"`: `"threads"` once 16 commits in a row took more than 1 ms, and `"loop"` again
   *   once 16 took less than 0.5 ms, each beside 1 ms for every 256 KiB that it wrote; where
   *   several queues of the process are on that disk, those divided by how many
   *
   * Threads need the right to read SQLite's log, `--allow-read=QUEUE-wal`. Without it `"auto"`
   * means `"loop"`.
   *
   * @default {"auto"}
   */
  readonly syncIn?: SyncIn;
  /**
   * How far apart commits begin, at least; at most 1 s. What comes in between shares the next
   * one: fewer syncs, and less wear of a flash card, for packets that are stored and sent so much
   * later at the most. Neither the first after a pause waits, nor 256 packets or 32 KiB. Who
   * awaits each packet stores one an interval.
   *
   * @default {0}
   */
  readonly commitIntervalMs?: number;
  /**
   * The most packets in the queue; dead letters have bounds of their own.
   *
   * @default {10_000_000}
   */
  readonly maxPackets?: number;
  /**
   * The most payload bytes in the queue; dead letters have bounds of their own. The file
   * itself is larger by about 6 bytes a packet where many are stored at a time, 50
   * where each is stored alone, and has a log of a few MiB beside it.
   *
   * @default {1_073_741_824} 1 GiB
   */
  readonly maxBytes?: number;
  /**
   * The most dead letters in the file; 0 keeps none. Beyond it the oldest are removed,
   * counted in `droppedPackets` and reported through `subscribeDropped`.
   *
   * @default {100_000}
   */
  readonly maxDeadPackets?: number;
  /**
   * The most payload bytes of dead letters in the file, as for `maxDeadPackets`.
   *
   * @default {268_435_456} 256 MiB
   */
  readonly maxDeadBytes?: number;
  /**
   * The largest packet; at most 512 MiB.
   *
   * @default {16_777_216} 16 MiB
   */
  readonly maxPacketBytes?: number;
  /**
   * What happens to a packet that would exceed `maxPackets` or `maxBytes`:
   *
   * - `"reject"`: `enqueue` rejects with `QueueFullError`
   * - `"wait"`: `enqueue` waits until there is room, first come, first served
   * - `"drop-oldest"`: the oldest packets are removed *before they are confirmed*, counted in
   *   `droppedPackets` and reported through `subscribeDropped`. One that was on its way is
   *   not sent again; where it is confirmed all the same, it counts as that, too
   *
   * While the disk or the database does not answer, packets wait in memory, each with its
   * bytes and about 500 more. With `"reject"` no more wait than the queue may hold. With
   * `"drop-oldest"` it is that and a transaction more (4096 packets, 512 KiB); beyond it
   * `enqueue` of the oldest rejects with `QueueFullError`. With `"wait"` all of them wait:
   * await `enqueue`, or use `sender.writable`, which holds the producer back.
   *
   * @default {"reject"}
   */
  readonly overflow?: Overflow;
  /**
   * How long a packet is worth sending, in milliseconds from the call that
   * enqueues it, where that call does not say otherwise; at least 1. A packet
   * that was not given to a connection by then becomes a dead letter: it is not
   * sent, and it stays in the file until somebody puts it back or removes it, or there
   * are more than `maxDeadPackets`.
   *
   * Counts time that has passed: a clock that is set meanwhile makes nothing expire.
   * The time between two runs is taken from the wall clock; it does not count where the
   * clock has gone back, said a date before 2026, or more than 400 days have passed.
   * Nor does the time for which a machine is suspended.
   *
   * @default {Infinity}
   */
  readonly ttlMs?: number;
  /**
   * How long to go on trying while another process holds the file's write lock.
   *
   * @default {10_000}
   */
  readonly busyTimeoutMs?: number;
  /**
   * The library that gives access to SQLite.
   *
   * @default {nodeSqlite}
   */
  readonly driver?: SqliteDriver;
  /**
   * Time.
   *
   * @default {systemClock}
   */
  readonly clock?: Clock;
}

const ENQUEUE_OPTIONS: readonly (keyof EnqueueOptions)[] = ["signal", "ttlMs"];
const REQUEUE_OPTIONS: readonly (keyof RequeueOptions)[] = ["ttlMs"];

/** @throws {OptionError} A value is out of range. */
export function resolveQueueOptions(options: QueueOptions): Required<QueueOptions> {
  const { driver = nodeSqlite, clock = systemClock } = options;
  const resolved = resolveOptions(QUEUE_OPTIONS, options);
  return { ...resolved, driver, clock };
}

/** @throws {OptionError} There are others than a file's, or they are no object; so below. */
export function checkQueueOptions(options: QueueOptions): void {
  checkFields("", options, [QUEUE_OPTIONS, "driver", "clock"]);
}

export function checkEnqueueOptions(options: EnqueueOptions | undefined): void {
  if (options !== undefined) checkFields("", options, ENQUEUE_OPTIONS);
}

export function checkRequeueOptions(options: RequeueOptions): void {
  checkFields("", options, REQUEUE_OPTIONS);
}

/** @throws {RangeError} It is no range of ids. */
export function checkIdRange({ firstId, lastId }: IdRange): void {
  for (const [name, id, min] of [["firstId", firstId, 0], ["lastId", lastId, firstId]] as const) {
    if (!Number.isSafeInteger(id) || id < min) {
      throw new RangeError(`${name} must be an integer of ${min} or more, got ${String(id)}`);
    }
  }
}

/**
 * What can be passed to an enqueue.
 *
 * @category Queue
 */
export interface EnqueueOptions {
  /**
   * Gives up as long as the packet has not been handed to the disk: the promise
   * rejects with the signal's reason and nothing is stored.
   */
  readonly signal?: AbortSignal | undefined;
  /**
   * How long these packets are worth sending, in milliseconds from this call.
   *
   * @default {QueueOptions.ttlMs}
   */
  readonly ttlMs?: number | undefined;
}

/**
 * How dead letters are put back.
 *
 * @category Queue
 */
export interface RequeueOptions {
  /**
   * How long they are worth sending, in milliseconds from this call.
   *
   * @default {Infinity}
   */
  readonly ttlMs?: number | undefined;
}

/**
 * Dead letters that were put back.
 *
 * @category Queue
 */
export interface RequeuedPackets extends PacketCount {
  /**
   * The first and the last of their new ids; `undefined` when there were none.
   * With more than 4096, other packets may have been stored in between.
   */
  readonly ids: IdRange | undefined;
  /** Damaged dead letters in the range: what they hold was never stored, and they stay. */
  readonly damagedPackets: number;
}

/**
 * Packets that became dead letters together.
 *
 * @category Queue
 */
export interface DeadPackets extends PacketCount {
  /** Why. */
  readonly reason: DeathReason;
  /** The first and the last of them; there may be others in between. */
  readonly ids: IdRange;
}
