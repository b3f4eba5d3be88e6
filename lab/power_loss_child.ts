/**
 * A sender to be watched by strace: says on standard output which packet is
 * stored, by one write(2) each.
 *
 * ```sh
 * deno run -A lab/power_loss_child.ts QUEUE REMOTE PACKETS BYTES [loop|threads]
 * ```
 *
 * @module
 */

import { Sender } from "../src/sender/sender.ts";
import { packetOf } from "./packets.ts";

if (import.meta.main) {
  const [queue = "", remote = "", packets = "", bytes = "", thread] = Deno.args;
  const encoder = new TextEncoder();
  const syncIn = thread === "threads" ? "threads" : "loop";
  const sender = await Sender.open({ queue, remote, holdMs: 20, queueOptions: { syncIn } });
  // One after the other, and four at a time, which share a transaction.
  for (let number = 0; number < Number(packets);) {
    const group = number % 5 === 0 ? 1 : 4;
    await Promise.all(Array.from({ length: group }, async () => {
      const id = await sender.enqueue(encoder.encode(packetOf("p", number++, Number(bytes))));
      Deno.stdout.writeSync(encoder.encode(`stored ${id}\n`));
    }));
  }
  await sender.close({ deliverTimeoutMs: Infinity });
}
