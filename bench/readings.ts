/**
 * What the sections of the benchmark share: a reading, and the two programs
 * that most readings come from.
 *
 * @module
 */

import type { FloorOptions, FloorReport } from "./floor.ts";
import { type LoadOptions, type LoadReport, WARM_UP_MS } from "./load.ts";
import { type RunOptions, runProgram, Sink } from "./programs.ts";
import type { SinkOptions } from "./sink.ts";
import type { Quantiles } from "./statistics.ts";

/** One reading in one round. */
export interface Reading {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
  /** What it is held against, measured in the same round. */
  readonly against?: { readonly name: string; readonly value: number };
  readonly target?: string;
  /** For a rate of large packets: how many bytes each has. */
  readonly packetBytes?: number;
}

/** One round of a run. */
export interface Round {
  /** From 1. */
  readonly number: number;
  /** Only the main figures. */
  readonly quick: boolean;
  /** Where the peers were unpacked, if they are not installed. */
  readonly peers: string | undefined;
  /** A clone of an older version. */
  readonly baseline: string | undefined;
  /** What a section wants to know again in the next round. */
  readonly remembered: Map<string, number>;
}

/** A section yields the readings of one round. */
export type Section = (round: Round) => AsyncGenerator<Reading>;

/** What the machine can do; see `floor.ts`. */
export async function floor(options: FloorOptions): Promise<number> {
  return (await runProgram<FloorReport>("floor.ts", options)).value;
}

/** Enough for one of a thousand to be seen four times. */
const MANY_SYNCS = 4000;

/** How long a sync of 4 KiB takes, in milliseconds. */
export async function syncTimes(): Promise<Quantiles> {
  const { quantiles } = await runProgram<FloorReport>("floor.ts", {
    what: "sync",
    syncs: MANY_SYNCS,
  });
  if (quantiles === undefined) throw new Error("the floor has measured no sync");
  return quantiles;
}

/** What `load.ts` and the sink say. */
export type Load = LoadReport & {
  readonly received:
    | { readonly p50: number; readonly p99: number; readonly p999: number }
    | undefined;
};

/**
 * A load beside a sink, with what the sink received checked against it.
 *
 * @param options What to do.
 * @param how Whether the sink notes how long each packet took, with which certificate it
 *   speaks TLS, and how to start the load.
 * @throws {Error} A packet was lost or came twice.
 */
export async function load(
  options: Omit<LoadOptions, "port">,
  { latency = false, serverTls, ...how }: RunOptions & {
    readonly latency?: boolean;
    readonly serverTls?: SinkOptions["tls"];
  } = {},
): Promise<Load> {
  await using sink = await Sink.start({
    packetBytes: options.packetBytes,
    latency,
    ...(serverTls === undefined ? {} : { tls: serverTls }),
  });
  // Said, although it is the default: an older version has another.
  const asked = { warmUpMs: WARM_UP_MS, ...options, port: sink.port };
  const report = await runProgram<LoadReport>("load.ts", asked, how);
  const { packets, missing, repeated, latencyMs } = await sink.report(report.measured);
  if (packets !== report.enqueued || missing > 0 || repeated > report.redelivered) {
    throw new Error(
      `${report.enqueued} packets were enqueued, ${packets} received, ${missing} missing, ` +
        `${repeated} repeated: this is no benchmark result but a bug`,
    );
  }
  return { ...report, received: latencyMs };
}
