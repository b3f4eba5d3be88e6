/**
 * A task that measures something every second and gets each value to a server,
 * whatever happens to server, network or this process.
 *
 * ```sh
 * deno run --allow-net=legacy:4000 --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \
 *   --allow-read=outbox.db,outbox.db.lock --allow-write=outbox.db,outbox.db.lock \
 *   examples/durable_sender.ts tcp://legacy:4000 outbox.db
 * ```
 */
// deno-lint-ignore-file no-console -- an example prints
import { Sender } from "../mod.ts"; // elsewhere: "jsr:@sendq/sendq"

const [remote = "tcp://127.0.0.1:4000", queue = "outbox.db"] = Deno.args;
const stop = Promise.withResolvers<"stop">();
Deno.addSignalListener("SIGTERM", () => stop.resolve("stop"));
Deno.addSignalListener("SIGINT", () => stop.resolve("stop"));

const sender = await Sender.open(queue, remote, { logger: console });
const second = () => new Promise((resolve) => setTimeout(resolve, 1000));
do {
  const value = `${new Date().toISOString()} memory ${Deno.memoryUsage().rss}\n`;
  await sender.enqueue(value); // on disk from here on
} while (await Promise.race([stop.promise, second()]) !== "stop");

await sender.close({ deliverTimeoutMs: 5000 });
console.log(`${sender.stats().queue.packets} packets are kept for the next start`);
Deno.exit(0);
