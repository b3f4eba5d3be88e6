// deno-lint-ignore-file no-console
/**
 * Many senders in one process, at work and idle: each its own queue, in a file of its own or all
 * in one spool, all to one sink.
 * Prints one line of JSON.
 *
 * Packets come evenly spread over the senders, and not from all of them in the same
 * millisecond: what is measured is many remotes, and not a burst.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import type { OutboundQueue } from "../src/queue/queue.ts";
import { Sender } from "../src/sender/sender.ts";
import { spoolQueue } from "../src/spool/spool.ts";
import { PacketMaker } from "./packet.ts";
import { type Quantiles, quantiles } from "./statistics.ts";

/** What to do. */
export interface ManyOptions {
  readonly port: number;
  readonly senders: number;
  /** Where the queues lie. @default {"files"} */
  readonly queues?: "files" | "spool";
  readonly packetBytes: number;
  /** Packets a second for each. */
  readonly packetsPerSecond: number;
  readonly measureMs: number;
  /** Above the hold time, so that removals have begun. @default {2500} */
  readonly warmUpMs?: number;
  /** @default {5000} */
  readonly idleMs?: number;
}

/** What came of it. */
export interface ManyReport {
  /** How long it took until all were connected. */
  readonly openMs: number;
  readonly packetsPerSecond: number;
  readonly rssBytes: number;
  /** On disk, in all files together. */
  readonly diskBytes: number;
  /** Of one core, while packets come. */
  readonly busyCpu: number;
  /** Of one core, for all together, while connected and with nothing to send. */
  readonly idleCpu: number;
  /** From the call of enqueue to its answer, in milliseconds. */
  readonly storedMs: Quantiles;
  /** Enqueued in all, for the comparison with what the sink received. */
  readonly enqueued: number;
}

async function run(options: ManyOptions): Promise<ManyReport> {
  const { port, senders, packetBytes, packetsPerSecond, measureMs } = options;
  const { warmUpMs = 2500, idleMs = 5000, queues = "files" } = options;
  const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  try {
    const openedFromMs = performance.now();
    const all = await openAll(
      (i) =>
        queues === "spool" ? spoolQueue(`${directory}/spool.db`, `${i}`) : `${directory}/${i}.db`,
      port,
      senders,
    );
    const makers = all.map((_, i) => new PacketMaker(packetBytes, i));
    const openMs = performance.now() - openedFromMs;
    await sleep(1000); // What opening them has left behind comes to its end.

    let storedMs: number[] = [];
    const pending = new Set<Promise<void>>();
    const enqueue = async (number: number) => {
      const i = number % senders;
      const fromMs = performance.now();
      await at(all, i).enqueue(at(makers, i).next());
      storedMs.push(performance.now() - fromMs);
    };
    let made = 0;
    const startMs = performance.now();
    const pacer = setInterval(() => {
      const due = (performance.now() - startMs) * packetsPerSecond * senders / 1000;
      while (made < due) {
        const promise: Promise<void> = enqueue(made++).finally(() => pending.delete(promise));
        pending.add(promise);
      }
    }, 1);
    const drainedPackets = () => all.reduce((sum, each) => sum + each.stats().drainedPackets, 0);
    await sleep(warmUpMs);
    storedMs = [];
    const before = { drained: drainedPackets(), atMs: performance.now(), cpu: cpuUsage() };
    await sleep(measureMs);
    const busy = cpuUsage(before.cpu);
    const seconds = (performance.now() - before.atMs) / 1000;
    const drained = drainedPackets() - before.drained;
    clearInterval(pacer);
    const rssBytes = Deno.memoryUsage().rss;
    const stored = quantiles(storedMs);

    await Promise.all(pending);
    await Promise.all(all.map((sender) => sender.drained()));
    await sleep(8000); // Holding, removing, giving space back and all reports of it come to their end.
    const diskBytes = bytesIn(directory);
    const idleFrom = cpuUsage();
    const idleFromMs = performance.now();
    await sleep(idleMs);
    const idle = cpuUsage(idleFrom);
    const idleMicroseconds = (performance.now() - idleFromMs) * 1000;
    await Promise.all(all.map((sender) => sender.close()));
    return {
      openMs,
      packetsPerSecond: drained / seconds,
      rssBytes,
      diskBytes,
      busyCpu: (busy.user + busy.system) / 1e6 / seconds,
      idleCpu: (idle.user + idle.system) / idleMicroseconds,
      storedMs: stored,
      enqueued: made,
    };
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** Opens the senders and waits until each is connected. */
async function openAll(
  queueOf: (number: number) => string | Promise<OutboundQueue>,
  port: number,
  senders: number,
): Promise<Sender[]> {
  const all: Sender[] = [];
  for (let i = 0; i < senders; i++) {
    const sender = await Sender.open({
      queue: await queueOf(i),
      closesQueue: true,
      remote: { hostname: "127.0.0.1", port },
      connect: "always",
    });
    all.push(sender);
  }
  await Promise.all(all.map(async (sender) => {
    for await (const { state } of sender.status()) if (state === "connected") break;
  }));
  return all;
}

function bytesIn(directory: string): number {
  let bytes = 0;
  for (const { name } of Deno.readDirSync(directory)) {
    bytes += 512 * (Deno.statSync(`${directory}/${name}`).blocks ?? 0);
  }
  return bytes;
}

function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no item at ${index}`);
  return item;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

if (import.meta.main) {
  const report = await run(JSON.parse(Deno.args[0] ?? "{}"));
  console.log(JSON.stringify(report));
}
