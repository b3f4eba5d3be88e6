// Takes the sender's lock, says so, or why not, and keeps it until killed.
import { SenderLock } from "../../../src/queue/sender_lock.ts";

const [path = ""] = Deno.args;
const said = await SenderLock.acquire(path).then(() => `held ${Deno.pid}`, String);
Deno.stdout.writeSync(new TextEncoder().encode(`${said}\n`));
setInterval(() => {}, 1000);
