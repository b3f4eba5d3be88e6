// deno-lint-ignore-file no-console
/**
 * The sender beside an older version of itself: has anything become slower?
 *
 * @module
 */

import { pathToFileURL } from "node:url";
import type { BacklogReport } from "./backlog.ts";
import { runProgram, Sink } from "./programs.ts";
import { load, type Reading, type Round } from "./readings.ts";
import { FULL, nameOf, QUICK } from "./throughput.ts";

/** Of a rate: no row is to fall below it. */
const TARGET = "≥ 0.95";

/** The main rows of `throughput` and `backlog`, of both versions in the same round. */
export async function* baseline({ number, quick, baseline }: Round): AsyncGenerator<Reading> {
  if (baseline === undefined) {
    console.error("baseline: skipped, --baseline=DIR names no clone of an older version");
    return;
  }
  const directory = pathToFileURL(`${Deno.realPathSync(baseline)}/bench/`);
  // Each goes first in every other round, so that a machine that slows down slows both.
  const compare = async (
    name: string,
    measure: (directory: URL | undefined) => Promise<number>,
  ): Promise<Reading> => {
    const before = number % 2 === 0 ? await measure(directory) : undefined;
    const value = await measure(undefined);
    const against = { name: "the baseline", value: before ?? await measure(directory) };
    return { name, unit: "packets/s", value, against, target: TARGET };
  };
  for (const each of quick ? QUICK : FULL) {
    const { packetBytes, enqueuers, durability } = each;
    const options = { packetBytes, enqueuers, queueOptions: { durability } };
    yield await compare(
      nameOf(each),
      async (directory) => (await load(options, { directory })).packetsPerSecond,
    );
  }
  if (!quick) yield await compare("a million delivered", deliverAMillion);
}

async function deliverAMillion(directory: URL | undefined): Promise<number> {
  const files = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  try {
    const packetBytes = 100;
    const options = { path: `${files}/million.db`, packetBytes };
    const step = (what: object) =>
      runProgram<BacklogReport>("backlog.ts", { ...options, ...what }, { directory });
    await step({ what: "fill", packets: 1e6 });
    await using sink = await Sink.start({ packetBytes });
    const program = new URL("backlog.ts", directory ?? import.meta.url);
    // Version 0.2.0 called it so.
    const what = Deno.readTextFileSync(program).includes('"deliver"') ? "deliver" : "drain";
    const deliver = { what, packets: 0, port: sink.port, enqueuers: 0 };
    const { packetsPerSecond } = await step(deliver);
    const { missing } = await sink.report();
    if (missing > 0) throw new Error(`${missing} packets of the backlog are missing`);
    return packetsPerSecond;
  } finally {
    Deno.removeSync(files, { recursive: true });
  }
}
