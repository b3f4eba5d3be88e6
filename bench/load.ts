// deno-lint-ignore-file no-console
/**
 * One load on one Sender, in a process of its own: enqueuers that each await
 * every packet, or packets at a steady rate. Prints one line of JSON.
 *
 * ```sh
 * deno run -A bench/load.ts '{"port":4000,"enqueuers":100,"packetBytes":100}'
 * ```
 *
 * @module
 */

import { cpuUsage } from "node:process";
import type { QueueOptions } from "../src/queue/options.ts";
import { OutboundQueue } from "../src/queue/queue.ts";
import type { SqliteDatabase, SqliteDriver } from "../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../src/queue/sqlite/node_sqlite.ts";
import { Sender } from "../src/sender/sender.ts";
import { monotonicMs } from "./clock.ts";
import { PacketMaker } from "./packet.ts";
import { type Quantiles, quantiles } from "./statistics.ts";

/**
 * The hold, so that removals have begun, and a second in which the file, its log and the compiled
 * code grow: what is removed while it is measured was stored after that.
 */
export const WARM_UP_MS = 3000;

/** What to do. */
export interface LoadOptions {
  readonly port: number;
  readonly hostname?: string;
  readonly packetBytes: number;
  /** How many await each of their packets; 0 with a rate. */
  readonly enqueuers: number;
  /** Packets a second, whether they are stored yet or not. */
  readonly packetsPerSecond?: number;
  readonly queueOptions?: Pick<QueueOptions, "durability" | "syncIn" | "commitIntervalMs">;
  readonly maxInFlightBytes?: number;
  /** Speaks TLS, and trusts this authority. */
  readonly tls?: { readonly ca: string };
  /** @default {WARM_UP_MS} */
  readonly warmUpMs?: number;
  /** @default {2000} */
  readonly measureMs?: number;
  /** Makes it slower on purpose, to see whether the gate notices. */
  readonly planted?: Planted;
}

/**
 * - `"second-sync"`: every commit syncs to the disk twice
 * - `"slow-enqueue"`: every enqueue burns a few microseconds
 */
export type Planted = "second-sync" | "slow-enqueue";

/** What came of it. */
export interface LoadReport {
  /** Packets a second that were stored, received and confirmed, and taken off the disk: the least. */
  readonly packetsPerSecond: number;
  readonly enqueuedPerSecond: number;
  readonly drainedPerSecond: number;
  readonly removedPerSecond: number;
  /** From the call of enqueue to its answer, in milliseconds. */
  readonly storedMs: Quantiles | undefined;
  /** How late a timer of 1 ms fired meanwhile. */
  readonly timerLateMs: Quantiles;
  readonly rssBytes: number;
  /** CPU seconds of this process for a million packets. */
  readonly cpuSecondsPerMillion: number;
  readonly commitsPerPacket: number;
  readonly packetsPerCommit: number;
  /** Enqueued in all, for the comparison with what the sink received. */
  readonly enqueued: number;
  /** When was measured, by CLOCK_MONOTONIC: packets that were enqueued then. */
  readonly measured: { readonly fromMs: number; readonly untilMs: number };
  readonly redelivered: number;
}

/** Of every so many enqueuers, one notes when the answers come. */
const SAMPLE_EVERY = 16;

/** What a planted `"slow-enqueue"` burns. */
const SLOW_ENQUEUE_MS = 0.01;

/** node:sqlite, with its commits counted. */
class CountingDriver implements SqliteDriver {
  readonly name = nodeSqlite.name;
  readonly #afterCommit: () => void;
  commits = 0;

  constructor(afterCommit: () => void) {
    this.#afterCommit = afterCommit;
  }

  open(path: string, options: Parameters<SqliteDriver["open"]>[1]): SqliteDatabase {
    const database = nodeSqlite.open(path, options);
    return {
      prepare: (sql: string) => {
        const statement = database.prepare(sql);
        if (sql !== "COMMIT") return statement;
        return {
          run: (params: Parameters<typeof statement.run>[0]) => {
            this.commits++;
            statement.run(params);
            this.#afterCommit();
          },
          all: statement.all.bind(statement),
        };
      },
      close: () => database.close(),
    };
  }
}

/** Runs the load. */
export async function run(options: LoadOptions): Promise<LoadReport> {
  const { port, hostname = "127.0.0.1", warmUpMs = WARM_UP_MS, measureMs = 2000 } = options;
  const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  using planted = plant(options.planted, directory);
  const driver = new CountingDriver(planted.afterCommit);
  const queue = await OutboundQueue.open(`${directory}/outbox.db`, {
    driver,
    ...options.queueOptions,
  });
  const maker = new PacketMaker(options.packetBytes);
  try {
    const sender = await Sender.open({
      queue,
      remote: { hostname, port, scheme: options.tls === undefined ? "tcp" : "tls" },
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      ...(options.maxInFlightBytes === undefined
        ? {}
        : { maxInFlightBytes: options.maxInFlightBytes }),
    });
    const stored: number[] = [];
    let going = true;
    let enqueued = 0;
    const sampled = async (): Promise<void> => {
      const atMs = monotonicMs();
      planted.beforeEnqueue();
      await sender.enqueue(maker.next(atMs));
      enqueued++;
      stored.push(monotonicMs() - atMs);
    };
    const producers = Array.from({ length: options.enqueuers }, async (_, i) => {
      if (i % SAMPLE_EVERY === 0) { while (going) await sampled(); }
      else {while (going) {
          planted.beforeEnqueue();
          await sender.enqueue(maker.next());
          enqueued++;
        }}
    });
    const { packetsPerSecond } = options;
    const paced = new Set<Promise<void>>();
    const startMs = performance.now();
    const pacer = packetsPerSecond === undefined ? undefined : setInterval(() => {
      const due = Math.floor((performance.now() - startMs) * packetsPerSecond / 1000);
      while (maker.made < due) {
        const promise: Promise<void> = sampled().finally(() => paced.delete(promise));
        paced.add(promise);
      }
    }, 1);

    const late: number[] = [];
    let watching = false;
    const watch = (dueMs: number) => {
      const nowMs = performance.now();
      if (watching) late.push(Math.max(0, nowMs - dueMs));
      if (going) setTimeout(watch, 1, nowMs + 1);
    };
    watch(performance.now());

    const marks = () => ({
      enqueued,
      drained: sender.stats().drainedPackets,
      removed: queue.removedThroughId,
    });
    await sleep(warmUpMs);
    stored.length = 0;
    watching = true;
    const fromMs = monotonicMs();
    const before = {
      atMs: performance.now(),
      ...marks(),
      cpu: cpuUsage(),
      commits: driver.commits,
    };
    await sleep(measureMs);
    const after = { atMs: performance.now(), ...marks(), commits: driver.commits };
    const cpu = cpuUsage(before.cpu);
    const rssBytes = Deno.memoryUsage().rss;
    watching = going = false;
    const measured = { fromMs, untilMs: monotonicMs() };
    clearInterval(pacer);
    await Promise.all([...producers, ...paced]);
    await sender.close({ deliverTimeoutMs: 30_000 });
    const left = queue.stats().packets;
    if (left > 0) throw new Error(`${left} packets were not delivered`);

    const seconds = (after.atMs - before.atMs) / 1000;
    const rate = (what: "enqueued" | "drained" | "removed") =>
      (after[what] - before[what]) / seconds;
    const packets = after.enqueued - before.enqueued;
    const commits = after.commits - before.commits;
    return {
      packetsPerSecond: Math.min(rate("enqueued"), rate("drained"), rate("removed")),
      enqueuedPerSecond: rate("enqueued"),
      drainedPerSecond: rate("drained"),
      removedPerSecond: rate("removed"),
      storedMs: stored.length === 0 ? undefined : quantiles(stored),
      timerLateMs: quantiles(late),
      rssBytes,
      cpuSecondsPerMillion: (cpu.user + cpu.system) / packets,
      commitsPerPacket: commits / packets,
      packetsPerCommit: packets / commits,
      enqueued: maker.made,
      measured,
      redelivered: sender.stats().redeliveredPackets,
    };
  } finally {
    await queue.close();
    Deno.removeSync(directory, { recursive: true });
  }
}

/** What makes a load slower on purpose. */
function plant(
  what: Planted | undefined,
  directory: string,
): Disposable & { readonly afterCommit: () => void; readonly beforeEnqueue: () => void } {
  const nothing = () => {};
  const planted = { afterCommit: nothing, beforeEnqueue: nothing, [Symbol.dispose]: nothing };
  switch (what) {
    case undefined:
      return planted;
    case "slow-enqueue": {
      const beforeEnqueue = () => {
        const untilMs = performance.now() + SLOW_ENQUEUE_MS;
        while (performance.now() < untilMs);
      };
      return { ...planted, beforeEnqueue };
    }
    case "second-sync": {
      const file = Deno.openSync(`${directory}/planted`, { create: true, write: true });
      const block = new Uint8Array(4096);
      const afterCommit = () => {
        file.writeSync(block);
        file.syncDataSync();
      };
      return { ...planted, afterCommit, [Symbol.dispose]: () => file.close() };
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

if (import.meta.main) {
  const report = await run(JSON.parse(Deno.args[0] ?? "{}"));
  console.log(JSON.stringify(report));
}
