// Fills its disk with packets, removes almost all of them, and begins again; says how many each time.
import { QueueFileError } from "../../../src/base/errors.ts";
import { OutboundQueue, sendingSideOf } from "../../../src/queue/queue.ts";
import { SenderLock } from "../../../src/queue/sender_lock.ts";

const [path = ""] = Deno.args;
const packets = Array.from({ length: 64 }, () => new Uint8Array(1000).fill(7));
await using queue = await OutboundQueue.open(path);
using lock = await SenderLock.acquire(queue.path);
sendingSideOf(queue).answerDoorbell(lock);
for (let round = 0; round < 4; round++) {
  let stored = 0;
  try {
    for (;;) stored += (await queue.enqueueMany(packets)).lastId > 0 ? packets.length : 0;
  } catch (error) {
    if (!(error instanceof QueueFileError) || error.reason !== "disk-full") throw error;
  }
  await sendingSideOf(queue).removeThrough(queue.lastId - 10);
  Deno.stdout.writeSync(new TextEncoder().encode(`${stored}\n`));
}
