/**
 * The two programs under test, which use sendq as any user would: one enqueues and sends, the
 * other only enqueues into the same file.
 *
 * ```sh
 * deno run -A soak/process.ts send PRODUCER PER_SECOND BYTES QUEUE REMOTE HOLD_MS
 * deno run -A soak/process.ts enqueue PRODUCER PER_SECOND BYTES QUEUE
 * ```
 *
 * On standard output, one JSON object a line:
 *
 * | line | meaning |
 * |---|---|
 * | `{"onDisk":N}` | it has opened the queue, in which lie N packets |
 * | `{"stored":N}` | enqueue has resolved for its packets below number N |
 * | `{"liveBytes":N}` | bytes of objects and buffers that are alive: the answer to `live` |
 * | `{"time":…,"message":…}` | the sender's log |
 *
 * Lines on standard input: `live` asks how much is alive, and needs `--v8-flags=--expose-gc`;
 * `end` lets it enqueue no more, deliver the rest and exit 0. When standard input ends without it,
 * nobody is left to listen, and it exits 1.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { OutboundQueue, Sender } from "../mod.ts";
import { soakPacket } from "./tally.ts";

/** What is due in this time is enqueued together, and shares a commit. */
const TICK_MS = 20;
/** More at a time would only fill the memory, for example after this process was stopped. */
const MAX_BURST_PACKETS = 5_000;
const QUEUE_OPTIONS = { overflow: "wait" } as const;

/** Enqueues at a steady rate until told to end. */
async function produce(
  queue: OutboundQueue,
  producer: string,
  perSecond: number,
  bytes: number,
  ended: AbortSignal,
): Promise<void> {
  const encoder = new TextEncoder();
  const startedMs = performance.now();
  for (let number = 0; !ended.aborted;) {
    await delay(TICK_MS);
    const due = Math.floor((performance.now() - startedMs) * perSecond / 1000) - number;
    const burst = Array.from({ length: Math.min(due, MAX_BURST_PACKETS) }, () => {
      return queue.enqueue(encoder.encode(soakPacket(producer, number++, bytes)));
    });
    await Promise.all(burst);
    if (burst.length > 0) say({ stored: number });
  }
}

/** JavaScript's objects and buffers, without the garbage, which would hide what stays. */
function liveBytes(): number {
  const { gc } = globalThis as { gc?: () => void };
  // The second time sweeps the buffers that the first has found dead.
  for (let times = 0; times < 2; times++) gc?.();
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

/** Answers what standard input asks; resolves at `end`. */
async function listen(): Promise<void> {
  let rest = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "end") return;
      say({ liveBytes: liveBytes() });
    }
  }
  Deno.exit(1);
}

type Line =
  | { readonly onDisk: number }
  | { readonly stored: number }
  | { readonly liveBytes: number }
  | { readonly time: string; readonly message: string };

function say(line: Line): void {
  const bytes = new TextEncoder().encode(JSON.stringify(line) + "\n");
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

async function main(args: readonly string[]): Promise<void> {
  const [role, producer = "", perSecond = "", bytes = "", path = "", remote = "", holdMs] = args;
  const ended = new AbortController();
  const end = listen().then(() => ended.abort());
  const run = async (queue: OutboundQueue) => {
    say({ onDisk: queue.stats().packets });
    await produce(queue, producer, Number(perSecond), Number(bytes), ended.signal);
    await end;
  };
  if (role === "enqueue") {
    await using queue = await OutboundQueue.open(path, QUEUE_OPTIONS);
    return await run(queue);
  }
  const log = (message: string) => say({ time: new Date().toISOString(), message });
  const sender = await Sender.open({
    queue: path,
    queueOptions: QUEUE_OPTIONS,
    remote,
    holdMs: Number(holdMs),
    logger: { debug: log, info: log, warn: log, error: log },
  });
  await run(sender.queue);
  await sender.close({ deliverTimeoutMs: Infinity });
}

if (import.meta.main) {
  // Ctrl-C goes to every process of a terminal; this one ends when the soak lets it.
  Deno.addSignalListener("SIGINT", () => {});
  await main(Deno.args);
  // What is left of standard input would keep the process alive.
  Deno.exit(0);
}
