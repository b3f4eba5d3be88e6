// Enqueues without end (or `count` packets) and prints each id once it is on disk; into a file, or
// into a spool's queue that has a name.
import type { QueueOptions } from "../../../src/queue/options.ts";
import { OutboundQueue } from "../../../src/queue/queue.ts";
import { spoolQueue } from "../../../src/spool/spool.ts";

const [path = "", tag = "x", count = "Infinity", width = "7", syncIn, name = ""] = Deno.args;
const options: QueueOptions = { syncIn: syncIn === "threads" ? "threads" : "loop" };
const queue = name === ""
  ? await OutboundQueue.open(path, options)
  : await spoolQueue(path, name, options);
let next = 0;

async function work(): Promise<void> {
  while (next < Number(count)) {
    const n = next++;
    const id = await queue.enqueue(new TextEncoder().encode(`${tag}:${n}`));
    // A single write call: what is printed was acknowledged.
    Deno.stdout.writeSync(new TextEncoder().encode(`${id} ${tag}:${n}\n`));
  }
}

await Promise.all(Array.from({ length: Number(width) }, work));
await queue.close();
