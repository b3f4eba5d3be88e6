/**
 * The durable sender on packages from JSR: arguments by `@std/cli`, the log by
 * `@std/log`, the queue's file through `@db/sqlite`.
 *
 * `@db/sqlite` fetches a shared library at its first import and needs FFI for
 * any path: all other permissions are worth nothing then. The `node:sqlite`
 * that Deno brings, and that is the default, needs neither.
 *
 * ```sh
 * cd examples/jsr_stack
 * deno run --allow-net --allow-read --allow-write --allow-ffi --allow-env \
 *   durable_sender.ts --queue outbox.db --remote tcp://legacy:4000 "temperature 21.5"
 * ```
 */
import { dbSqlite } from "@sendq/sendq/db-sqlite";
import { type Logger, Sender } from "@sendq/sendq";
import { parseArgs } from "@std/cli/parse-args";
import * as log from "@std/log";

const { queue, remote, _: packets } = parseArgs(Deno.args, {
  string: ["queue", "remote", "_"],
  default: { queue: "outbox.db", remote: "tcp://127.0.0.1:4000" },
});
// An @std/log logger is one as it is.
const logger: Logger = log.getLogger();

const sender = await Sender.open({
  queue,
  queueOptions: { driver: dbSqlite, overflow: "wait" },
  remote,
  logger,
});
for (const packet of packets) {
  const id = await sender.enqueue(`${packet}\n`);
  logger.info(`packet ${id} is on disk`);
}
await sender.drained();
await sender.close();
logger.info("everything is confirmed");
