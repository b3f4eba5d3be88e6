/**
 * Gets bytes safely to a TCP server that cannot acknowledge.
 *
 * Once {@linkcode Sender.enqueue} resolves, the packet is on disk, and it stays
 * there until the peer's kernel has acknowledged every byte of it, through lost
 * paths, server restarts, crashes and power cuts of the sender. In order, at
 * least once.
 *
 * Runs on Linux, x86_64 and aarch64. Needs `--allow-net` for the server,
 * `--allow-read` and `--allow-write` for the queue's file and its `.lock` file,
 * and `--allow-ffi` for the C library.
 *
 * @example Send a packet, and wait until it has arrived
 * ```ts
 * import { Sender } from "@sendq/sendq";
 * import assert from "node:assert/strict";
 *
 * // A server, for this example.
 * const server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const served = server.accept().then((connection) => new Response(connection.readable).text());
 *
 * const sender = await Sender.open({
 *   queue: `${await Deno.makeTempDir()}/outbox.db`,
 *   remote: `tcp://127.0.0.1:${server.addr.port}`,
 * });
 * await sender.enqueue(new TextEncoder().encode("temperature 21.5\n"));
 * // Here the packet is on disk, whatever happens to the server.
 * await sender.drained();
 * // Here the server's kernel has it.
 * await sender.close();
 *
 * assert.equal(await served, "temperature 21.5\n");
 * server.close();
 * ```
 *
 * @example Enqueue from a process of its own, while another one sends
 * ```ts
 * import { OutboundQueue } from "@sendq/sendq";
 *
 * const path = `${await Deno.makeTempDir()}/outbox.db`;
 * await using queue = await OutboundQueue.open(path, { overflow: "wait" });
 * await queue.enqueue(new TextEncoder().encode("pressure 1013\n"));
 * ```
 *
 * @module
 */

export {
  type CloseOptions,
  Sender,
  type SenderStats,
  type SenderStatus,
} from "./src/sender/sender.ts";
export type { SenderOptions } from "./src/sender/options.ts";
export { Relay } from "./src/relay/relay.ts";
export type {
  RelayConnection,
  RelayListener,
  RelayOptions,
  RelayStats,
  RelayStopOptions,
  Replies,
} from "./src/relay/options.ts";
export { readRunningSender, type RunningSender, type SenderReport } from "./src/sender/report.ts";
export {
  type Framing,
  FramingError,
  type FramingFault,
  type Oversize,
} from "./src/framing/framing.ts";
export type { PathStats } from "./src/delivery/connection.ts";
export type { DeliveryStats, DeliveryStatus, SenderState } from "./src/delivery/status.ts";
export type { Bytes, Pattern } from "./src/session/pattern.ts";
export type { Heartbeat, Session, SessionFunction, SessionStep } from "./src/session/session.ts";
export type { ExpectOptions, ReadOptions, SessionStream } from "./src/session/stream.ts";
export type { Transform, TransformConnection } from "./src/session/transform.ts";
export { describeVerdict, type Verdict, type VerdictKind } from "./src/delivery/liveness.ts";
export { OutboundQueue } from "./src/queue/queue.ts";
export type {
  CommitIn,
  DeadPackets,
  EnqueueOptions,
  IdRange,
  PacketCount,
  QueueOptions,
  QueueStats,
  RequeuedPackets,
  RequeueOptions,
} from "./src/queue/options.ts";
export type { Condition } from "./src/sender/condition.ts";
export type { Outage, ToldStatus } from "./src/sender/outage.ts";
export type { Rates } from "./src/sender/rate_meter.ts";
export { QueueInspector } from "./src/queue/inspect/inspector.ts";
export type {
  InspectedDeadLetter,
  InspectedPacket,
  InspectOptions,
  InspectQuery,
  InspectRange,
  QueueCounts,
} from "./src/queue/inspect/inspection.ts";
export type { QueueProblem } from "./src/queue/inspect/integrity.ts";
export { formatRemote, parseRemote, type Remote } from "./src/base/remote.ts";
export type { KeepAliveOptions, SocketOptions } from "./src/kernel/socket_options.ts";
export {
  dbSqlite,
  type DbSqliteConstructor,
  type DbSqliteDatabase,
  type DbSqliteStatement,
} from "./src/queue/sqlite/db_sqlite.ts";
export { nodeSqlite } from "./src/queue/sqlite/node_sqlite.ts";
export type {
  DeadLetter,
  DeathReason,
  DroppedPackets,
  Durability,
  Overflow,
} from "./src/queue/store/types.ts";
export type { SenderLock } from "./src/queue/sender_lock.ts";
export type { Doorbell } from "./src/queue/doorbell.ts";
export type {
  SqliteDatabase,
  SqliteDriver,
  SqliteOpenOptions,
  SqliteStatement,
  SqliteValue,
} from "./src/queue/sqlite/driver.ts";
export type {
  Clock,
  DeliveryQueue as DeliveryQueue,
  Dialer,
  LocalFault,
  Logger,
  PacketBatch as PacketBatch,
  Random,
  SocketSample,
  StoredPacket,
  Wire,
} from "./src/base/ports.ts";
export * from "./src/base/errors.ts";
