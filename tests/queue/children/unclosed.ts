// Stores one packet, or says why not, and neither closes the queue nor exits.
import { OutboundQueue } from "../../../src/queue/queue.ts";

const say = (words: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${words}\n`));
const [path = "", syncIn = "loop"] = Deno.args;
try {
  const queue = await OutboundQueue.open(path, {
    syncIn: syncIn === "threads" || syncIn === "auto" ? syncIn : "loop",
  });
  void queue.enqueue(new Uint8Array(3)).then((id) => `stored ${id}`, String).then(say);
} catch (error) {
  say(`${error instanceof Deno.errors.NotCapable} ${error}`);
}
