// deno-lint-ignore-file no-console
/**
 * Many remotes in one process: what a thousand senders take, at work and idle, on this
 * disk and on a slow one; and a hundred, for the comparison with older figures.
 *
 * @module
 */

import type { ManyOptions, ManyReport } from "./many.ts";
import { type RunOptions, runProgram, Sink } from "./programs.ts";
import type { Reading, Round } from "./readings.ts";
import { SLOW_SYNC_MS, SlowDisk } from "./slow_disk.ts";

const PACKET_BYTES = 100;
const THOUSAND = 1000;
const MB = 1e6;
/** What is to be reached, by packets a second for each of a thousand. */
const TARGETS = {
  1: { cpu: "≤ 0.3 cores", memory: "≤ 400 MB" },
  10: { cpu: "≤ 1 core", memory: undefined },
} as const;

/** A hundred senders, and a thousand: in a spool at two rates on two disks, and a file each. */
export async function* many({ quick }: Round): AsyncGenerator<Reading> {
  yield* hundred();
  if (quick) return;
  for (const packetsPerSecond of [1, 10] as const) {
    yield* thousand(packetsPerSecond, "spool", "this disk");
  }
  yield* thousand(1, "files", "this disk");
  const disk = await SlowDisk.build();
  if (typeof disk === "string") {
    console.error(`many, slow disk: skipped, ${disk}`);
    return;
  }
  using slow = disk;
  for (const packetsPerSecond of [1, 10] as const) {
    yield* thousand(packetsPerSecond, "spool", `${SLOW_SYNC_MS}-ms syncs`, slow);
  }
}

async function* hundred(): AsyncGenerator<Reading> {
  const senders = 100;
  const packetsPerSecond = 10;
  const ours = await manySenders({ senders, packetsPerSecond, measureMs: 3000 });
  const name = `${senders} senders, ${packetsPerSecond} packets/s each`;
  yield {
    name,
    unit: "packets/s",
    value: ours.packetsPerSecond,
    against: { name: "what was offered", value: senders * packetsPerSecond },
  };
  yield { name: `${name}: CPU`, unit: "cores", value: ours.busyCpu };
  yield { name: `${name}: memory`, unit: "MB", value: ours.rssBytes / MB };
  yield {
    name: `an idle, connected sender of ${senders}`,
    unit: "% of a core",
    value: 100 * ours.idleCpu / senders,
    target: "≤ 0.2 %",
  };
}

async function* thousand(
  packetsPerSecond: keyof typeof TARGETS,
  queues: "files" | "spool",
  disk: string,
  slow: RunOptions = {},
): AsyncGenerator<Reading> {
  const senders = THOUSAND;
  const ours = await manySenders({ senders, packetsPerSecond, queues, measureMs: 5000 }, slow);
  const where = queues === "spool" ? "in a spool" : "a file each";
  const name = `${senders} senders, ${where}, ${packetsPerSecond}/s each, ${disk}`;
  const { cpu, memory } = TARGETS[packetsPerSecond];
  yield {
    name,
    unit: "packets/s",
    value: ours.packetsPerSecond,
    against: { name: "what was offered", value: senders * packetsPerSecond },
  };
  yield { name: `${name}: CPU`, unit: "cores", value: ours.busyCpu, target: cpu };
  yield {
    name: `${name}: memory`,
    unit: "MB",
    value: ours.rssBytes / MB,
    ...(memory === undefined ? {} : { target: memory }),
  };
  yield { name: `${name}: enqueue→durable p50`, unit: "ms", value: ours.storedMs.p50 };
  yield {
    name: `${name}: enqueue→durable p99`,
    unit: "ms",
    value: ours.storedMs.p99,
    target: "≤ 20 ms",
  };
  yield {
    name: `${name}: idle afterwards, all together`,
    unit: "% of a core",
    value: 100 * ours.idleCpu,
    target: "≤ 2 %",
  };
  yield { name: `${name}: until all are connected`, unit: "s", value: ours.openMs / 1000 };
  yield { name: `${name}: on disk, empty`, unit: "MB", value: ours.diskBytes / MB };
}

/** @throws {Error} A packet was lost. */
async function manySenders(
  options: Omit<ManyOptions, "port" | "packetBytes">,
  how: RunOptions = {},
): Promise<ManyReport> {
  await using sink = await Sink.start({ packetBytes: PACKET_BYTES });
  const report = await runProgram<ManyReport>(
    "many.ts",
    { ...options, packetBytes: PACKET_BYTES, port: sink.port },
    how,
  );
  const { packets, missing } = await sink.report();
  if (packets !== report.enqueued || missing > 0) {
    throw new Error(
      `${report.enqueued} packets were enqueued, ${packets} received, ${missing} missing: ` +
        "this is no benchmark result but a bug",
    );
  }
  return report;
}
