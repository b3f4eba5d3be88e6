/**
 * Looking into a queue's file without the right to change it, also while a sender works on it. For
 * queues in a spool there is `spoolInspector` of `@sendq/sendq/spool`, and for those on PostgreSQL
 * `postgresInspector` of `@sendq/sendq/postgres`, with the same face.
 *
 * @example List what waits in a queue
 * ```ts
 * import { OutboundQueue } from "@sendq/sendq";
 * import { QueueInspector } from "@sendq/sendq/inspect";
 *
 * const path = `${await Deno.makeTempDir()}/outbox.db`;
 * await using queue = await OutboundQueue.open(path);
 * await queue.enqueue("hello\n");
 *
 * using inspector = await QueueInspector.open(path);
 * for await (const { id, bytes, state } of inspector.packets()) {
 *   console.log(id, bytes, state); // 1 6 "waiting"
 * }
 * ```
 *
 * @module
 */

export { QueueInspector } from "./inspector.ts";
export type {
  InspectedDeadLetter,
  InspectedPacket,
  InspectOptions,
  Inspector,
  InspectQuery,
  InspectRange,
  QueueCounts,
} from "./inspection.ts";
export type { QueueProblem } from "./integrity.ts";
