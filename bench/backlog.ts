// deno-lint-ignore-file no-console
/**
 * A backlog: filled while the server is away, opened, delivered. One step a
 * process, so that each one's memory is its own. Prints one line of JSON.
 *
 * @module
 */

import { OutboundQueue } from "../src/queue/queue.ts";
import { Sender } from "../src/sender/sender.ts";
import { PacketMaker } from "./packet.ts";

/** What to do with the queue at `path`. */
export interface BacklogOptions {
  readonly what: "fill" | "open" | "deliver";
  readonly path: string;
  readonly packetBytes: number;
  /** For `"fill"`. */
  readonly packets: number;
  /** For `"deliver"`. */
  readonly port?: number;
  /** For `"deliver"`: enqueuers that go on meanwhile. */
  readonly enqueuers?: number;
}

/** What it took. */
export interface BacklogReport {
  readonly ms: number;
  readonly packetsPerSecond: number;
  readonly enqueuedPerSecond: number;
  readonly rssBytes: number;
  /** The file with its log at the end; after `"deliver"`, once it has stopped shrinking. */
  readonly fileBytes: number;
}

const BATCH = 2000;
/** Free pages below 4 MiB are kept for the next packets. */
const SMALL_BYTES = 5 * 1024 * 1024;

async function run(options: BacklogOptions): Promise<BacklogReport> {
  const { path, packetBytes } = options;
  const startMs = performance.now();
  const queue = await OutboundQueue.open(path, { maxPackets: 2e7, maxBytes: 2 ** 33 });
  const openMs = performance.now() - startMs;
  let rssBytes = Deno.memoryUsage().rss;
  const watch = setInterval(() => rssBytes = Math.max(rssBytes, Deno.memoryUsage().rss), 20);
  const report = (ms: number, packets: number, enqueued = 0): BacklogReport => ({
    ms,
    packetsPerSecond: packets / ms * 1000,
    enqueuedPerSecond: enqueued / ms * 1000,
    rssBytes,
    fileBytes: sizeOf(path) + sizeOf(`${path}-wal`),
  });
  try {
    switch (options.what) {
      case "open":
        return report(openMs, queue.stats().packets);
      case "fill": {
        const maker = new PacketMaker(packetBytes);
        while (maker.made < options.packets) {
          await queue.enqueueMany(Array.from({ length: BATCH }, () => maker.next().slice()));
        }
        return report(performance.now() - startMs, maker.made);
      }
      case "deliver": {
        const before = queue.stats().packets;
        const maker = new PacketMaker(packetBytes, 1);
        const fromMs = performance.now();
        const sender = await Sender.open({
          queue,
          remote: { hostname: "127.0.0.1", port: options.port ?? 0 },
        });
        let going = true;
        const producers = Array.from({ length: options.enqueuers ?? 0 }, async () => {
          while (going) await sender.enqueue(maker.next());
        });
        while (sender.stats().drainedPackets < before) await sleep(5);
        going = false;
        const ms = performance.now() - fromMs;
        await Promise.all(producers);
        await sender.close({ deliverTimeoutMs: 60_000 });
        if (queue.stats().packets > 0) throw new Error("the backlog was not delivered");
        // The space is given back in small steps, and shows at the end of them.
        for (let i = 0; i < 40 && sizeOf(path) > SMALL_BYTES; i++) await sleep(250);
        return report(ms, before, maker.made);
      }
    }
  } finally {
    clearInterval(watch);
    await queue.close();
  }
}

function sizeOf(path: string): number {
  try {
    return Deno.statSync(path).size;
  } catch {
    return 0;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

if (import.meta.main) {
  const report = await run(JSON.parse(Deno.args[0] ?? "{}"));
  console.log(JSON.stringify(report));
}
