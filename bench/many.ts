// deno-lint-ignore-file no-console
/**
 * Many senders in one process, at work and idle. Prints one line of JSON.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import { Sender } from "../src/sender/sender.ts";
import { PacketMaker } from "./packet.ts";

/** What to do. */
export interface ManyOptions {
  readonly port: number;
  readonly senders: number;
  readonly packetBytes: number;
  /** Packets a second for each. */
  readonly packetsPerSecond: number;
  readonly measureMs: number;
}

/** What came of it. */
export interface ManyReport {
  readonly packetsPerSecond: number;
  readonly rssBytes: number;
  /** Of one core, while packets come. */
  readonly busyCpu: number;
  /** Of one core, for each sender, while connected and with nothing to send. */
  readonly idleCpuPerSender: number;
}

async function run(options: ManyOptions): Promise<ManyReport> {
  const { port, senders, packetBytes, packetsPerSecond, measureMs } = options;
  const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  try {
    const all = await Promise.all(
      Array.from({ length: senders }, async (_, i) => ({
        maker: new PacketMaker(packetBytes, i),
        sender: await Sender.open({
          queue: `${directory}/${i}.db`,
          remote: { hostname: "127.0.0.1", port },
          connect: "always",
        }),
      })),
    );
    const cpu = cpuUsage();
    const fromMs = performance.now();
    const pending = new Set<Promise<unknown>>();
    const pacer = setInterval(() => {
      const due = (performance.now() - fromMs) * packetsPerSecond / 1000;
      for (const { maker, sender } of all) {
        while (maker.made < due) {
          const promise: Promise<unknown> = sender.enqueue(maker.next())
            .finally(() => pending.delete(promise));
          pending.add(promise);
        }
      }
    }, 1);
    await sleep(measureMs);
    const drained = all.reduce((sum, { sender }) => sum + sender.stats().drainedPackets, 0);
    const seconds = (performance.now() - fromMs) / 1000;
    clearInterval(pacer);
    const busy = cpuUsage(cpu);
    await Promise.all(pending);
    await Promise.all(all.map(({ sender }) => sender.drained()));
    const rssBytes = Deno.memoryUsage().rss;
    await sleep(2500); // Holding, removing and giving space back come to their end.
    const idleFrom = cpuUsage();
    const idleFromMs = performance.now();
    await sleep(3000);
    const idle = cpuUsage(idleFrom);
    const idleMicroseconds = (performance.now() - idleFromMs) * 1000;
    await Promise.all(all.map(({ sender }) => sender.close()));
    return {
      packetsPerSecond: drained / seconds,
      rssBytes,
      busyCpu: (busy.user + busy.system) / 1e6 / seconds,
      idleCpuPerSender: (idle.user + idle.system) / idleMicroseconds / senders,
    };
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

if (import.meta.main) {
  const report = await run(JSON.parse(Deno.args[0] ?? "{}"));
  console.log(JSON.stringify(report));
}
