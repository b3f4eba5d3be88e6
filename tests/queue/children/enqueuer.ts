// Enqueues without end (or `count` packets) and prints each id once it is on disk.
import { OutboundQueue } from "../../../src/queue/queue.ts";

const [path = "", tag = "x", count = "Infinity", width = "7", syncIn] = Deno.args;
const queue = await OutboundQueue.open(path, {
  syncIn: syncIn === "threads" ? "threads" : "loop",
});
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
