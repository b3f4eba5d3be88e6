import { systemClock } from "../clock.ts";
import type { Clock } from "../ports.ts";
import type { SqliteDriver } from "./driver.ts";
import { nodeSqlite } from "./node_sqlite.ts";
import type { Durability } from "./schema.ts";
import type { Overflow } from "./store.ts";

/** How a queue behaves; every field has a default. */
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
   * The most packets in the file.
   *
   * @default {10_000_000}
   */
  readonly maxPackets?: number;
  /**
   * The most payload bytes in the file. The file itself is larger by about
   * 6 bytes a packet where many are stored at a time, 20 where each is stored
   * alone, and has a log of a few MiB beside it.
   *
   * @default {1_073_741_824} 1 GiB
   */
  readonly maxBytes?: number;
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
   * - `"drop-oldest"`: the oldest packets are removed *unsent*, counted in
   *   `droppedPackets` and reported through `subscribeDropped`
   *
   * @default {"reject"}
   */
  readonly overflow?: Overflow;
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

/** SQLite refuses a BLOB beyond 10^9 bytes (SQLITE_MAX_LENGTH). */
const LARGEST_PACKET_BYTES = 512 * 1024 * 1024;

/**
 * Fills in the defaults and checks what was given.
 *
 * @throws {RangeError} A value is out of range.
 */
export function resolveOptions(options: QueueOptions): Required<QueueOptions> {
  const {
    durability = "power-loss",
    maxPackets = 10_000_000,
    maxBytes = 1024 ** 3,
    maxPacketBytes = 16 * 1024 ** 2,
    overflow = "reject",
    busyTimeoutMs = 10_000,
    driver = nodeSqlite,
    clock = systemClock,
  } = options;
  checkChoice("durability", durability, ["power-loss", "process-crash"]);
  checkChoice("overflow", overflow, ["reject", "wait", "drop-oldest"]);
  checkInteger("maxPackets", maxPackets, 1, Number.MAX_SAFE_INTEGER);
  checkInteger("maxBytes", maxBytes, 1, Number.MAX_SAFE_INTEGER);
  checkInteger("maxPacketBytes", maxPacketBytes, 1, LARGEST_PACKET_BYTES);
  checkInteger("busyTimeoutMs", busyTimeoutMs, 0, 2 ** 31 - 1);
  return {
    durability,
    maxPackets,
    maxBytes,
    maxPacketBytes,
    overflow,
    busyTimeoutMs,
    driver,
    clock,
  };
}

function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (!choices.includes(value)) {
    throw new RangeError(`${name} must be one of ${choices.join(", ")}, got ${String(value)}`);
  }
}

function checkInteger(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} must be an integer from ${min} to ${max}, got ${String(value)}`);
  }
}

/** A queue in figures; see {@linkcode OutboundQueue.stats}. */
export interface QueueStats {
  /** Packets in the file. */
  readonly packets: number;
  /** Their payload bytes. */
  readonly bytes: number;
  /** The highest id stored; 0 when there never was one. */
  readonly lastId: number;
  /** When the oldest packet was stored, in ms since 1970; `undefined` when empty. */
  readonly oldestEnqueuedAtMs: number | undefined;
  /** Packets that overflow `"drop-oldest"` removed unsent, since the file was made. */
  readonly droppedPackets: number;
  /** Their payload bytes. */
  readonly droppedBytes: number;
  /** Packets of this process that are not stored yet. */
  readonly waitingPackets: number;
  /** Their payload bytes. */
  readonly waitingBytes: number;
}

/** What can be passed to an enqueue. */
export interface EnqueueOptions {
  /**
   * Gives up as long as the packet has not been handed to the disk: the promise
   * rejects with the signal's reason and nothing is stored.
   */
  readonly signal?: AbortSignal | undefined;
}

/** The ids of packets stored together. */
export interface IdRange {
  /** The first packet's id. */
  readonly firstId: number;
  /** The last packet's id. */
  readonly lastId: number;
}
