/**
 * A relay whose kernel refuses to reset connections, for accepted_end.test.ts. Prints what it said.
 */

import { Sender } from "../../mod.ts";
import { Relay } from "../../src/relay/relay.ts";
import { type Refusal, refuseCalls } from "./seccomp.ts";

const [libc = "", refusals = "", queue = ""] = Deno.args;
// However it hangs, the test gets an answer.
setTimeout(() => Deno.exit(1), 30_000);
const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
const { port } = listener.addr;
const words: string[] = [];
const warn = (line: string): void => void words.push(line);
await using sender = await Sender.open(queue, "tcp://127.0.0.1:9");
const relay = new Relay({
  sender,
  listeners: [listener],
  input: "lines",
  logger: { debug() {}, info() {}, warn, error: warn },
});
const clients = await Promise.all(
  [1, 2].map(() => Deno.connect({ hostname: "127.0.0.1", port })),
);
while (relay.stats().clients < clients.length) {
  await new Promise((resolve) => setTimeout(resolve, 5));
}
const parsed: readonly Refusal[] = JSON.parse(refusals);
refuseCalls(libc, parsed);
for (const client of clients) {
  await client.write(new TextEncoder().encode("a part of a packet"));
  await client.closeWrite();
  // Its end, of whichever kind.
  await client.read(new Uint8Array(1)).catch(() => {});
}
await relay.stop();
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(words)));
Deno.exit();
