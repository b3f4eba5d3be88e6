/**
 * Stores packets from a machine of its own, and writes down what it was told of each.
 *
 * ```sh
 * deno run -A cluster/producer_program.ts QUEUE LETTER PER_SECOND BYTES RECORD BUSY_TIMEOUT_MS
 * ```
 *
 * QUEUE is an address `postgres://…`, or a file. It prints `open` once it has the queue, and `done` once it was told `stop` and knows what
 * became of each packet. Lines of the record, with times in milliseconds since 1970:
 * `stored NUMBER ID ASKED_AT ANSWERED_AT` and `refused NUMBER ASKED_AT ANSWERED_AT WHY`.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { nowMs, packetOf } from "../lab/packets.ts";
import { writeAllSync } from "../src/base/write_all.ts";
import { isQueueUrl } from "../src/postgres/address.ts";
import { postgresQueue } from "../src/postgres/postgres.ts";
import { OutboundQueue } from "../src/queue/queue.ts";

const TICK_MS = 10;
/** More than these are not asked for at a time, so that an outage costs no memory. */
const MAX_OPEN = 200;

if (import.meta.main) {
  const [place = "", letter = "", perSecond = "", bytes = "", path = "", busyTimeoutMs = ""] =
    Deno.args;
  const record = Deno.openSync(path, { createNew: true, write: true });
  const encoder = new TextEncoder();
  const note = (line: string) => writeAllSync(record, encoder.encode(`${line}\n`));
  const options = { busyTimeoutMs: Number(busyTimeoutMs) };
  const queue = isQueueUrl(place)
    ? await postgresQueue({ url: place, ...options })
    : await OutboundQueue.open(place, options);
  writeAllSync(Deno.stdout, encoder.encode("open\n"));
  let isStopped = false;
  const told = Deno.stdin.read(new Uint8Array(64)).then(() => isStopped = true);
  const open = new Set<Promise<void>>();
  let budget = 0;
  for (let number = 0; !isStopped;) {
    budget = Math.min(MAX_OPEN, budget + Number(perSecond) * TICK_MS / 1000);
    for (; budget >= 1 && open.size < MAX_OPEN; budget--) {
      const mine = number++;
      const askedAt = nowMs().toFixed(1);
      const ended = queue.enqueue(packetOf(letter, mine, Number(bytes))).then(
        (id) => note(`stored ${mine} ${id} ${askedAt} ${nowMs().toFixed(1)}`),
        (error) => {
          const { name, message } = error;
          note(`refused ${mine} ${askedAt} ${nowMs().toFixed(1)} ${name}: ${message}`);
        },
      );
      open.add(ended);
      ended.finally(() => open.delete(ended));
    }
    await Promise.race([delay(TICK_MS), told]);
  }
  await Promise.all(open);
  await queue.close();
  record.close();
  writeAllSync(Deno.stdout, encoder.encode("done\n"));
}
