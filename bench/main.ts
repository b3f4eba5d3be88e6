// deno-lint-ignore-file no-console
/**
 * The benchmark: `deno task bench [--json] [--quick] [--rounds=N] [--peers=DIR]
 * [--baseline=DIR] [SECTION…]`.
 *
 * Every figure stands beside one that was measured in the same round, in turn
 * with it, so that a slow or a busy machine slows both. What counts is the
 * ratio: median of the rounds, with the least and the largest.
 *
 * Sections: throughput, threads, latency, backlog, path, many, tls, reader, peers, cost, start, postgres, baseline
 * (a clone of an older version). Each program runs in a process of its own, with
 * everything on as users get it.
 *
 * @module
 */

import { networkAvailable, TestNetwork } from "../lab/network.ts";
import type { BacklogOptions, BacklogReport } from "./backlog.ts";
import { baseline } from "./baseline.ts";
import type { FloorReport } from "./floor.ts";
import type { LoadReport } from "./load.ts";
import { runProgram, Sink } from "./programs.ts";
import { floor, load, type Reading, type Section, syncTimes } from "./readings.ts";
import { spread } from "./statistics.ts";
import { reader } from "./reader.ts";
import { start } from "./start.ts";
import { many } from "./remotes.ts";
import { type Figure, round3, tableOf } from "./table.ts";
import { threads } from "./threads.ts";
import { tls } from "./tls.ts";
import { postgres } from "./postgres.ts";
import { cost, peers, throughput } from "./throughput.ts";

/** Sections by name; each yields the readings of one round. */
const SECTIONS: Record<string, Section> = {
  throughput,
  threads,
  latency,
  backlog,
  path,
  many,
  tls,
  reader,
  peers,
  cost,
  start,
  postgres,
  baseline,
};

const KIB = 1024;

async function* latency(): AsyncGenerator<Reading> {
  for (const packetsPerSecond of [1000, 10_000]) {
    const syncs = await syncTimes();
    const ours = await load({
      packetBytes: 100,
      enqueuers: 0,
      packetsPerSecond,
      measureMs: 3000,
    }, { latency: true });
    for (
      const [what, quantiles] of [["durable", ours.storedMs], ["received", ours.received]] as const
    ) {
      if (quantiles === undefined) throw new Error(`no latency of enqueue→${what} was noted`);
      for (const part of ["p50", "p99", "p999"] as const) {
        const goal = what === "received" && part !== "p50" && packetsPerSecond === 10_000;
        yield {
          name: `${packetsPerSecond}/s: enqueue→${what} ${part}`,
          unit: "ms",
          value: quantiles[part],
          against: { name: `fdatasync ${part}`, value: syncs[part] },
          ...(goal ? { target: "≤ 2" } : {}),
        };
      }
    }
  }
}

async function* backlog(): AsyncGenerator<Reading> {
  const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  const packetBytes = 100;
  const step = (options: Omit<BacklogOptions, "packetBytes" | "packets"> & { packets?: number }) =>
    runProgram<BacklogReport>("backlog.ts", { packetBytes, packets: 0, ...options });
  try {
    const path = `${directory}/million.db`;
    for (const enqueuers of [0, 100]) {
      const filled = await step({ what: "fill", path, packets: 1e6 });
      const rows = await floor({ what: "rows", batch: 1000, packetBytes });
      await using sink = await Sink.start({ packetBytes });
      const delivered = await step({ what: "deliver", path, port: sink.port, enqueuers });
      const { missing } = await sink.report();
      if (missing > 0) throw new Error(`${missing} packets of the backlog are missing`);
      const name = enqueuers === 0 ? "a million delivered" : "the same, 100 enqueuers meanwhile";
      const against = { name: "raw SQLite rows, 1000 a batch", value: rows };
      yield {
        name,
        unit: "packets/s",
        value: delivered.packetsPerSecond,
        against,
        target: enqueuers === 0 ? "≥ 500,000/s" : "≥ 1,000,000/s",
      };
      if (enqueuers > 0) {
        const alone = await load({ packetBytes, enqueuers });
        yield {
          name: `${name}: enqueued`,
          unit: "packets/s",
          value: delivered.enqueuedPerSecond,
          against: { name: "the same without a backlog", value: alone.enqueuedPerSecond },
          target: "≥ 0.5",
        };
        continue;
      }
      yield {
        name: "a million stored by enqueueMany",
        unit: "packets/s",
        value: filled.packetsPerSecond,
        against,
      };
      yield {
        name: "bytes on disk for 100 bytes",
        unit: "B",
        value: filled.fileBytes / 1e6,
        target: "≤ 130",
      };
      yield {
        name: "file after the delivery",
        unit: "MB",
        value: delivered.fileBytes / 1e6,
        target: "small",
      };
    }
    const large = `${directory}/ten-million.db`;
    await step({ what: "fill", path: large, packets: 1e7 });
    const opened = await step({ what: "open", path: large });
    yield { name: "10 million on disk: open", unit: "ms", value: opened.ms, target: "≤ 100 ms" };
    await using sink = await Sink.start({ packetBytes });
    const delivered = await step({ what: "deliver", path: large, port: sink.port });
    yield {
      name: "10 million on disk: memory while delivering",
      unit: "MB",
      value: delivered.rssBytes / 1e6,
      target: "≤ 150",
    };
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

async function* path(): AsyncGenerator<Reading> {
  const available = await networkAvailable();
  if (!available.ok) {
    console.error(`path: skipped, ${available.reason}`);
    return;
  }
  const packetBytes = KIB;
  const windowBytes = 256 * KIB;
  for (
    const line of [{ roundTripMs: 1 }, { roundTripMs: 40 }, { roundTripMs: 100 }, {
      kbitPerSecond: 20_000,
    }]
  ) {
    await using network = await TestNetwork.create();
    let capacityBytes: number;
    let words: string;
    if (line.kbitPerSecond === undefined) {
      await network.delay({ roundTripMs: line.roundTripMs });
      capacityBytes = windowBytes / line.roundTripMs * 1000;
      words = `RTT ${line.roundTripMs} ms`;
    } else {
      await network.slowLink({ kbitPerSecond: line.kbitPerSecond, queueBytes: 100_000 });
      capacityBytes = line.kbitPerSecond * 1000 / 8;
      words = `${line.kbitPerSecond / 1000} Mbit/s`;
    }
    const hostname = network.serverAddress;
    const at = { hostname, spawn: network.spawnerIn("sender") };
    const sinkOptions = { packetBytes, hostname };
    await using rawSink = await Sink.start(sinkOptions, network.spawnerIn("server"));
    const raw = await runProgram<FloorReport>(
      "floor.ts",
      { what: "tcp", hostname, port: rawSink.port, measureMs: 1500 },
      at,
    );
    await using sink = await Sink.start(sinkOptions, network.spawnerIn("server"));
    const wanted = Math.min(1.1 * capacityBytes, raw.value, 60e6);
    const ours = await runProgram<LoadReport>("load.ts", {
      ...{ port: sink.port, hostname, packetBytes, enqueuers: 0 },
      ...{ packetsPerSecond: wanted / packetBytes, warmUpMs: 2500, measureMs: 2500 },
    }, at);
    const limit = Math.min(capacityBytes, raw.value, 60e6);
    yield {
      name: words,
      unit: "MB/s",
      value: ours.drainedPerSecond * packetBytes / 1e6,
      against: {
        name: limit === raw.value
          ? "raw TCP on the same path"
          : line.kbitPerSecond === undefined && limit === capacityBytes
          ? "maxInFlightBytes / RTT"
          : limit === capacityBytes
          ? "the line's rate"
          : "what was offered",
        value: limit / 1e6,
      },
      ...(line.roundTripMs === 100 ? { target: "≥ 0.9" } : {}),
    };
  }
}

/** Runs sections in rounds and joins the readings of the same name. */
export async function benchmark(
  names: readonly string[],
  { rounds, quick, peers: directory, baseline: older }: {
    readonly rounds: number;
    readonly quick: boolean;
    /** Where the peers were unpacked, if they are not installed. */
    readonly peers?: string | undefined;
    /** A clone of an older version. */
    readonly baseline?: string | undefined;
  },
): Promise<Figure[]> {
  const remembered = new Map<string, number>();
  const readings = new Map<string, { section: string; all: Reading[] }>();
  for (let round = 1; round <= rounds; round++) {
    for (const section of names) {
      const run = SECTIONS[section];
      if (run === undefined) {
        throw new RangeError(`no section ${section}: ${Object.keys(SECTIONS).join(", ")}`);
      }
      const context = { number: round, quick, peers: directory, baseline: older, remembered };
      for await (const reading of run(context)) {
        console.error(
          `round ${round}/${rounds}  ${section}: ${reading.name}  ${
            round3(reading.value)
          } ${reading.unit}`,
        );
        const key = `${section}\n${reading.name}`;
        const known = readings.get(key) ?? { section, all: [] };
        readings.set(key, known);
        known.all.push(reading);
      }
    }
  }
  return [...readings.values()].map(({ section, all }) => figureOf(section, all));
}

function figureOf(section: string, all: readonly Reading[]): Figure {
  const last = all.at(-1);
  if (last === undefined) throw new RangeError("a figure without a reading");
  const ratios = all.flatMap(({ value, against }) =>
    against === undefined ? [] : [value / against.value]
  );
  const value = spread(all.map((reading) => reading.value));
  const megabytesPerSecond = value.median * (last.packetBytes ?? 0) / 1e6;
  return {
    ...{ section, name: last.name, unit: last.unit, value },
    ...(last.packetBytes === undefined ? {} : { megabytesPerSecond }),
    ...(last.against === undefined ? {} : { against: last.against.name, ratio: spread(ratios) }),
    ...(last.target === undefined ? {} : { target: last.target }),
  };
}

if (import.meta.main) {
  const flags = Deno.args.filter((argument) => argument.startsWith("--"));
  const unknown = flags.find((flag) =>
    !/^--(json|quick|rounds=[1-9]\d*|(peers|baseline)=.+)$/.test(flag)
  );
  if (unknown !== undefined) {
    console.error(
      `unknown option ${unknown}: --json, --quick, --rounds=N, --peers=DIR, --baseline=DIR`,
    );
    Deno.exit(2);
  }
  const quick = flags.includes("--quick");
  const named = Deno.args.filter((argument) => !argument.startsWith("--"));
  const valueOf = (flag: string) =>
    flags.find((given) => given.startsWith(`--${flag}=`))?.slice(`--${flag}=`.length);
  const rounds = Number(valueOf("rounds") ?? (quick ? 3 : 5));
  const sections = named.length > 0 ? named : quick ? ["throughput"] : Object.keys(SECTIONS);
  const directories = { peers: valueOf("peers"), baseline: valueOf("baseline") };
  const figures = await benchmark(sections, { rounds, quick, ...directories });
  if (flags.includes("--json")) console.log(JSON.stringify(figures, undefined, 2));
  else console.log(tableOf(figures));
}
