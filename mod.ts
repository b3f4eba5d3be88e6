/**
 * Gets bytes safely to a TCP server that cannot acknowledge.
 *
 * ```ts ignore as-typed
 * import { Sender } from "@sendq/sendq";
 *
 * await using sender = await Sender.open("outbox.db", "tcp://legacy:4000");
 * await sender.enqueue("temperature 21.5\n"); // on disk from here on
 * ```
 *
 * Once {@linkcode Sender.enqueue} resolves, the packet is on disk, and it stays there until the
 * peer's kernel has acknowledged every byte of it, through lost paths, server restarts, crashes
 * and power cuts of the sender. In order, at least once.
 *
 * Runs on Linux, x86_64 and aarch64. Needs `--allow-net` for the server, `--allow-read` and
 * `--allow-write` for the queue's file and its `.lock` file, and `--allow-ffi` for the C library;
 * where one is missing, `open` says all of them.
 *
 * Beside it: `@sendq/sendq/relay` takes packets from programs that cannot be changed,
 * `@sendq/sendq/inspect` looks into a queue, and with `@sendq/sendq/advanced` one writes drivers,
 * dialers and tools of one's own.
 *
 * @example Wait until a packet has arrived
 * ```ts
 * import { Sender } from "@sendq/sendq";
 * import assert from "node:assert/strict";
 *
 * // A server, for this example.
 * const server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const served = server.accept().then((connection) => new Response(connection.readable).text());
 *
 * const queue = `${await Deno.makeTempDir()}/outbox.db`;
 * const sender = await Sender.open(queue, `tcp://127.0.0.1:${server.addr.port}`);
 * await sender.enqueue("temperature 21.5\n");
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
 * await queue.enqueue("pressure 1013\n");
 * ```
 *
 * @module
 */

export { type CloseOptions, Sender } from "./src/sender/sender.ts";
export type { RemoteOption, SenderOptions } from "./src/sender/options.ts";
export type { ViaOptions } from "./src/base/via.ts";
export type { TlsOptions, TlsSource } from "./src/tls/options.ts";
export { readRunningSender, type SenderReport } from "./src/sender/report.ts";
export {
  type BytesOrHex,
  type DelimiterFraming,
  type FixedFraming,
  type FrameFraming,
  type Framing,
  type FramingDescription,
  type FramingName,
  type LengthFraming,
} from "./src/framing/framing.ts";
export { framePacket } from "./src/framing/frame_packet.ts";
export { FramingError, type FramingFault } from "./src/framing/errors.ts";
export type { Oversize } from "./src/framing/splitter.ts";
export type {
  ClusterStats,
  LeaseStats,
  ReplicationStats,
  StandbyStats,
} from "./src/base/cluster_stats.ts";
export type { Outage, SenderState, SenderStats, SenderStatus } from "./src/delivery/status.ts";
export type { Bytes, Pattern } from "./src/session/pattern.ts";
export type {
  AnswerConfirmation,
  AnswerContext,
  AnswerKey,
  AnswerVerdict,
  JudgeAnswer,
} from "./src/session/answers.ts";
export type { Heartbeat, Session, SessionFunction, SessionStep } from "./src/session/session.ts";
export type { ExpectOptions, ReadOptions, SessionStream } from "./src/session/stream.ts";
export type { Transform, TransformConnection } from "./src/session/transform.ts";
export { describeVerdict, type Verdict, type VerdictKind } from "./src/delivery/liveness.ts";
export { OutboundQueue } from "./src/queue/queue.ts";
export type {
  DeadPackets,
  EnqueueOptions,
  IdRange,
  KeptCounts,
  PacketCount,
  QueueOptions,
  QueueStats,
  RequeuedPackets,
  RequeueOptions,
  StoreFailure,
  SyncIn,
} from "./src/queue/options.ts";
export type { Condition } from "./src/sender/condition.ts";
export type { HostRemote, Remote, UnixRemote } from "./src/base/remote.ts";
export type { KeepAliveOptions, SocketOptions } from "./src/kernel/socket_options.ts";
export type {
  DeadLetter,
  DeathReason,
  DroppedPackets,
  Durability,
  Overflow,
} from "./src/queue/store/types.ts";
export type { LocalFault, Logger, StoredPacket, TlsSession } from "./src/base/ports.ts";
export {
  ClosedError,
  type CommitOutcome,
  FencedError,
  KernelCallError,
  ListenError,
  OptionError,
  OutcomeUnknownError,
  PacketRefusedError,
  PacketSizeError,
  QueueFileError,
  type QueueFileReason,
  QueueFullError,
  QueueLockedError,
  SessionRefusedError,
  SocketOptionError,
  UnsupportedPlatformError,
  WireError,
} from "./src/base/errors.ts";
