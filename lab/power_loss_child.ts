/**
 * A sender to be watched by strace: says on standard output which packet is
 * stored, by one write(2) each.
 *
 * ```sh
 * deno run -A lab/power_loss_child.ts QUEUE REMOTE PACKETS BYTES loop|threads file|spool
 * ```
 *
 * @module
 */

import { Neighbour, openQueueAt } from "./opened_queue.ts";
import { Sender } from "../src/sender/sender.ts";
import { packetOf } from "./packets.ts";

if (import.meta.main) {
  const [path = "", remote = "", packets = "", bytes = "", thread, kind] = Deno.args;
  const encoder = new TextEncoder();
  const syncIn = thread === "threads" ? "threads" : "loop";
  const place = kind === "spool" ? "spool" : "file";
  const queue = await openQueueAt(path, place, { syncIn });
  await using neighbour = await Neighbour.open(path, place, { syncIn });
  const sender = await Sender.open({ queue, closesQueue: true, remote, holdMs: 20 });
  // One after the other, and four at a time, which share a transaction.
  for (let number = 0; number < Number(packets);) {
    const group = number % 5 === 0 ? 1 : 4;
    neighbour.store();
    await Promise.all(Array.from({ length: group }, async () => {
      const id = await sender.enqueue(encoder.encode(packetOf("p", number++, Number(bytes))));
      Deno.stdout.writeSync(encoder.encode(`stored ${id}\n`));
    }));
  }
  await sender.close({ deliverTimeoutMs: Infinity });
}
