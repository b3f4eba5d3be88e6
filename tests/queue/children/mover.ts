// Enqueues without end and prints each packet once it is on disk; meanwhile moves
// packets between the queue and its dead letters in every way there is.
import { OutboundQueue, sendingSideOf } from "../../../src/queue/queue.ts";

const [path = "", tag = "x"] = Deno.args;
const queue = await OutboundQueue.open(path);
const ALL = { firstId: 0, lastId: Number.MAX_SAFE_INTEGER };
let next = 0;

function pick(): number {
  return 1 + Math.floor(Math.random() * queue.lastId);
}

async function enqueue(): Promise<void> {
  for (;;) {
    const n = next++;
    const ttlMs = Math.random() < 0.5 ? 1 : Infinity;
    await queue.enqueue(new TextEncoder().encode(`${tag}:${n}`), { ttlMs });
    // A single write call: what is printed was acknowledged.
    Deno.stdout.writeSync(new TextEncoder().encode(`${tag}:${n}\n`));
  }
}

async function forEver(move: () => Promise<unknown>): Promise<void> {
  for (;;) await move();
}

await Promise.all([
  enqueue(),
  enqueue(),
  enqueue(),
  forEver(() => sendingSideOf(queue).giveUp(pick(), 2)),
  forEver(() => sendingSideOf(queue).readBatches(queue.removedThroughId, 1000)),
  forEver(() => {
    const firstId = pick();
    return queue.requeue(Math.random() < 0.1 ? ALL : { firstId, lastId: firstId + 20 });
  }),
]);
