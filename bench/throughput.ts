// deno-lint-ignore-file no-console
/**
 * Packets a second beside raw SQLite and beside the peers.
 *
 * @module
 */

import { measurePeer, type Peer, peerMissing, PEERS } from "./peers.ts";
import type { FloorReport } from "./floor.ts";
import { runProgram, Sink } from "./programs.ts";
import { floor, load, type Reading, type Round } from "./readings.ts";
import { countSyncs, syncsMissing } from "./syncs.ts";

const KIB = 1024;

/** A load: how durable, how large, by how many. */
export interface Case {
  readonly durability: "power-loss" | "process-crash";
  readonly packetBytes: number;
  readonly enqueuers: number;
  /** Beside the ratio to the floor, which is to be at least 0.8. */
  readonly goal?: string;
}

const powerLoss = { durability: "power-loss" } as const;
/** The main figures of the main figures. */
export const QUICK: readonly Case[] = [
  { ...powerLoss, packetBytes: 100, enqueuers: 100, goal: "≥ 0.8 and ≥ 250,000/s" },
  { ...powerLoss, packetBytes: 100, enqueuers: 10_000, goal: "≥ 0.8 and ≥ 500,000/s" },
];
/** The main figures. */
export const FULL: readonly Case[] = [
  { ...powerLoss, packetBytes: 100, enqueuers: 1, goal: "≥ 0.8" },
  ...QUICK,
  { ...powerLoss, packetBytes: KIB, enqueuers: 1 },
  { ...powerLoss, packetBytes: KIB, enqueuers: 100 },
  { ...powerLoss, packetBytes: 4 * KIB, enqueuers: 100, goal: "≥ 0.8 in bytes/s" },
  { ...powerLoss, packetBytes: 16 * KIB, enqueuers: 100 },
  { ...powerLoss, packetBytes: 256 * KIB, enqueuers: 100, goal: "≥ 0.8 in bytes/s" },
  ...[1, 100, 10_000].map((enqueuers) => ({
    durability: "process-crash" as const,
    packetBytes: 100,
    enqueuers,
  })),
];

/** The public `Sender` with all features on, beside the floor. */
export async function* throughput(round: Round): AsyncGenerator<Reading> {
  const syncMs = await floor({ what: "sync" });
  yield { name: "fdatasync of 4 KiB", unit: "ms", value: syncMs };
  if (!round.quick) {
    await using sink = await Sink.start({ packetBytes: 64 * KIB });
    yield {
      name: "loopback TCP, 64 KiB writes",
      unit: "MB/s",
      value: await floor({ what: "tcp", port: sink.port }) / 1e6,
    };
  }
  const untraceable = round.quick ? "not with --quick" : await syncsMissing();
  if (untraceable !== undefined) console.error(`syncs per packet: skipped, ${untraceable}`);
  for (const each of round.quick ? QUICK : FULL) {
    yield* readCase(each, round, syncMs);
    if (each.packetBytes === 100 && each.durability === "power-loss" && untraceable === undefined) {
      yield await readSyncs(each);
    }
  }
}

/** What a case is called in the table. */
export function nameOf({ durability, packetBytes, enqueuers }: Case): string {
  const size = packetBytes < KIB ? `${packetBytes} B` : `${packetBytes / KIB} KiB`;
  return `${durability}, ${size}, ${enqueuers} enqueuer${enqueuers === 1 ? "" : "s"}`;
}

/** Packets a second without any of sendq. */
interface Floors {
  readonly single: number;
  readonly packed?: number | undefined;
  readonly sent?: number;
}

async function* readCase(each: Case, round: Round, syncMs: number): AsyncGenerator<Reading> {
  const { durability, packetBytes, enqueuers, goal } = each;
  const name = nameOf(each);
  const known = round.remembered.get(name);
  const measure = () => load({ packetBytes, enqueuers, queueOptions: { durability } });
  const floors = async (batch: number): Promise<Floors> => {
    const options = { what: "rows", batch, packetBytes, durability, measureMs: 1500 } as const;
    const single = await floor(options);
    if (durability === "process-crash" || round.quick) return { single };
    const packed = packetBytes === 100 ? await floor({ ...options, packed: true }) : undefined;
    await using sink = await Sink.start({ packetBytes, uncounted: true });
    return { single, packed, sent: await floor({ ...options, sentTo: sink.port }) };
  };
  // Each goes first in every other round, so that a machine that slows down
  // slows both. The floor's transactions are as large as ours were.
  const before = known !== undefined && round.number % 2 === 0 ? await floors(known) : undefined;
  const ours = await measure();
  const batch = Math.max(1, Math.round(ours.packetsPerCommit));
  round.remembered.set(name, batch);
  const { single, packed, sent } = before ?? await floors(batch);

  const size = packetBytes < KIB ? {} : { packetBytes };
  const rate = { unit: "packets/s", value: ours.packetsPerSecond, ...size };
  yield {
    ...{ name, ...rate, against: { name: "raw SQLite rows", value: single } },
    ...(goal === undefined ? {} : { target: goal }),
  };
  if (packed !== undefined) {
    yield {
      name: `${name}: beside packed rows`,
      ...rate,
      against: { name: "raw packed rows", value: packed },
    };
  }
  if (sent !== undefined) {
    yield {
      name: `${name}: beside rows that are sent as well`,
      ...rate,
      against: { name: "raw SQLite rows and a write to the sink", value: sent },
    };
  }
  if (ours.storedMs !== undefined && durability === "power-loss") {
    yield {
      name: `${name}: enqueue→durable p50`,
      unit: "ms",
      value: ours.storedMs.p50,
      against: { name: "fdatasync", value: syncMs },
      ...(enqueuers === 1 && packetBytes === 100 ? { target: "≤ 1.5" } : {}),
    };
  }
  if (packetBytes !== 100) return;
  yield {
    name: `${name}: 1-ms timer late p99`,
    unit: "ms",
    value: ours.timerLateMs.p99,
    ...(enqueuers === 100 && durability === "power-loss" ? { target: "≤ 5 ms" } : {}),
  };
  yield { name: `${name}: memory`, unit: "MB", value: ours.rssBytes / 1e6 };
  yield { name: `${name}: CPU per million`, unit: "s", value: ours.cpuSecondsPerMillion };
  yield { name: `${name}: commits per packet`, unit: "", value: ours.commitsPerPacket };
}

async function readSyncs(each: Case): Promise<Reading> {
  const { packetBytes, enqueuers, durability } = each;
  const { syncsPerPacket, commitsPerPacket } = await countSyncs({
    ...{ packetBytes, enqueuers, queueOptions: { durability } },
  });
  return {
    name: `${nameOf(each)}: syncs per packet`,
    unit: "",
    value: syncsPerPacket,
    against: { name: "commits", value: commitsPerPacket },
  };
}

async function presentPeers({ peers: root }: Round): Promise<Peer[]> {
  const present: Peer[] = [];
  for (const peer of PEERS) {
    const missing = await peerMissing(peer, root);
    if (missing === undefined) present.push(peer);
    else console.error(`${peer.name}: skipped, ${missing}`);
  }
  return present;
}

/**
 * CPU seconds at one rate, beside programs that others use for the same. syslog-ng never
 * syncs, so that `durability: "process-crash"` is what promises as much as it does.
 */
export async function* cost(round: Round): AsyncGenerator<Reading> {
  const present = await presentPeers(round);
  for (const packetsPerSecond of [5000, 50_000]) {
    const rate = `${packetsPerSecond.toLocaleString("en")}/s`;
    const theirs = new Map<string, number>();
    for (const peer of present) {
      const report = await measurePeer(peer, { root: round.peers, packetsPerSecond });
      theirs.set(peer.program, report.cpuSecondsPerMillion);
      yield {
        name: `${peer.name}, ${rate}: reached`,
        unit: "packets/s",
        value: report.packetsPerSecond,
      };
      yield {
        name: `${peer.name}, ${rate}: CPU per million`,
        unit: "s",
        value: report.cpuSecondsPerMillion,
      };
    }
    const least = await storedAndSent(packetsPerSecond);
    const syslogNg = theirs.get("syslog-ng");
    yield {
      name: `raw SQLite rows and a write to the sink, process-crash, ${rate}: CPU per million`,
      unit: "s",
      value: least,
      ...(syslogNg === undefined ? {} : { against: { name: "syslog-ng", value: syslogNg } }),
    };
    for (
      const [durability, program] of [
        ["process-crash", "syslog-ng"],
        ["power-loss", "rsyslogd"],
      ] as const
    ) {
      const ours = await load({
        packetBytes: 100,
        enqueuers: 0,
        packetsPerSecond,
        queueOptions: { durability },
      });
      const value = theirs.get(program);
      yield {
        name: `sendq, ${durability}, ${rate}: CPU per million`,
        unit: "s",
        value: ours.cpuSecondsPerMillion,
        ...(value === undefined ? {} : { against: { name: program, value } }),
        target: "≤ 1",
      };
    }
  }
}

/** What the runtime takes at the least, in CPU seconds a million packets at a rate. */
async function storedAndSent(packetsPerSecond: number): Promise<number> {
  const packetBytes = 100;
  await using sink = await Sink.start({ packetBytes, uncounted: true });
  const { cpuSecondsPerMillion = NaN } = await runProgram<FloorReport>("floor.ts", {
    ...{ what: "rows", batch: 1, packetBytes, packetsPerSecond, sentTo: sink.port },
    durability: "process-crash",
  });
  return cpuSecondsPerMillion;
}

/** The sender beside programs that others use for the same. */
export async function* peers(round: Round): AsyncGenerator<Reading> {
  const present = await presentPeers(round);
  if (present.length === 0) return;
  const measureOurs = () =>
    load({ packetBytes: 100, enqueuers: 10_000, queueOptions: { durability: "power-loss" } });
  const measurePeers = async () => {
    const rates: number[] = [];
    for (const peer of present) {
      rates.push((await measurePeer(peer, { root: round.peers })).packetsPerSecond);
    }
    return rates;
  };
  const before = round.number % 2 === 0 ? await measurePeers() : undefined;
  const ours = await measureOurs();
  const rates = before ?? await measurePeers();
  for (const [i, peer] of present.entries()) {
    const value = rates[i] ?? NaN;
    yield { name: peer.name, unit: "packets/s", value };
    yield {
      name: `sendq, 10000 enqueuers, beside ${peer.program}`,
      unit: "packets/s",
      value: ours.packetsPerSecond,
      against: { name: peer.program, value },
      target: peer.target,
    };
  }
}
