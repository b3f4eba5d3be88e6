/**
 * A log of one's own: any object with `debug`, `info`, `warn` and `error` will
 * do. Here it is LogTape's, which writes JSON lines; `console` and a logger of
 * `@std/log` are handed in the same way, as they are.
 *
 * ```sh
 * deno run --allow-net=legacy:4000 --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \
 *   --allow-read=outbox.db,outbox.db.lock --allow-write=outbox.db,outbox.db.lock \
 *   examples/logging.ts tcp://legacy:4000 outbox.db "temperature 21.5"
 * ```
 */
import { configure, getConsoleSink, getJsonLinesFormatter, getLogger } from "@logtape/logtape";
import { type Logger, Sender } from "../mod.ts"; // elsewhere: "jsr:@sendq/sendq"

await configure({
  sinks: { console: getConsoleSink({ formatter: getJsonLinesFormatter() }) },
  loggers: [
    { category: "sendq", lowestLevel: "debug", sinks: ["console"] },
    { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["console"] },
  ],
});
const logger: Logger = getLogger("sendq");

const [remote = "tcp://127.0.0.1:4000", queue = "outbox.db", ...packets] = Deno.args;
const sender = await Sender.open({ queue, remote, logger });
for (const packet of packets) {
  await sender.enqueue(new TextEncoder().encode(`${packet}\n`));
}
await sender.drained();
await sender.close();
