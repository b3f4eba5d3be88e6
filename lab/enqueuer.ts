/**
 * Another process that enqueues into a queue from which `send` delivers.
 *
 * ```sh
 * deno run -A lab/enqueuer.ts QUEUE LETTER PACKETS PER_SECOND BYTES
 * ```
 *
 * It exits 0 once every packet is on disk.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { openAddress } from "./opened_queue.ts";
import { packetOf } from "./packets.ts";

if (import.meta.main) {
  const [path = "", letter = "", packets = "", perSecond = "", bytes = ""] = Deno.args;
  await using queue = await openAddress(path, { overflow: "wait" });
  for (let number = 0; number < Number(packets); number++) {
    await queue.enqueue(new TextEncoder().encode(packetOf(letter, number, Number(bytes))));
    await delay(1000 / Number(perSecond));
  }
}
