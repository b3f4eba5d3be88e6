/**
 * One run: a sender's short life under strace, with a call that fails, and what
 * came of its packets.
 *
 * @module
 */

import { openQueueAt, type Place } from "../lab/opened_queue.ts";
import { libcCandidates } from "../src/kernel/libc.ts";
import type { SyncIn } from "../src/queue/options.ts";
import { Sender } from "../src/sender/sender.ts";
import {
  type Anomaly,
  callsIn,
  injectArgs,
  type Kind,
  traceArgs,
  type TracedCall,
} from "./calls.ts";
import type { Task, Told } from "./child.ts";
import { type Life, violationsOf } from "./judge.ts";
import { HOLD_MS, numbersIn } from "./packets.ts";
import { RecordingServer } from "./server.ts";

const CHILD = new URL("./child.ts", import.meta.url).pathname;
/** Enough for one commit of several packets and some of one. */
const PACKETS = 6;
/** Only what hangs takes so long: SQLite itself waits up to 10 s each time a lock is refused. */
const HANGS_S = 180;

/** How a run is to be. */
export interface Plan {
  /** What is traced, and fails unless it is left out. */
  readonly kind: Kind;
  readonly anomaly?: Anomaly;
  readonly syncIn: SyncIn;
  readonly place: Place;
  /** A loopback address of its own, where runs go side by side. */
  readonly hostname: string;
  readonly liar?: true;
}

/** What came of it. */
export interface Outcome {
  readonly life: Life;
  /** The calls of the kind that concern us. */
  readonly calls: readonly TracedCall[];
  /** Those that failed by our doing; none where the run did not come so far. */
  readonly injected: readonly TracedCall[];
  readonly violations: readonly string[];
}

/** Runs it in a directory of its own. */
export async function run(plan: Plan): Promise<Outcome> {
  const directory = await Deno.makeTempDir({ prefix: "sendq-anomaly-" });
  try {
    return await runIn(directory, plan);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function runIn(directory: string, plan: Plan): Promise<Outcome> {
  const { kind, syncIn, place, hostname, liar } = plan;
  const queue = `${directory}/outbox.db`;
  const log = `${directory}/trace`;
  await using server = new RecordingServer(hostname, true);
  const task: Task = {
    ...{ queue, remote: `tcp://${hostname}:${server.port}`, packets: PACKETS },
    ...{ syncIn, place },
    ...(liar ? { liar } : {}),
  };
  const { code, stdout, stderr } = await new Deno.Command("strace", {
    args: [...straceArgs(plan, directory, queue, log), ...childCommand(task, hostname)],
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
    stdin: "null",
  }).output();
  const calls = callsIn(kind, await Deno.readTextFile(log));
  const lines = new TextDecoder().decode(stdout).split("\n").filter(Boolean);
  const connections = (await server.texts()).map(numbersIn);
  const life: Life = {
    packets: PACKETS,
    told: lines.map((line): Told => JSON.parse(line)),
    ...{ code, words: new TextDecoder().decode(stderr), connections },
    ...await deliverRest(queue, place, hostname),
  };
  return {
    ...{ life, calls, violations: violationsOf(life) },
    injected: calls.filter(({ line }) => line.includes("(INJECTED)")),
  };
}

function straceArgs(
  { kind, anomaly }: Plan,
  directory: string,
  queue: string,
  log: string,
): string[] {
  const files = ["", "-journal", "-wal", "-shm", ".lock", ".reports"].map((end) => queue + end);
  return [
    ...traceArgs(kind, [...files, directory]),
    ...(anomaly === undefined ? [] : injectArgs(anomaly)),
    ...["-o", log],
  ];
}

/** With no more rights than a sender needs; killed when it hangs. */
function childCommand(task: Task, hostname: string): string[] {
  const { queue } = task;
  const reports = task.place === "spool" ? `,${queue}.reports` : "";
  const files = `${queue},${queue}.lock${reports}`;
  return [
    ...["timeout", "--signal=KILL", String(HANGS_S)],
    ...[Deno.execPath(), "run", "--quiet", "--no-prompt", `--allow-net=${hostname}`],
    `--allow-ffi=${libcCandidates().map(({ path }) => path).join(",")}`,
    `--allow-read=${files},${queue}-wal`,
    ...[`--allow-write=${files}`, CHILD, JSON.stringify(task)],
  ];
}

/** Without a fault: what the child has left in its queue goes to another server. */
async function deliverRest(
  path: string,
  place: Place,
  hostname: string,
): Promise<Pick<Life, "kept" | "rest" | "broken">> {
  await using server = new RecordingServer(hostname, false);
  let kept: number[] = [];
  let broken: string | undefined;
  try {
    await using queue = await openQueueAt(path, place);
    kept = (await queue.read(queue.removedThroughId, 1 << 20)).flatMap(({ payload }) =>
      numbersIn(new TextDecoder().decode(payload))
    );
    const remote = `tcp://${hostname}:${server.port}`;
    await using sender = await Sender.open({ queue, remote, holdMs: HOLD_MS });
    await sender.close({ deliverTimeoutMs: HANGS_S * 1000 });
    const { packets, deadPackets } = queue.stats();
    if (packets + deadPackets > 0) broken = `${packets} kept, ${deadPackets} dead letters`;
  } catch (error) {
    broken = String(error);
  }
  const rest = (await server.texts()).flatMap(numbersIn);
  return { kept, rest, ...(broken === undefined ? {} : { broken }) };
}
