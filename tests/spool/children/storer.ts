// Stores without end (or `count` packets each) into queues of a spool, and prints each packet once
// it is on disk: the queue, the id, the text.
import { spoolQueue } from "../../../src/spool/spool.ts";

const [file = "", tag = "x", count = "Infinity", syncIn, ...names] = Deno.args;
const options = { syncIn: syncIn === "threads" ? "threads" : "loop" } as const;
const queues = await Promise.all(names.map((name) => spoolQueue(file, name, options)));

async function work(index: number): Promise<void> {
  const queue = queues[index];
  if (queue === undefined) return;
  for (let n = 0; n < Number(count); n++) {
    const words = `${tag}:${n}`;
    const id = await queue.enqueue(words);
    // A single write call: what is printed was acknowledged.
    Deno.stdout.writeSync(new TextEncoder().encode(`${names[index]} ${id} ${words}\n`));
  }
}

await Promise.all(names.map((_, index) => work(index)));
for (const queue of queues) await queue.close();
