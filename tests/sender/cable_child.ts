/**
 * Sends numbered lines at a steady pace; prints every status as a JSON line, and
 * at the end `{"closed": stats}`.
 *
 * Arguments: queue, remote, packets, milliseconds between them.
 */
import { Sender } from "../../src/sender/sender.ts";

const [queue = "", remote = "", count = "0", intervalMs = "0"] = Deno.args;
const encoder = new TextEncoder();
const print = (value: unknown) =>
  Deno.stdout.writeSync(encoder.encode(JSON.stringify(value) + "\n"));

const sender = await Sender.open({ queue, remote });
const printing = (async () => {
  for await (const { state, verdict, words } of sender.status()) print({ state, verdict, words });
})();
for (let number = 1; number <= Number(count); number++) {
  await sender.enqueue(encoder.encode(`${number}\n`));
  if (number === 1) await sender.drained();
  await new Promise((resolve) => setTimeout(resolve, Number(intervalMs)));
}
await sender.drained();
await sender.close({ deliverTimeoutMs: Infinity });
await printing;
print({ closed: sender.stats() });
