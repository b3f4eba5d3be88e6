/**
 * A sender whose kernel refuses calls, for refused_calls.test.ts. Prints what came of it.
 */

import { OutboundQueue, Sender, type SocketOptions } from "../../mod.ts";
import { type Refusal, refuseCalls } from "./seccomp.ts";

/** What the child is to do, as its only argument. */
export interface Task {
  readonly libc: string;
  readonly refusals: readonly Refusal[];
  readonly remote: string;
  readonly queue: string;
  readonly packets: number;
  readonly packetBytes: number;
  readonly socket: SocketOptions;
  /** Until all is delivered, or until something was said that a person should know. */
  readonly until: "delivered" | "said";
}

/** What it prints. */
export interface Result {
  /** What it said, in order. */
  readonly words: readonly string[];
  /** Packets that the queue still holds. */
  readonly kept: number;
}

if (import.meta.main) {
  // However it hangs, the test gets an answer.
  setTimeout(() => Deno.exit(1), 30_000);
  const task: Task = JSON.parse(Deno.args[0] ?? "");
  refuseCalls(task.libc, task.refusals);
  const words: string[] = [];
  const said = Promise.withResolvers<void>();
  const say = (line: string) => {
    words.push(line);
    said.resolve();
  };
  const queue = await OutboundQueue.open(task.queue);
  for (let index = 0; index < task.packets; index++) {
    await queue.enqueue(new Uint8Array(task.packetBytes).fill(index + 1));
  }
  const sender = await Sender.open({
    queue,
    remote: task.remote,
    socket: task.socket,
    // What is acknowledged may be confirmed at once, or never.
    holdMs: task.until === "delivered" ? 0 : 3_600_000,
    logger: { debug: () => {}, info: () => {}, warn: say, error: say },
  });
  sender.closed.catch(() => {});
  const closed = sender.closed.catch(() => {});
  if (task.until === "delivered") await Promise.race([sender.drained(), closed]);
  else await said.promise;
  await sender.close({ deliverTimeoutMs: task.until === "delivered" ? 20_000 : 0 }).catch(() => {});
  const result: Result = { words, kept: queue.stats().packets };
  await queue.close();
  Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(result)));
  Deno.exit();
}
