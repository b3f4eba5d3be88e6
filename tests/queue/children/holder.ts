// Takes the sender's lock, says so and keeps it until killed.
import { SenderLock } from "../../../src/queue/sender_lock.ts";

const [path = ""] = Deno.args;
await SenderLock.acquire(path);
Deno.stdout.writeSync(new TextEncoder().encode(`held ${Deno.pid}\n`));
setInterval(() => {}, 1000);
