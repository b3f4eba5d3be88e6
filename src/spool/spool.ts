/**
 * Many queues in one file: for a process that sends to hundreds of servers, so that one sync of
 * the disk, one lock and one log are enough for all of them.
 *
 * A spool's queues are what queues in files of their own are: each has its order, its limits, its
 * dead letters, its sender. What they share is the file: a process that sends from one of them is
 * the only one that sends from any.
 *
 * @example A thousand servers, one file
 * ```ts
 * import { Sender } from "@sendq/sendq";
 * import { spoolQueue } from "@sendq/sendq/spool";
 *
 * // A server, for this example.
 * const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 *
 * const file = `${await Deno.makeTempDir()}/spool.db`;
 * const queue = await spoolQueue(file, "plc-17", { maxPackets: 100_000 });
 * const sender = await Sender.open(queue, `tcp://127.0.0.1:${listener.addr.port}`, {
 *   closesQueue: true,
 * });
 * await sender.enqueue("hello\n"); // On the disk, with whatever else came in that moment.
 * await sender.close();
 * listener.close();
 * ```
 *
 * @module
 */

import type { OutboundQueue } from "../queue/queue.ts";
import type { QueueOptions } from "../queue/options.ts";
import { checkQueueOptions, resolveQueueOptions } from "../queue/options.ts";
import { queueAt } from "../queue/queue.ts";
import { checkSpoolAddress } from "./address.ts";
import { SpoolPlace } from "./spool_place.ts";

export type { InspectOptions, Inspector } from "../queue/inspect/inspection.ts";
export { type SpooledQueue, spooledQueues, spoolInspector } from "./inspector.ts";

/**
 * Opens a queue in a spool; makes either (the file with mode 0600) where there is none.
 *
 * Needs `--allow-read` and `--allow-write` for `FILE`, `FILE.lock` and `FILE.reports`, and of use
 * is `--allow-read` for `FILE-wal`; see {@linkcode QueueOptions.syncIn}.
 *
 * @param file The spool, on a local filesystem.
 * @param name The queue's name in it: 1 to 64 letters, digits, or `. _ - : @ [ ]`.
 * @param options Those of a queue. `durability`, `syncIn`, `driver` and `clock` are the file's,
 *   and so the same for all of its queues that a process has open.
 * @throws {OptionError} A name or an option is out of range.
 * @throws {QueueFileError} The file is not a spool, is damaged, cannot be written or stayed
 *   locked; it was left as it is.
 * @throws {Deno.errors.NotCapable} A permission is missing; says which flags to add.
 */
export async function spoolQueue(
  file: string,
  name: string,
  options: QueueOptions = {},
): Promise<OutboundQueue> {
  const address = checkSpoolAddress({ file, name });
  checkQueueOptions(options);
  const resolved = resolveQueueOptions(options);
  return await queueAt(await SpoolPlace.open(file, address.name, resolved), resolved);
}
