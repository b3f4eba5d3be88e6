/**
 * Sends lines at a steady pace and serves its status; prints the page's URL.
 *
 * Arguments: queue, remote, port of the page, milliseconds between packets.
 */
import { serveStatus } from "../../src/observe/http.ts";
import { Sender } from "../../src/sender/sender.ts";

const [queue = "", remote = "", port = "0", intervalMs = "100"] = Deno.args;
const sender = await Sender.open({ queue, remote });
const { url } = serveStatus(sender, { port: Number(port) });
Deno.stdout.writeSync(new TextEncoder().encode(`${url}\n`));
for (let number = 1;; number++) {
  await sender.enqueue(new TextEncoder().encode(`${number}: temperature 21.5\n`));
  await new Promise((resolve) => setTimeout(resolve, Number(intervalMs)));
}
