// Tries to open a queue in each place and to take its sender's lock, and says how each went.
import { OutboundQueue } from "../../../src/queue/queue.ts";
import { SenderLock } from "../../../src/queue/sender_lock.ts";

const [path = ""] = Deno.args;
const attempts = [
  () => OutboundQueue.open(path, { syncIn: "loop" }),
  () => OutboundQueue.open(path, { syncIn: "threads" }),
  () => SenderLock.acquire(path),
];
for (const attempt of attempts) {
  const said = await attempt().then(() => "opened", String);
  Deno.stdout.writeSync(new TextEncoder().encode(`${said}\n`));
}
